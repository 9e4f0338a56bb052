"""A policy that asks its learner for a loss and adds to it: RLlib's PPO trains on the sum, and its
SAC does not."""

import pytest
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.ppo.torch.default_ppo_torch_rl_module import DefaultPPOTorchRLModule
from ray.rllib.algorithms.sac import SACConfig
from ray.rllib.algorithms.sac.torch.default_sac_torch_rl_module import DefaultSACTorchRLModule
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module import RLModuleSpec
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

from rllib.cluster.training import WARNINGS_OF_RAY, running
from self_supervised_loss import SelfSupervisedLossAPI

pytestmark = [*WARNINGS_OF_RAY, pytest.mark.usefixtures("cluster")]

PPO = PPOConfig().training(train_batch_size_per_learner=64, minibatch_size=32, num_epochs=2)
SAC = SACConfig().training(
    train_batch_size_per_learner=32, num_steps_sampled_before_learning_starts=32
)


class Regularized(SelfSupervisedLossAPI[torch.Tensor]):
    num_computed = num_differentiated = 0  # of the regularizer

    def compute_self_supervised_loss(self, *, learner, batch, fwd_out, **kwargs):
        loss = learner.compute_loss_for_module(batch=batch, fwd_out=fwd_out, **kwargs)
        regularizer = torch.stack(
            [parameter.square().sum() for parameter in self.parameters()]
        ).sum()
        regularizer.register_hook(self.count_gradient)
        self.num_computed += 1
        return loss + 0.01 * regularizer

    def count_gradient(self, gradient):
        self.num_differentiated += 1


class RegularizedPPO(Regularized, DefaultPPOTorchRLModule): ...


class RegularizedSAC(Regularized, DefaultSACTorchRLModule): ...


@pytest.mark.parametrize(
    ("config", "module_class"), [(PPO, RegularizedPPO), (SAC, RegularizedSAC)], ids=["PPO", "SAC"]
)
def test_ppo_trains_on_what_a_policy_adds_to_its_loss_and_sac_does_not(config, module_class):
    spec = RLModuleSpec(
        module_class=module_class, model_config=DefaultModelConfig(fcnet_hiddens=[16])
    )
    config = (
        config.copy(copy_frozen=False).environment("CartPole-v1").env_runners(num_env_runners=0)
    )
    with running(
        config.rl_module(rl_module_spec=spec).reporting(min_time_s_per_iteration=0).build_algo()
    ) as algorithm:
        for _ in range(2):
            algorithm.train()
        [result] = algorithm.learner_group.foreach_learner(
            lambda learner: learner.module[DEFAULT_MODULE_ID]
        )
        module = result.get()

    assert module.num_computed > 0
    assert module.num_differentiated == (
        module.num_computed if config.algo_class.__name__ == "PPO" else 0
    )
