"""A test file that runs itself in two processes."""

import gc
import os
import subprocess
import sys
from contextlib import contextmanager

from torch import distributed

# Accelerate reads the variables that a launcher such as torchrun sets.
ENVIRONMENT = os.environ | {
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join(sys.path),
    "WORLD_SIZE": "2",
    "LOCAL_WORLD_SIZE": "2",
}


def run_in_two_processes(file, folder):
    """Runs a file, which must use `process_group`, twice. Both processes must succeed.

    Sets of strings have another order in each process.
    """
    processes = [
        subprocess.Popen(
            [sys.executable, file, folder],
            env=ENVIRONMENT | dict.fromkeys(("RANK", "LOCAL_RANK", "PYTHONHASHSEED"), str(rank)),
        )
        for rank in range(2)
    ]
    try:
        assert [process.wait() for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextmanager
def process_group():
    """Connects a process that `run_in_two_processes` started to the other one."""
    rendezvous = f"file://{sys.argv[1]}/rendezvous"
    distributed.init_process_group("gloo", rendezvous, rank=int(os.environ["RANK"]), world_size=2)
    yield
    # A DDP module that outlives its process group may wait forever for the threads of the group.
    gc.collect()
    distributed.destroy_process_group()
