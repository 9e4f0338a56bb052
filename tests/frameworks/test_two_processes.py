"""Data-parallel torch without Ray: two processes, each with half of the batch, take the step of one with all of it."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from modules.icm import ICM
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from self_supervised_loss import Learner

OBS_SIZE, NUM_ACTIONS, BATCH_SIZE, NUM_PROCESSES = 4, 3, 32, 2


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


def gradients(icm: ICM) -> list[torch.Tensor]:
    return [parameter.grad.clone() for parameter in icm.parameters()]  # fails where there is none


def run_process(rank: int, folder: Path) -> None:
    """Computes the gradients of this process on its part of the batch, and saves them."""
    distributed.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=NUM_PROCESSES)
    icm = make_icm()
    learner = Learner[torch.Tensor](module={"icm": DistributedDataParallel(icm)})
    loss = compute_loss(learner, {column: rows.chunk(NUM_PROCESSES)[rank] for column, rows in make_batch().items()})
    loss.backward()  # here DDP averages over the processes
    torch.save({"loss": loss.detach(), "gradients": gradients(icm)}, folder / f"{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_average_to_the_gradients_of_one_on_the_whole_batch(tmp_path: Path) -> None:
    icm = make_icm()
    loss = compute_loss(Learner(module={"icm": icm}), make_batch())
    loss.backward()

    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen([sys.executable, "-W", "error", __file__, str(rank), str(tmp_path)], env=environment)
        for rank in range(NUM_PROCESSES)
    ]
    try:
        assert [process.wait(timeout=120) for process in processes] == [0] * NUM_PROCESSES
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
    run_process(int(sys.argv[1]), Path(sys.argv[2]))
