"""Restores an algorithm in a process that has never imported the classes of its modules.

python restore_checkpoint.py DIRECTORY_OF_THE_CHECKPOINT ADDRESS_OF_THE_CLUSTER
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from ray.rllib.algorithms import Algorithm
from ray.rllib.core.rl_module import RLModule

from rllib.cluster.training import changed, equal_weights, ray_cluster, running

if __name__ == "__main__":
    directory, address = Path(sys.argv[1]), sys.argv[2]
    checkpoint, weights = directory / "checkpoint", torch.load(directory / "weights.pt")

    for module_id in ("derived", "registered"):
        path = checkpoint / "learner_group/learner/rl_module" / module_id
        restored = RLModule.from_checkpoint(path).state_dict(prefix=f"{module_id}.")
        assert changed(restored, weights) == set() < restored.keys()

    with ray_cluster(address), running(Algorithm.from_checkpoint(checkpoint)) as algorithm:
        assert changed(weights, equal_weights(algorithm, "derived", "registered")) == set()
        algorithm.train()
        assert changed(weights, equal_weights(algorithm, "derived", "registered")) == weights.keys()
