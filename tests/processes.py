"""A test file that runs itself in two processes."""

import os
import subprocess
import sys

from torch import distributed

# Accelerate reads the variables that a launcher such as torchrun sets.
ENVIRONMENT = os.environ | {
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join(sys.path),
    "WORLD_SIZE": "2",
    "LOCAL_WORLD_SIZE": "2",
}


def run_in_two_processes(file, folder, *arguments):
    """Runs a file twice and requires that both processes succeed.

    Each must call `join_process_group` first.
    """
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", file, str(folder), *arguments],
            env=ENVIRONMENT | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    try:
        assert [process.wait() for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def join_process_group():
    """Connects a process that `run_in_two_processes` started to the other one."""
    distributed.init_process_group(
        "gloo",
        f"file://{sys.argv[1]}/rendezvous",
        rank=int(os.environ["RANK"]),
        world_size=2,
    )
