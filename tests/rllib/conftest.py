import pytest
from rllib.training import ray_cluster


@pytest.fixture
def cluster():
    with ray_cluster():
        yield
