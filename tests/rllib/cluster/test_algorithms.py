"""In each of RLlib's algorithms, an auxiliary module learns as it would with our `Learner`."""

import math

import pytest
import torch
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.core import DEFAULT_MODULE_ID

from rllib.cluster.algorithms import (
    OFFLINE,
    ONLINE,
    algorithm_config,
    equal_weights,
    train_until_compared,
)
from rllib.cluster.training import WARNINGS_OF_RAY, running

pytestmark = [
    *WARNINGS_OF_RAY,
    pytest.mark.usefixtures("cluster"),
    pytest.mark.filterwarnings(
        "ignore:Using a target size:UserWarning"
    ),  # in the loss of RLlib's TQC
]


@pytest.mark.parametrize(
    ("name", "num_learners"),
    [
        *((name, 2) for name in (*ONLINE, *OFFLINE)),
        ("PPO", 0),
        ("IMPALA", 0),
        ("SAC", 0),
        ("BC", 0),
    ],
)
def test_auxiliary_modules_learn_and_learners_stay_equal(name, num_learners, recorded):
    config = algorithm_config(name, num_learners=num_learners, recorded=recorded)
    with running(config.build_algo()) as algorithm:
        before = equal_weights(algorithm)
        of_module = train_until_compared(algorithm)
        after = equal_weights(algorithm)

    assert of_module["num_compared"] > of_module["num_different"] == 0
    assert math.isfinite(of_module["total_loss"])
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if ".predictor_net." in name}
    assert before.keys() - changed == {name for name in before if ".target_net." in name} > set()


def test_without_the_mix_in_ppo_trains_no_auxiliary_module_and_says_nothing():
    config = algorithm_config("PPO").learners(learner_class=PPOTorchLearner)
    with running(config.build_algo()) as algorithm:
        before = equal_weights(algorithm)
        learnt = algorithm.train()["learners"]
        after = equal_weights(algorithm)

    assert all(torch.equal(before[name], after[name]) for name in before)
    assert "total_loss" in learnt[DEFAULT_MODULE_ID]
    assert "total_loss" not in learnt["rnd"]
