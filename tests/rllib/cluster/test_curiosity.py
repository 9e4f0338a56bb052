"""In an environment without rewards, a policy sees those of its curiosity module."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from modules.rnd_rl_module import RNDRLModule
from ray.rllib.algorithms.appo.torch.appo_torch_learner import APPOTorchLearner
from ray.rllib.algorithms.impala.torch.impala_torch_learner import IMPALATorchLearner
from ray.rllib.algorithms.sac.torch.sac_torch_learner import SACTorchLearner
from ray.rllib.algorithms.tqc.torch.tqc_torch_learner import TQCTorchLearner
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module import MultiRLModuleSpec, RLModuleSpec
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.examples.learners.classes.intrinsic_curiosity_learners import (
    ICM_MODULE_ID,
    DQNTorchLearnerWithCuriosity,
    PPOTorchLearnerWithCuriosity,
    add_intrinsic_curiosity_connectors,
)
from ray.rllib.examples.rl_modules.classes.intrinsic_curiosity_model_rlm import (
    IntrinsicCuriosityModel,
)

from rllib.cluster.algorithms import ONLINE
from rllib.cluster.training import WARNINGS_OF_RAY, all_learners, running
from self_supervised_loss.rllib import AuxiliaryModules

pytestmark = [
    *WARNINGS_OF_RAY,
    pytest.mark.usefixtures("cluster"),
    pytest.mark.filterwarnings("ignore:Using a target size:UserWarning"),  # RLlib's TQC
]

COEFFICIENT = 10.0


class WithCuriosity(AuxiliaryModules):
    def build(self):
        super().build()
        add_intrinsic_curiosity_connectors(self)


class SeesRewards:
    """Compares the rewards of the policy with those that its curiosity module gives."""

    def compute_losses(self, *, fwd_out, batch):
        data = batch[DEFAULT_MODULE_ID]
        with torch.no_grad():
            outputs = self.module[ICM_MODULE_ID].unwrapped().forward_train(data)
        rewards = data["rewards"]
        counts = data.get("loss_mask", torch.ones_like(rewards)).bool()
        errors = (rewards - COEFFICIENT * outputs["intrinsic_rewards"])[counts].abs()
        means = {"reward": rewards[counts].mean(), "error": errors.mean()}
        self.metrics.log_dict(means, key=ICM_MODULE_ID, window=1)
        return super().compute_losses(fwd_out=fwd_out, batch=batch)


class NoRewards(gym.Env):
    observation_space, action_space = gym.spaces.Box(-1, 1, (3,)), gym.spaces.Box(-1, 1, (1,))

    def __init__(self, config):
        self.time = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self.observation(), {}

    def step(self, action):
        self.time += 1
        return self.observation(), 0.0, self.time == 20, False, {}

    def observation(self):
        return self.np_random.uniform(-1, 1, 3).astype(np.float32)


class NoRewardsDiscrete(NoRewards):
    action_space = gym.spaces.Discrete(2)


LEARNERS = {
    "PPO": PPOTorchLearnerWithCuriosity,
    "DQN": DQNTorchLearnerWithCuriosity,
    "SAC": type("SACLearner", (WithCuriosity, SACTorchLearner), {}),
    "TQC": type("TQCLearner", (WithCuriosity, TQCTorchLearner), {}),
    "IMPALA": type("IMPALALearner", (WithCuriosity, IMPALATorchLearner), {}),
    "APPO": type("APPOLearner", (WithCuriosity, APPOTorchLearner), {}),
}


def curiosity_config(name, *, module_class, env, num_learners=0):
    specs = {
        DEFAULT_MODULE_ID: RLModuleSpec(model_config=DefaultModelConfig(fcnet_hiddens=[16])),
        ICM_MODULE_ID: RLModuleSpec(module_class=module_class, model_config={}, learner_only=True),
    }
    return (
        ONLINE[name]
        .copy(copy_frozen=False)
        .environment(env)
        .env_runners(num_env_runners=0)
        .learners(
            num_learners=num_learners,
            learner_class=type("Learner", (SeesRewards, LEARNERS[name]), {}),
            learner_config_dict={
                "intrinsic_reward_coeff": COEFFICIENT,
                "forward_loss_weight": 0.2,  # of RLlib's own module
            },
        )
        .rl_module(rl_module_spec=MultiRLModuleSpec(rl_module_specs=specs))
        .reporting(min_time_s_per_iteration=0, min_sample_timesteps_per_iteration=0)
        .debugging(seed=0)
    )


def train_until_rewarded(algorithm):
    while True:
        learnt = algorithm.train().get("learners", {}).get(ICM_MODULE_ID, {})
        if "reward" in learnt:
            return learnt


@pytest.mark.parametrize("name", LEARNERS)
def test_the_policy_sees_the_intrinsic_rewards(name):
    env = NoRewardsDiscrete if name == "DQN" else NoRewards
    config = curiosity_config(name, module_class=RNDRLModule, env=env)
    with running(config.build_algo()) as algorithm:
        learnt = train_until_rewarded(algorithm)
    assert learnt["reward"] > 0.1
    assert learnt["error"] < 0.1 * learnt["reward"]


def test_rllibs_own_module_rewards_the_policy_on_two_learners():
    config = curiosity_config(
        "PPO", module_class=IntrinsicCuriosityModel, env=NoRewardsDiscrete, num_learners=2
    )
    with running(config.build_algo()) as algorithm:
        before = all_learners(algorithm, curiosity_weights)[0]
        learnt = train_until_rewarded(algorithm)
        weights, other = all_learners(algorithm, curiosity_weights)
    assert learnt["reward"] > 0.1
    assert learnt["error"] < 0.5 * learnt["reward"]  # the module has learnt since
    assert all(map(torch.equal, weights, other))
    assert not any(map(torch.equal, weights, before))


def curiosity_weights(learner):
    return [param.detach().clone() for param in learner.module[ICM_MODULE_ID].parameters()]
