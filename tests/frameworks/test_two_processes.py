"""Data-parallel torch without Ray: two processes, each with half of the batch, take the step of one
with all of it."""

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from frameworks.shared import compute_losses, make_modules, transitions
from torch import distributed, nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.nn.parallel import DistributedDataParallel

from self_supervised_loss import Learner

BATCH_SIZE, NUM_PROCESSES = 32, 2

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


def run_process(wrapper: str, rank: int, folder: Path) -> None:
    """Saves what this process computes on its part of the batch."""
    distributed.init_process_group(
        "gloo", f"file://{folder}/rendezvous", rank=rank, world_size=NUM_PROCESSES
    )
    batch = {column: rows.chunk(NUM_PROCESSES)[rank] for column, rows in make_batch().items()}
    torch.save(loss_and_gradients(WRAPPERS[wrapper](make_icm()), batch), folder / f"{rank}.pt")
    # A DDP module that outlives its process group may wait forever for the threads of the group.
    gc.collect()
    distributed.destroy_process_group()


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_two_processes_average_to_the_gradients_of_one_on_the_whole_batch(
    wrapper: str, tmp_path: Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    # Accelerate reads what a launcher such as torchrun sets.
    environment |= {"WORLD_SIZE": str(NUM_PROCESSES), "LOCAL_WORLD_SIZE": str(NUM_PROCESSES)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", __file__, wrapper, str(rank), str(tmp_path)],
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(NUM_PROCESSES)
    ]
    try:
        assert [process.wait() for process in processes] == [0] * NUM_PROCESSES
    finally:
        for process in processes:
            process.kill()
            process.wait()

    (first_loss, first_gradients), (second_loss, second_gradients) = (
        torch.load(tmp_path / f"{rank}.pt") for rank in range(NUM_PROCESSES)
    )
    loss, gradients = loss_and_gradients(make_icm(), make_batch())
    torch.testing.assert_close(first_gradients, second_gradients, rtol=0, atol=0)
    torch.testing.assert_close(first_gradients, gradients)
    torch.testing.assert_close((first_loss + second_loss) / 2, loss)
    assert not torch.equal(first_loss, second_loss)


if __name__ == "__main__":
    run_process(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
