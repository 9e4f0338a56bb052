"""Trains with a module whose class is defined in the main program, as in a notebook.

python train_in_main.py DIRECTORY_FOR_THE_CHECKPOINT
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from modules.icm import ICM
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.torch import TorchRLModule
from ray.rllib.examples.learners.classes.intrinsic_curiosity_learners import (
    ICM_MODULE_ID,
    PPOTorchLearnerWithCuriosity,
)

from rllib.cluster.training import equal_weights, ray_cluster, running, tiny_config


class Curiosity(TorchRLModule, ICM):
    def setup(self):
        ICM.__init__(self, self.observation_space.shape[0], int(self.action_space.n))

    def _forward_train(self, batch, **kwargs):
        return ICM.forward(self, batch)


if __name__ == "__main__":
    directory = Path(sys.argv[1])
    config = (
        tiny_config(PPOConfig, {ICM_MODULE_ID: Curiosity})
        .environment("CartPole-v1")
        .learners(
            num_learners=2,
            learner_class=PPOTorchLearnerWithCuriosity,
            learner_config_dict={"intrinsic_reward_coeff": 0.01, "forward_loss_weight": None},
        )
        .training(train_batch_size_per_learner=256, num_epochs=4, lr=1e-3)
    )
    with ray_cluster(), running(config.build_algo()) as algorithm:
        first, *_, last = [algorithm.train()["learners"][ICM_MODULE_ID] for _ in range(6)]
        assert {"forward_loss", "inverse_loss"} < last.keys()
        assert last["total_loss"] < 0.5 * first["total_loss"]

        algorithm.save_to_path(directory / "checkpoint")
        torch.save(equal_weights(algorithm, ICM_MODULE_ID), directory / "weights.pt")
        torch.save(float(first["total_loss"]), directory / "first_loss.pt")
