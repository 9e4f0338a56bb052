"""The module of Random Network Distillation learns with its predictor alone, and tires of what it
has seen."""

import torch
from modules.rnd import RND

from self_supervised_loss import Learner

OBS_SIZE = 8


def train(rnd, batch, num_steps):
    learner = Learner(module={"rnd": rnd})
    optimizer = torch.optim.Adam(rnd.parameters(), lr=1e-3)
    for _ in range(num_steps):
        losses = learner.compute_losses(fwd_out={"rnd": rnd(batch)}, batch={"rnd": batch})
        optimizer.zero_grad()
        losses["rnd"].backward()
        optimizer.step()


def test_the_target_is_never_trained():
    torch.manual_seed(0)
    rnd, obs = RND(OBS_SIZE), torch.randn(4, OBS_SIZE)
    features, predicted_features = rnd.target_net(obs), rnd.predictor_net(obs)

    train(rnd, {"new_obs": obs}, num_steps=5)

    assert torch.equal(rnd.target_net(obs), features)
    assert not torch.equal(rnd.predictor_net(obs), predicted_features)


def test_the_reward_of_each_observation_falls_with_training_on_it():
    torch.manual_seed(0)
    rnd, one_hot = RND(OBS_SIZE), torch.eye(OBS_SIZE)
    before = rnd({"new_obs": one_hot})["intrinsic_rewards"]

    train(rnd, {"new_obs": one_hot[:4]}, num_steps=500)

    after = rnd({"new_obs": one_hot})["intrinsic_rewards"]
    assert after.shape == (OBS_SIZE,)
    assert (after[:4] < 0.01 * before[:4]).all()
    assert (after[4:] > 10 * after[:4].max()).all()
