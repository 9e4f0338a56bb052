"""RLlib's learners by themselves, without Ray's processes, with tiny modules and random data."""

import gymnasium as gym
import torch
from modules.rnd_rl_module import RNDRLModule
from ray.rllib.algorithms.cql import CQLConfig
from ray.rllib.algorithms.iql import IQLConfig
from ray.rllib.algorithms.sac import SACConfig
from ray.rllib.algorithms.tqc import TQCConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module import MultiRLModuleSpec, RLModuleSpec
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch

from self_supervised_loss.rllib import AuxiliaryModules

SAC_FAMILY = [SACConfig, TQCConfig, IQLConfig, CQLConfig]
SPACES = {
    "observation_space": gym.spaces.Box(-1, 1, (3,)),
    "action_space": gym.spaces.Box(-1, 1, (1,)),
}


def auxiliary_spec(module_class=RNDRLModule):
    return RLModuleSpec(module_class=module_class, model_config={}, learner_only=True, **SPACES)


def policy_spec(config, mix_in=None):
    default = config.get_default_rl_module_spec()
    bases = [base for base in (mix_in, default.module_class) if base]
    return RLModuleSpec(
        module_class=type(default.module_class)("PolicyOfTest", tuple(bases), {}),
        catalog_class=default.catalog_class,
        model_config=config.model_config | vars(DefaultModelConfig(fcnet_hiddens=[8])),
        **SPACES,
    )


def built(config, specs, mix_in=AuxiliaryModules, policies=(DEFAULT_MODULE_ID,)):
    """Builds a learner of these modules and of RLlib's default policies."""
    learner_class = type("LearnerOfTest", (mix_in, config.get_default_learner_class()), {})
    specs = dict.fromkeys(policies, policy_spec(config)) | specs
    learner = learner_class(config=config, module_spec=MultiRLModuleSpec(rl_module_specs=specs))
    learner.build()
    return learner


def update(learner, policies=(DEFAULT_MODULE_ID,)):
    """Trains a learner once on random data of the policies."""
    batches = {policy: transitions() for policy in policies}
    return learner.update(batch=MultiAgentBatch(batches, env_steps=8))


def transitions():
    """Returns the columns that the losses of PPO and of the SAC family need."""
    vectors = {"obs": 3, "new_obs": 3, "actions": 1, "action_dist_inputs": 2}
    numbers = ("rewards", "weights", "n_step", "action_logp", "advantages", "value_targets")
    columns = {name: torch.rand(8, size) for name, size in vectors.items()}
    columns |= {name: torch.ones(8) for name in numbers}
    return SampleBatch(columns | {"terminateds": torch.zeros(8, dtype=torch.bool)})
