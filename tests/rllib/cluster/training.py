"""Configurations, training and weights for the tests that start Ray."""

from contextlib import contextmanager

import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module import MultiRLModuleSpec, RLModuleSpec
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

from rllib.learners import config_of

ONLINE = {
    "PPO": {"train_batch_size_per_learner": 64, "minibatch_size": 32, "num_epochs": 2},
    "APPO": {"train_batch_size_per_learner": 100, "circular_buffer_iterations_per_batch": 1},
    "IMPALA": {"train_batch_size_per_learner": 100},
    "DQN": {"num_steps_sampled_before_learning_starts": 32},
    "SAC": {"num_steps_sampled_before_learning_starts": 32},
    "TQC": {"num_steps_sampled_before_learning_starts": 32},
}
MAX_CALLS = 1000
OFFLINE = {"BC": {}, "MARWIL": {}, "IQL": {}, "CQL": {"lr": None}}


@contextmanager
def running(algorithm):
    try:
        yield algorithm
    finally:
        algorithm.stop()


def tiny_config(name, auxiliary_modules, policies=(DEFAULT_MODULE_ID,), **model_config):
    """Returns a configuration of an algorithm with small policies and these modules, by ID."""
    policy = RLModuleSpec(model_config=DefaultModelConfig(fcnet_hiddens=[16], **model_config))
    auxiliary = {
        module_id: RLModuleSpec(module_class=module_class, learner_only=True, model_config={})
        for module_id, module_class in auxiliary_modules.items()
    }
    specs = dict.fromkeys(policies, policy) | auxiliary
    settings = {"train_batch_size_per_learner": 32} | {**ONLINE, **OFFLINE}[name]
    return (
        config_of(name)
        .env_runners(num_env_runners=0)
        # IMPALA skips a learner with more requests in flight, and the others wait for its
        # gradients forever.
        .learners(max_requests_in_flight_per_learner=1000)
        .training(**settings)
        .rl_module(rl_module_spec=MultiRLModuleSpec(rl_module_specs=specs))
        .reporting(min_time_s_per_iteration=0, min_sample_timesteps_per_iteration=0)
        .debugging(seed=0)
    )


def train_until_logged(algorithm, module_id, name):
    """Trains until a module has logged a name, which takes several calls if IMPALA trains.

    Returns the results of the last call.
    """
    for _ in range(MAX_CALLS):
        results = algorithm.train()
        if name in results.get("learners", {}).get(module_id, {}):
            return results
        on_learners(algorithm, lambda learner: None)  # fails if a learner has died
    raise AssertionError(f"{module_id} has not logged {name}")


def train(algorithm, *module_ids):
    """Trains once. All weights of these modules must change, by the same amount on all learners.

    Returns the results.
    """
    before = equal_weights(algorithm, *module_ids)
    results = algorithm.train()
    assert changed(before, equal_weights(algorithm, *module_ids)) == before.keys()
    return results


def equal_weights(algorithm, *module_ids):
    """Returns the weights of these modules, by name, once they are equal on all learners.

    Asynchronous learners may still be training.
    """

    def weights(learner):
        return {
            f"{module_id}.{name}": param.detach().clone()
            for module_id in module_ids
            for name, param in learner.module[module_id].unwrapped().named_parameters()
        }

    for _ in range(MAX_CALLS):
        first, *others = on_learners(algorithm, weights)
        if not any(changed(first, other) for other in others):
            return first
    raise AssertionError("the learners have different weights")


def changed(before, after):
    """Returns the names of the weights that have changed."""
    return {name for name in before if not torch.equal(before[name], after[name])}


def on_learners(algorithm, function):
    """Returns what a function returns on each learner."""
    results = [*algorithm.learner_group.foreach_learner(function)]
    num_learners = max(1, algorithm.config.num_learners)
    if len(results) < num_learners or not all(result.ok for result in results):
        raise AssertionError("a learner has died: its error is in the log above")
    return [result.get() for result in results]
