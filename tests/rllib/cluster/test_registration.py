"""A registration holds in one process. A subclass, or a registration in the file of the class,
holds in all."""

import pytest
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner

from rllib.cluster.foreign_modules import Autoencoder, RegisteredHere
from rllib.cluster.training import WARNINGS_OF_RAY, running, tiny_config, weights_on_learners
from self_supervised_loss import SelfSupervisedLossAPI
from self_supervised_loss.rllib import AuxiliaryModules

pytestmark = [*WARNINGS_OF_RAY, pytest.mark.usefixtures("cluster")]


class PPOLearner(AuxiliaryModules, PPOTorchLearner): ...


def ppo_config(modules):
    config = tiny_config(PPOConfig, modules).environment("CartPole-v1")
    return config.learners(learner_class=PPOLearner)


def test_a_subclass_and_a_registration_in_the_file_of_the_class_reach_both_learners():
    class Derived(Autoencoder, SelfSupervisedLossAPI):
        """Sent to the learners by value, as a class of the main program is."""

    config = ppo_config({"derived": Derived, "registered": RegisteredHere})
    with running(config.learners(num_learners=2).build_algo()) as algorithm:
        before, _ = weights_on_learners(algorithm, "derived", "registered")
        algorithm.train()
        weights, other_weights = weights_on_learners(algorithm, "derived", "registered")
    torch.testing.assert_close(other_weights, weights, rtol=0, atol=0)
    assert not any(torch.equal(weights[name], before[name]) for name in weights)


def test_a_registration_in_the_main_program_alone_reaches_no_learner_and_is_refused():
    @SelfSupervisedLossAPI.register
    class RegisteredInMain(Autoencoder): ...

    config = ppo_config({"in_main": RegisteredInMain}).learners(num_learners=1)
    with pytest.raises(
        TypeError, match=r"'in_main' \(RegisteredInMain\) does not implement the API"
    ):
        config.build_algo()
