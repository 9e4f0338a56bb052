"""The rewards that PPO learns from in the program for Tianshou."""

import pytest
import torch
from examples.tianshou_curiosity import frozen_lake, make_algorithm
from tianshou.data import Collector, VectorReplayBuffer
from tianshou.env import DummyVectorEnv


def test_intrinsic_rewards_do_not_change_the_buffer():
    algorithm = make_algorithm(1024, curiosity=True)
    buffer = VectorReplayBuffer(1024, 4)
    collector = Collector(algorithm.policy, DummyVectorEnv([frozen_lake] * 4), buffer)
    collector.collect(n_step=256, reset_before_collect=True)
    buffer.rew[:] = 1.0
    batch, indices = buffer.sample(0)
    transitions = {
        "obs": torch.as_tensor(batch.obs, dtype=torch.float32),
        "new_obs": torch.as_tensor(batch.obs_next, dtype=torch.float32),
        "actions": torch.as_tensor(batch.act),
    }
    intrinsic_rewards = algorithm.icm(transitions)["intrinsic_rewards"].numpy(force=True)

    batch = algorithm._preprocess_batch(batch, buffer, indices)

    assert batch.rew == pytest.approx(1.0 + 0.1 * intrinsic_rewards)
    assert (buffer.rew == 1.0).all()
