"""Data-parallel torch without Ray: two processes, each with half of the batch, take the step of one
with all of it."""

import gc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from frameworks.shared import compute_losses, make_modules, transitions
from processes import join_process_group, run_in_two_processes
from torch import distributed, nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.nn.parallel import DistributedDataParallel

from self_supervised_loss import Learner

BATCH_SIZE = 32

WRAPPERS: dict[str, Callable[[nn.Module], Any]] = {
    "DistributedDataParallel": DistributedDataParallel,
    "FullyShardedDataParallel": lambda module: FullyShardedDataParallel(
        module, device_id=torch.device("cpu"), use_orig_params=True
    ),
    "Accelerate": lambda module: Accelerator(cpu=True).prepare(module),
}


def make_icm() -> nn.Module:
    return make_modules()["icm"].double()


def make_batch() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    batch = transitions(BATCH_SIZE)
    return batch | {name: batch[name].double() for name in ("obs", "new_obs")}


def loss_and_gradients(
    icm: nn.Module, batch: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    learner = Learner[torch.Tensor](module={"icm": icm})
    loss = compute_losses(learner, batch)["icm"]
    loss.backward()  # here a wrapper averages over the processes
    # This puts shards together, if there are any.
    with FullyShardedDataParallel.summon_full_params(icm, with_grads=True):
        return loss.detach(), [parameter.grad.clone() for parameter in icm.parameters()]


def save_loss_and_gradients(wrapper: str, folder: Path) -> None:
    """Saves the loss and the gradients on this process's half of the batch."""
    join_process_group()
    rank = distributed.get_rank()
    batch = {column: rows.chunk(2)[rank] for column, rows in make_batch().items()}
    torch.save(loss_and_gradients(WRAPPERS[wrapper](make_icm()), batch), folder / f"{rank}.pt")
    # A DDP module that outlives its process group may wait forever for the threads of the group.
    gc.collect()
    distributed.destroy_process_group()


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_two_processes_average_to_the_gradients_of_one_on_the_whole_batch(
    wrapper: str, tmp_path: Path
) -> None:
    run_in_two_processes(__file__, tmp_path, wrapper)

    (first_loss, first_gradients), (second_loss, second_gradients) = (
        torch.load(tmp_path / f"{rank}.pt") for rank in range(2)
    )
    loss, gradients = loss_and_gradients(make_icm(), make_batch())
    torch.testing.assert_close(first_gradients, second_gradients, rtol=0, atol=0)
    torch.testing.assert_close(first_gradients, gradients)
    torch.testing.assert_close((first_loss + second_loss) / 2, loss)
    assert not torch.equal(first_loss, second_loss)


if __name__ == "__main__":
    save_loss_and_gradients(wrapper=sys.argv[2], folder=Path(sys.argv[1]))
