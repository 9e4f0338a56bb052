"""A class reaches every process: sent by value, or imported from the file that registers it."""

import sys

import ray
from ray.rllib.algorithms import Algorithm
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.core.rl_module import RLModule

from rllib.cluster.foreign_modules import Autoencoder, RegisteredHere
from rllib.cluster.training import changed, equal_weights, running, tiny_config, train
from self_supervised_loss import SelfSupervisedLossAPI
from self_supervised_loss.rllib import AuxiliaryModules


class PPOLearner(AuxiliaryModules, PPOTorchLearner): ...


def test_modules_reach_a_learner_and_a_process_that_restores_them(tmp_path):
    class Derived(Autoencoder, SelfSupervisedLossAPI):
        """Sent to the learner by value, like a class of the main program."""

    config = tiny_config("PPO", {"derived": Derived, "registered": RegisteredHere})
    config.environment("CartPole-v1").learners(num_learners=1, learner_class=PPOLearner)
    with running(config.build_algo()) as algorithm:
        train(algorithm, "derived", "registered")
        saved = equal_weights(algorithm, "derived", "registered")
        algorithm.save_to_path(tmp_path)

    @ray.remote
    def restore_in_another_process():
        assert "rllib.cluster.foreign_modules" not in sys.modules
        for module_id in ("derived", "registered"):
            path = tmp_path / "learner_group/learner/rl_module" / module_id
            restored = RLModule.from_checkpoint(path).state_dict(prefix=f"{module_id}.")
            assert changed(restored, saved) == set() < restored.keys()

        with running(Algorithm.from_checkpoint(tmp_path)) as algorithm:
            restored = equal_weights(algorithm, "derived", "registered")
            assert changed(saved, restored) == set()
            train(algorithm, "derived", "registered")

    ray.get(restore_in_another_process.remote())
