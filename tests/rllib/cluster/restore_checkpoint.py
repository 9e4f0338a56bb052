"""Restores an algorithm in a process that has never seen the class of its module, and trains on.

python restore_checkpoint.py DIRECTORY_OF_THE_CHECKPOINT
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from ray.rllib.algorithms import Algorithm
from ray.rllib.core.rl_module import RLModule
from ray.rllib.examples.learners.classes.intrinsic_curiosity_learners import ICM_MODULE_ID

from rllib.cluster.training import ray_cluster, running, weights_on_learners

if __name__ == "__main__":
    directory = Path(sys.argv[1])
    checkpoint = directory / "checkpoint"
    weights = torch.load(directory / "weights.pt")

    module = RLModule.from_checkpoint(
        checkpoint / "learner_group" / "learner" / "rl_module" / ICM_MODULE_ID
    )
    by_itself = {f"{ICM_MODULE_ID}.{name}": param for name, param in module.named_parameters()}
    torch.testing.assert_close(by_itself, weights, rtol=0, atol=0)

    with ray_cluster(), running(Algorithm.from_checkpoint(checkpoint)) as algorithm:
        for restored in weights_on_learners(algorithm, ICM_MODULE_ID):
            torch.testing.assert_close(restored, weights, rtol=0, atol=0)

        learnt = algorithm.train()["learners"][ICM_MODULE_ID]
        assert learnt["total_loss"] < 0.5 * torch.load(directory / "first_loss.pt")
        for trained_on in weights_on_learners(algorithm, ICM_MODULE_ID):
            assert not any(torch.equal(trained_on[name], weights[name]) for name in weights)
