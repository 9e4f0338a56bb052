"""Data-parallel torch without Ray: two processes, each with half of the batch, take the step of one
with all of it."""

import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from frameworks.shared import compute_losses, make_modules, transitions
from processes import process_group, run_in_two_processes
from torch import distributed
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.nn.parallel import DistributedDataParallel

from self_supervised_loss import Learner

BATCH_SIZE = 32

WRAPPERS = {
    "DistributedDataParallel": DistributedDataParallel,
    "FullyShardedDataParallel": lambda module: FullyShardedDataParallel(
        module, device_id=torch.device("cpu"), use_orig_params=True
    ),
    "Accelerate": lambda module: Accelerator(cpu=True).prepare(module),
}


def make_icm():
    return make_modules()["icm"].double()


def make_batch():
    torch.manual_seed(1)
    batch = transitions(BATCH_SIZE)
    return batch | {name: batch[name].double() for name in ("obs", "new_obs")}


def loss_and_gradients(icm, batch):
    learner = Learner(module={"icm": icm})
    loss = compute_losses(learner, batch)["icm"]
    loss.backward()  # here a wrapper averages over the processes
    # This puts shards together, if there are any.
    with FullyShardedDataParallel.summon_full_params(icm, with_grads=True):
        return loss.detach(), [parameter.grad.clone() for parameter in icm.parameters()]


def save_loss_and_gradients(wrapper, folder):
    """Saves the loss and the gradients on this process's half of the batch."""
    rank = distributed.get_rank()
    batch = {column: rows.chunk(2)[rank] for column, rows in make_batch().items()}
    torch.save(loss_and_gradients(WRAPPERS[wrapper](make_icm()), batch), folder / f"{rank}.pt")


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_two_processes_average_to_the_gradients_of_one(wrapper, tmp_path):
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
    with process_group():
        save_loss_and_gradients(wrapper=sys.argv[2], folder=Path(sys.argv[1]))
