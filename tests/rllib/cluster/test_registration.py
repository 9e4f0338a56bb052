"""A class reaches every process: sent by value, or imported from the file that registers it."""

import subprocess
import sys
from pathlib import Path

import pytest
import ray
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner

from rllib.cluster.foreign_modules import Autoencoder, RegisteredHere
from rllib.cluster.training import WARNINGS_OF_RAY, changed, equal_weights, running, tiny_config
from self_supervised_loss import SelfSupervisedLossAPI
from self_supervised_loss.rllib import AuxiliaryModules

pytestmark = [*WARNINGS_OF_RAY, pytest.mark.usefixtures("cluster")]


class PPOLearner(AuxiliaryModules, PPOTorchLearner): ...


def test_modules_reach_both_learners_and_a_new_process(tmp_path):
    class Derived(Autoencoder, SelfSupervisedLossAPI):
        """Sent to the learners by value, like a class of the main program."""

    modules = {"derived": Derived, "registered": RegisteredHere}
    config = tiny_config(PPOConfig, modules).environment("CartPole-v1")
    config.learners(num_learners=2, learner_class=PPOLearner)
    with running(config.build_algo()) as algorithm:
        before = equal_weights(algorithm, *modules)
        algorithm.train()
        after = equal_weights(algorithm, *modules)
        algorithm.save_to_path(tmp_path / "checkpoint")
    assert changed(before, after) == before.keys()

    torch.save(after, tmp_path / "weights.pt")
    restore = Path(__file__).with_name("restore_checkpoint.py")
    address = ray.get_runtime_context().gcs_address
    subprocess.run([sys.executable, restore, tmp_path, address], check=True)
