"""In each of RLlib's algorithms, a module beside the policy gets data and learns, as it would with
our `Learner`."""

import math

import pytest
import torch

from rllib.algorithms import (
    OFFLINE,
    ONLINE,
    algorithm_config,
    equal_weights,
    time_limit,
    train_until_compared,
)
from rllib.training import WARNINGS_OF_RAY, running

pytestmark = [
    *WARNINGS_OF_RAY,
    pytest.mark.usefixtures("cluster"),
    pytest.mark.filterwarnings(
        "ignore:Using a target size:UserWarning"
    ),  # in the loss of RLlib's TQC
]


@pytest.mark.parametrize(
    ("name", "num_learners"),
    [*((name, 0) for name in (*ONLINE, *OFFLINE)), ("PPO", 2), ("IMPALA", 2)],
)
def test_the_module_beside_the_policy_learns(name, num_learners, recorded):
    config = algorithm_config(name, num_learners=num_learners, recorded=recorded)
    with running(config.build_algo()) as algorithm, time_limit(seconds=90):
        before = equal_weights(algorithm)
        of_module = train_until_compared(algorithm)
        after = equal_weights(algorithm)

    assert of_module["num_compared"] > of_module["num_different"] == 0
    assert math.isfinite(of_module["total_loss"])
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if name.startswith("predictor_net")}
    assert (
        before.keys() - changed
        == {name for name in before if name.startswith("target_net")}
        > set()
    )
