"""A module that derives from our API trains to the same bits as one that derives from RLlib's."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.algorithms.algorithm_config import DifferentiableAlgorithmConfig
from ray.rllib.algorithms.dqn import DQNConfig
from ray.rllib.algorithms.dqn.torch.dqn_torch_learner import DQNTorchLearner
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.core.rl_module import MultiRLModuleSpec, RLModuleSpec
from ray.rllib.core.rl_module.apis import SelfSupervisedLossAPI as RLlibAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from ray.rllib.examples.algorithms.classes.maml_lr_meta_learner import MAMLTorchMetaLearner
from ray.rllib.examples.algorithms.classes.vpg import VPGConfig
from ray.rllib.examples.learners.classes.vpg_torch_learner import VPGTorchLearner
from torch import nn

from self_supervised_loss import SelfSupervisedLossAPI

PPO, DQN, VPG = PPOConfig(), DQNConfig(), VPGConfig()


class Linear:
    """Predicts the next observation from the present one."""

    shape = (4,)  # of an observation

    def setup(self):
        self.net = nn.Linear(4, 4)

    def _forward_train(self, batch, **kwargs):
        return {"prediction": self.net(batch["obs"])}

    def compute_self_supervised_loss(self, *, learner, module_id, config, batch, fwd_out, **kwargs):
        loss = (fwd_out["prediction"] - batch["new_obs"]).square().mean()
        learner.metrics.log_value((module_id, "loss"), loss, reduce="mean")
        return loss


class LSTM(Linear):
    shape = (5, 4)  # of time and of an observation

    def setup(self):
        self.net = nn.LSTM(4, 4, batch_first=True)

    def _forward_train(self, batch, **kwargs):
        return {"prediction": self.net(batch["obs"])[0]}


class CNN(Linear):
    shape = (3, 8, 8)

    def setup(self):
        self.net = nn.Conv2d(3, 3, kernel_size=3, padding=1)


class WithSharedCritic(PPOTorchLearner):
    """As in MAPPO: asks the critic first, and gives its output to the loss of the policies."""

    def compute_losses(self, *, fwd_out, batch):
        losses = super().compute_losses(fwd_out={"m": fwd_out["m"]}, batch=batch)
        policy = {**fwd_out["policy"], "values": fwd_out["m"]["prediction"].detach()}
        return losses | super().compute_losses(fwd_out={"policy": policy}, batch=batch)

    def compute_loss_for_module(self, *, module_id, config, batch, fwd_out):
        return (fwd_out["prediction"] - fwd_out["values"]).square().mean()


class Policy(Linear, TorchRLModule):
    """Has no loss of its own, since it does not derive from the API."""


@pytest.mark.parametrize(
    ("learner_class", "config", "body", "others", "kwargs"),
    [
        (PPOTorchLearner, PPO, Linear, {}, {}),
        (PPOTorchLearner, PPO, LSTM, {}, {}),
        (PPOTorchLearner, PPO, CNN, {}, {}),
        (DQNTorchLearner, DQN, Linear, {}, {}),
        (VPGTorchLearner, VPG, Linear, {}, {}),
        (WithSharedCritic, PPO, Linear, {"policy": Policy}, {}),
        (
            MAMLTorchMetaLearner,
            DifferentiableAlgorithmConfig(),
            Linear,
            {},
            {"others_loss_per_module": [{"m": torch.tensor(1.0)}]},
        ),
    ],
    ids=["PPO", "LSTM", "CNN", "DQN", "VPG", "MAPPO", "meta learner"],
)
def test_twins_train_to_the_same_bits(learner_class, config, body, others, kwargs):
    ours, rllibs = (
        trained(learner_class, config, {"m": twin(body, api), **others}, **kwargs)
        for api in (SelfSupervisedLossAPI, RLlibAPI)
    )
    assert all(map(torch.equal, ours, rllibs))


def twin(body, api):
    return type(TorchRLModule)("Twin", (body, TorchRLModule, api), {})


def trained(learner_class, config, classes, **kwargs):
    """Trains for a few steps, and returns the weights, once it has seen that they changed."""
    torch.manual_seed(0)
    shape = classes["m"].shape
    spaces = {
        "observation_space": gym.spaces.Box(-1, 1, shape, np.float32),
        "action_space": gym.spaces.Discrete(2),
    }
    specs = {name: RLModuleSpec(module_class=each, **spaces) for name, each in classes.items()}
    learner = learner_class(config=config, module_spec=MultiRLModuleSpec(rl_module_specs=specs))
    learner.build()
    params = [param for name in classes for param in learner.module[name].parameters()]
    before = [param.detach().clone() for param in params]
    for _ in range(3):
        columns = {"obs": torch.rand(8, *shape), "new_obs": torch.rand(8, *shape)}
        batch = dict.fromkeys(classes, columns)
        fwd_out = learner.module.forward_train(batch)
        losses = learner.compute_losses(fwd_out=fwd_out, batch=batch, **kwargs)
        gradients = learner.compute_gradients(losses)
        learner.apply_gradients(learner.postprocess_gradients(gradients))
    assert not any(map(torch.equal, before, params))
    return params
