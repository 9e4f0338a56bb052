"""What the tests that start Ray have in common."""

import gc
import os
import sys
from contextlib import contextmanager

import pytest
import ray
from ray.rllib.algorithms.appo import APPOConfig
from ray.rllib.algorithms.bc import BCConfig
from ray.rllib.algorithms.cql import CQLConfig
from ray.rllib.algorithms.dqn import DQNConfig
from ray.rllib.algorithms.impala import IMPALAConfig
from ray.rllib.algorithms.iql import IQLConfig
from ray.rllib.algorithms.marwil import MARWILConfig
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.sac import SACConfig
from ray.rllib.algorithms.tqc import TQCConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module import MultiRLModuleSpec, RLModuleSpec
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

WARNINGS_OF_RAY = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context"),
    # JAX, once another test has imported it, warns whenever Ray starts a process.
    pytest.mark.filterwarnings(r"ignore:os.fork\(\) was called:RuntimeWarning"),
    # RLlib registers each environment class under one name.
    pytest.mark.filterwarnings("ignore:.*Overriding environment:UserWarning"),
]
ONLINE = {
    PPOConfig: {"train_batch_size_per_learner": 64, "minibatch_size": 32, "num_epochs": 2},
    APPOConfig: {"train_batch_size_per_learner": 100, "circular_buffer_iterations_per_batch": 1},
    IMPALAConfig: {"train_batch_size_per_learner": 100},
    DQNConfig: {"num_steps_sampled_before_learning_starts": 32},
    SACConfig: {"num_steps_sampled_before_learning_starts": 32},
    TQCConfig: {"num_steps_sampled_before_learning_starts": 32},
}
OFFLINE = {BCConfig: {}, MARWILConfig: {}, IQLConfig: {}, CQLConfig: {"lr": None}}


@contextmanager
def ray_cluster():
    # Ray's workers are processes of their own. They find `modules` where this process does.
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    ray.init(num_cpus=4, include_dashboard=False, runtime_env={"env_vars": environment})
    try:
        yield
    finally:
        gc.collect()  # closes the iterators of Ray Data, which ask Ray
        ray.shutdown()


@contextmanager
def running(algorithm):
    try:
        yield algorithm
    finally:
        algorithm.stop()


def tiny_config(config_class, auxiliary_modules, policies=(DEFAULT_MODULE_ID,), **model_config):
    """Returns a configuration of an algorithm with small policies and these modules, by ID."""
    policy = RLModuleSpec(model_config=DefaultModelConfig(fcnet_hiddens=[16], **model_config))
    auxiliary = {
        module_id: RLModuleSpec(module_class=module_class, learner_only=True, model_config={})
        for module_id, module_class in auxiliary_modules.items()
    }
    specs = dict.fromkeys(policies, policy) | auxiliary
    settings = {"train_batch_size_per_learner": 32} | {**ONLINE, **OFFLINE}[config_class]
    return (
        config_class()
        .env_runners(num_env_runners=0)
        # IMPALA passes a learner over that has more requests in flight, and the others wait for its
        # gradients for ever.
        .learners(max_requests_in_flight_per_learner=1000)
        .training(**settings)
        .rl_module(rl_module_spec=MultiRLModuleSpec(rl_module_specs=specs))
        .reporting(min_time_s_per_iteration=0, min_sample_timesteps_per_iteration=0)
        .debugging(seed=0)
    )


def train_until_logged(algorithm, module_id, name):
    """Returns what a module has logged, once this name is among it.

    Asynchronous algorithms take their time.
    """
    while True:
        learnt = algorithm.train().get("learners", {}).get(module_id, {})
        if name in learnt:
            return learnt


def weights_on_learners(algorithm, *module_ids):
    """Returns the weights of these modules, by name, on each of the learners."""

    def weights(learner):
        return {
            f"{module_id}.{name}": param.detach().clone()
            for module_id in module_ids
            for name, param in learner.module[module_id].unwrapped().named_parameters()
        }

    return [result.get() for result in algorithm.learner_group.foreach_learner(weights)]
