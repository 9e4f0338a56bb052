"""Settings of the process that runs the tests, and of the processes that it starts."""

import os

import pytest
from hypothesis import HealthCheck, settings

# With more threads, the processes of Ray would only wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"

# No test fails because the machine is slow.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(scope="module")
def process_group():
    """Makes this process a process group of torch, which wrappers such as DDP require."""
    from torch import distributed  # the unit tests run without torch

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()
