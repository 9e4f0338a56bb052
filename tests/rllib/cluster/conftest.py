import pytest

from rllib.cluster.training import ray_cluster


@pytest.fixture(scope="package")
def cluster():
    with ray_cluster():
        yield
