import pytest

from rllib.cluster.algorithms import record
from rllib.cluster.training import ray_cluster


@pytest.fixture(scope="package")
def cluster():
    with ray_cluster():
        yield


@pytest.fixture(scope="package")
def recorded(cluster, tmp_path_factory):
    """Episodes of CartPole-v1 and Pendulum-v1, recorded by RLlib."""
    directory = tmp_path_factory.mktemp("recorded")
    for env in ("CartPole-v1", "Pendulum-v1"):
        record(env, directory / env)
    return directory
