"""A registration holds in one process. A subclass, or a registration in the file of the class,
holds in all."""

import pytest
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module import MultiRLModuleSpec, RLModuleSpec
from ray.rllib.core.rl_module.apis import SelfSupervisedLossAPI as RLlibAPI

from rllib.cluster.foreign_modules import Autoencoder, RegisteredHere
from rllib.cluster.training import WARNINGS_OF_RAY, all_learners, running
from self_supervised_loss import SelfSupervisedLossAPI
from self_supervised_loss.rllib import AuxiliaryModules

pytestmark = [*WARNINGS_OF_RAY, pytest.mark.usefixtures("cluster")]


class PPOLearner(AuxiliaryModules, PPOTorchLearner):
    pass


def algorithm_with(modules, num_learners):
    specs = {
        name: RLModuleSpec(module_class=module, learner_only=True)
        for name, module in modules.items()
    }
    return (
        PPOConfig()
        .environment("CartPole-v1")
        .env_runners(num_env_runners=0)
        .learners(num_learners=num_learners, learner_class=PPOLearner)
        .training(train_batch_size_per_learner=64, minibatch_size=32, num_epochs=4, lr=1e-2)
        .rl_module(
            rl_module_spec=MultiRLModuleSpec(
                rl_module_specs={DEFAULT_MODULE_ID: RLModuleSpec(), **specs}
            )
        )
        .debugging(seed=0)
        .build_algo()
    )


def implementing(learner):
    return {
        name for name, module in learner.module.items() if isinstance(module.unwrapped(), RLlibAPI)
    }


def weights(learner):
    return [
        param.detach()
        for name in ("derived", "registered")
        for param in learner.module[name].parameters()
    ]


def test_a_subclass_and_a_registration_in_the_file_of_the_class_reach_both_learners():
    class Derived(Autoencoder, SelfSupervisedLossAPI):
        """Not to be imported by the learners, as a class of the main program is not: it is sent to
        them by value."""

    with running(
        algorithm_with({"derived": Derived, "registered": RegisteredHere}, num_learners=2)
    ) as algorithm:
        assert all_learners(algorithm, implementing) == [{"derived", "registered"}] * 2

        first, *_, last = [algorithm.train()["learners"] for _ in range(8)]

        for name in ("derived", "registered"):
            assert last[name]["total_loss"] < 0.7 * first[name]["total_loss"]
        assert all(map(torch.equal, *all_learners(algorithm, weights)))


def test_a_registration_in_the_main_program_alone_reaches_no_learner_and_is_refused():
    @SelfSupervisedLossAPI.register
    class RegisteredInMain(Autoencoder):
        pass

    with pytest.raises(
        TypeError, match=r"'in_main' \(RegisteredInMain\) does not implement the API"
    ):
        algorithm_with({"in_main": RegisteredInMain}, num_learners=1)
