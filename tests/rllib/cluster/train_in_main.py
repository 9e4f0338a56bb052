"""Trains with a module whose class is defined in the very program that is run, as in a notebook."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from modules.icm import ICM
from ray.rllib.core.rl_module.torch import TorchRLModule

from rllib.cluster.training import check_training, ray_cluster


class Curiosity(TorchRLModule, ICM):
    def setup(self):
        ICM.__init__(self, self.observation_space.shape[0], int(self.action_space.n))

    def _forward_train(self, batch, **kwargs):
        return ICM.forward(self, batch)


if __name__ == "__main__":
    with ray_cluster():
        check_training(Curiosity, num_learners=2, directory=Path(sys.argv[1]))
