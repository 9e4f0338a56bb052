"""RLlib's PPO with a curiosity module, and what every such training must show."""

import gc
import os
import sys
from contextlib import contextmanager

import pytest
import ray
import torch
from modules.icm import ICM
from ray.rllib.algorithms import Algorithm
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module import MultiRLModuleSpec, RLModule, RLModuleSpec
from ray.rllib.examples.learners.classes.intrinsic_curiosity_learners import (
    ICM_MODULE_ID,
    PPOTorchLearnerWithCuriosity,
)

WARNINGS_OF_RAY = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context"),
    # JAX, once another test has imported it, warns whenever Ray starts a process.
    pytest.mark.filterwarnings(r"ignore:os.fork\(\) was called:RuntimeWarning"),
    # RLlib registers each environment class under one name.
    pytest.mark.filterwarnings("ignore:.*Overriding environment:UserWarning"),
]


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


def ppo_with_curiosity(module_class, num_learners):
    specs = {
        DEFAULT_MODULE_ID: RLModuleSpec(),
        ICM_MODULE_ID: RLModuleSpec(
            module_class=module_class, learner_only=True, model_config={"hidden_size": 32}
        ),
    }
    num_shares = max(1, num_learners)  # of each batch
    config = (
        PPOConfig()
        .environment("CartPole-v1")
        .env_runners(num_env_runners=0)
        .learners(
            num_learners=num_learners,
            learner_class=PPOTorchLearnerWithCuriosity,
            learner_config_dict={"intrinsic_reward_coeff": 0.01, "forward_loss_weight": 0.2},
        )
        .training(
            train_batch_size_per_learner=512 // num_shares,
            minibatch_size=64 // num_shares,
            num_epochs=4,
            lr=1e-3,
        )
        .rl_module(rl_module_spec=MultiRLModuleSpec(rl_module_specs=specs))
        .debugging(seed=0)
    )
    return config.build_algo()


def check_training(module_class, num_learners, directory):
    """Trains with the module, saves the algorithm, and keeps with it what a restored one must
    have."""
    with running(ppo_with_curiosity(module_class, num_learners)) as algorithm:
        assert all_learners(algorithm, runs_the_loss_of_the_shared_module) == [True] * max(
            1, num_learners
        )

        first, *_, last = [train(algorithm) for _ in range(6)]
        assert {"forward_loss", "inverse_loss"} < last.keys()
        assert last["total_loss"] < 0.5 * first["total_loss"]

        trained, *others = all_learners(algorithm, weights)
        assert all(same(other, trained) for other in others)
        algorithm.save_to_path(directory / "checkpoint")
        torch.save(
            {"weights": trained, "half_loss": 0.5 * float(first["total_loss"])},
            directory / "expected.pt",
        )


def check_restored(directory):
    """Restores what `check_training` saved, the module by itself and the algorithm, which trains
    on."""
    checkpoint, expected = directory / "checkpoint", torch.load(directory / "expected.pt")

    module = RLModule.from_checkpoint(
        checkpoint / "learner_group" / "learner" / "rl_module" / ICM_MODULE_ID
    )
    assert same(module.state_dict(), expected["weights"])

    with running(Algorithm.from_checkpoint(checkpoint)) as restored:
        assert all(all_learners(restored, runs_the_loss_of_the_shared_module))
        assert all(same(each, expected["weights"]) for each in all_learners(restored, weights))

        assert train(restored)["total_loss"] < expected["half_loss"]
        assert not any(same(each, expected["weights"]) for each in all_learners(restored, weights))


@contextmanager
def running(algorithm):
    try:
        yield algorithm
    finally:
        algorithm.stop()


def train(algorithm):
    """Trains for one iteration, and returns what the curiosity module has logged."""
    return algorithm.train()["learners"][ICM_MODULE_ID]


def all_learners(algorithm, function):
    return [result.get() for result in algorithm.learner_group.foreach_learner(function)]


def runs_the_loss_of_the_shared_module(learner):
    module_class = type(learner.module[ICM_MODULE_ID].unwrapped())
    return module_class.compute_self_supervised_loss is ICM.compute_self_supervised_loss


def weights(learner):
    return learner.module[ICM_MODULE_ID].unwrapped().state_dict()


def same(weights, other_weights):
    assert weights.keys() == other_weights.keys()
    return all(torch.equal(weights[name], other_weights[name]) for name in weights)
