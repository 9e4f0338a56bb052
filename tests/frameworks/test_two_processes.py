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
from modules.icm import ICM
from torch import distributed, nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.nn.parallel import DistributedDataParallel

from self_supervised_loss import Learner

OBS_SIZE, NUM_ACTIONS, BATCH_SIZE, NUM_PROCESSES = 4, 3, 32, 2

WRAPPERS: dict[str, Callable[[nn.Module], Any]] = {
    "DistributedDataParallel": DistributedDataParallel,
    "FullyShardedDataParallel": lambda module: FullyShardedDataParallel(
        module, device_id=torch.device("cpu"), use_orig_params=True
    ),
    "Accelerate": lambda module: Accelerator(cpu=True).prepare(module),
}


def make_icm() -> ICM:
    torch.manual_seed(0)
    return ICM(OBS_SIZE, NUM_ACTIONS).double()


def make_batch() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {
        "obs": torch.randn(BATCH_SIZE, OBS_SIZE).double(),
        "new_obs": torch.randn(BATCH_SIZE, OBS_SIZE).double(),
        "actions": torch.randint(NUM_ACTIONS, (BATCH_SIZE,)),
    }


def compute_loss(learner: Learner[torch.Tensor], batch: dict[str, torch.Tensor]) -> torch.Tensor:
    fwd_out = {"icm": learner.module["icm"](batch)}
    return learner.compute_losses(fwd_out=fwd_out, batch={"icm": batch})["icm"]


def gradients(module: nn.Module) -> list[torch.Tensor]:
    # This puts shards together, if there are any.
    with FullyShardedDataParallel.summon_full_params(module, with_grads=True):
        return [parameter.grad.clone() for parameter in module.parameters()]


def run_process(wrapper: str, rank: int, folder: Path) -> None:
    """Saves what this process computes on its part of the batch."""
    distributed.init_process_group(
        "gloo", f"file://{folder}/rendezvous", rank=rank, world_size=NUM_PROCESSES
    )
    batch = {column: rows.chunk(NUM_PROCESSES)[rank] for column, rows in make_batch().items()}
    torch.save(loss_and_gradients(wrapper, batch), folder / f"{rank}.pt")
    # A DDP module that outlives its process group may wait forever for the threads of the group.
    gc.collect()
    distributed.destroy_process_group()


def loss_and_gradients(wrapper: str, batch: dict[str, torch.Tensor]) -> dict[str, Any]:
    icm = WRAPPERS[wrapper](make_icm())
    loss = compute_loss(Learner(module={"icm": icm}), batch)
    loss.backward()  # here the wrapper averages over the processes
    return {"loss": loss.detach(), "gradients": gradients(icm)}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_two_processes_average_to_the_gradients_of_one_on_the_whole_batch(
    wrapper: str, tmp_path: Path
) -> None:
    icm = make_icm()
    loss = compute_loss(Learner(module={"icm": icm}), make_batch())
    loss.backward()

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

    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(NUM_PROCESSES))
    torch.testing.assert_close(first["gradients"], second["gradients"], rtol=0, atol=0)
    torch.testing.assert_close(first["gradients"], gradients(icm))
    torch.testing.assert_close((first["loss"] + second["loss"]) / 2, loss.detach())
    assert not torch.equal(first["loss"], second["loss"])


if __name__ == "__main__":
    run_process(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
