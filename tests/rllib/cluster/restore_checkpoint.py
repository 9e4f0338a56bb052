"""Restores an algorithm in a process that has never imported the class of its module.

python restore_checkpoint.py DIRECTORY_OF_THE_CHECKPOINT
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from ray.rllib.algorithms import Algorithm
from ray.rllib.core.rl_module import RLModule
from ray.rllib.examples.learners.classes.intrinsic_curiosity_learners import ICM_MODULE_ID

from rllib.cluster.training import changed, equal_weights, ray_cluster, running

if __name__ == "__main__":
    directory = Path(sys.argv[1])
    checkpoint = directory / "checkpoint"
    weights = torch.load(directory / "weights.pt")

    module = RLModule.from_checkpoint(
        checkpoint / "learner_group" / "learner" / "rl_module" / ICM_MODULE_ID
    )
    restored = {f"{ICM_MODULE_ID}.{name}": param for name, param in module.named_parameters()}
    assert restored.keys() == weights.keys()
    assert changed(weights, restored) == set()

    with ray_cluster(), running(Algorithm.from_checkpoint(checkpoint)) as algorithm:
        assert changed(weights, equal_weights(algorithm, ICM_MODULE_ID)) == set()
        learnt = algorithm.train()["learners"][ICM_MODULE_ID]
        assert learnt["total_loss"] < 0.5 * torch.load(directory / "first_loss.pt")
        assert changed(weights, equal_weights(algorithm, ICM_MODULE_ID)) == weights.keys()
