import copy
import re

import numpy as np
import pytest
import torch
from examples.tianshou_curiosity import frozen_lake, main, make_algorithm, train
from tianshou.algorithm import PPO
from tianshou.data import Collector, ReplayBuffer, VectorReplayBuffer
from tianshou.env import DummyVectorEnv
from tianshou.utils.torch_utils import policy_within_training_step
from torch import nn

from self_supervised_loss import Learner


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)
    np.random.seed(0)


def test_the_program_solves_the_task_with_curiosity_only(capsys):
    main(["--seeds", "1", "--steps", "40960"])

    table = capsys.readouterr().out
    assert re.search(r"^seed 1 +(9[1-9]|100)% +0% ", table, re.MULTILINE)
    assert re.search(r"^above 90% +1 of 1 +0 of 1$", table, re.MULTILINE)


def test_the_module_is_trained_on_its_own_loss():
    algorithm = make_algorithm(1024, curiosity=True)
    buffer = collect(algorithm)
    by_hand = copy.deepcopy(algorithm.icm)
    optimizer = torch.optim.Adam(by_hand.parameters(), lr=4e-3, eps=1e-5)
    batch = transitions(buffer)
    loss = by_hand.compute_self_supervised_loss(
        learner=Learner(module={}),
        module_id="icm",
        config=None,
        batch=batch,
        fwd_out=by_hand(batch),
    )
    loss.backward()
    optimizer.step()

    with policy_within_training_step(algorithm.policy):
        algorithm.update(buffer, batch_size=None, repeat=1)

    torch.testing.assert_close(vector(algorithm.icm), vector(by_hand))


def test_the_policy_gets_intrinsic_rewards_and_the_buffer_stays_as_it_is():
    algorithm = make_algorithm(1024, curiosity=True)
    buffer = collect(algorithm)
    buffer.rew[:] = 1.0
    batch, indices = buffer.sample(0)

    batch = algorithm._preprocess_batch(batch, buffer, indices)

    intrinsic_rewards = algorithm.icm(transitions(buffer))["intrinsic_rewards"].detach().numpy()
    assert batch.rew == pytest.approx(1.0 + 0.1 * intrinsic_rewards)
    assert (buffer.rew == 1.0).all()


def test_what_the_module_logs_comes_to_the_logger_of_tianshou():
    _, history = train(0, 4096, curiosity=True)

    assert len(history) == 4
    assert history[-1]["icm_inverse_loss"] < history[0]["icm_inverse_loss"]
    assert history[-1]["icm_forward_loss"] > 0


def test_a_checkpoint_holds_the_module_and_its_optimizer():
    algorithm, _ = train(0, 1024, curiosity=True)
    restored = make_algorithm(1024, curiosity=True)

    restored.load_state_dict(algorithm.state_dict())

    assert torch.equal(vector(restored.icm), vector(algorithm.icm))
    states = [each.icm_optim.state_dict()["state"] for each in (restored, algorithm)]
    assert states[0].keys() == states[1].keys() != set()


def collect(algorithm: PPO) -> ReplayBuffer:
    envs = DummyVectorEnv([frozen_lake] * 4)
    collector = Collector(algorithm.policy, envs, VectorReplayBuffer(1024, 4))
    collector.collect(n_step=256, reset_before_collect=True)
    return collector.buffer


def transitions(buffer: ReplayBuffer) -> dict[str, torch.Tensor]:
    batch, _ = buffer.sample(0)
    return {
        "obs": torch.as_tensor(batch.obs, dtype=torch.float32),
        "new_obs": torch.as_tensor(batch.obs_next, dtype=torch.float32),
        "actions": torch.as_tensor(batch.act),
    }


def vector(module: nn.Module) -> torch.Tensor:
    """Returns all parameters, one after the other."""
    return nn.utils.parameters_to_vector(module.parameters()).detach()
