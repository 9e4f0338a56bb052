"""RND trains only its predictor, and its rewards fall for observations that it was trained on."""

import jax
import numpy as np
import pytest
import torch
from flax import nnx
from frameworks.training import data_for, train
from modules import rnd, rnd_flax

OBS_SIZE = 8
ONE_HOT = np.eye(OBS_SIZE, dtype=np.float32)


@pytest.fixture(params=["torch", "flax"])
def module(request):
    torch.manual_seed(0)
    is_torch = request.param == "torch"
    return rnd.RND(OBS_SIZE) if is_torch else rnd_flax.RND(OBS_SIZE, rngs=nnx.Rngs(0))


def evaluate(module):
    data = data_for(module, {"new_obs": ONE_HOT})
    nets = module.target_net, module.predictor_net
    arrays = *(net(data["new_obs"]) for net in nets), module(data)["intrinsic_rewards"]
    return [np.array(array.tolist()) for array in arrays]


def test_only_the_predictor_is_trained(module):
    target, predicted, _ = evaluate(module)

    train(module, [{"new_obs": ONE_HOT}] * 5, lr=1e-3)

    new_target, new_predicted, new_rewards = evaluate(module)
    assert (new_target == target).all()
    assert (new_predicted != predicted).any()
    assert new_rewards == pytest.approx(np.square(new_predicted - target).mean(axis=-1))


def test_the_reward_of_an_observation_falls_with_training_on_it(module):
    *_, before = evaluate(module)

    train(module, [{"new_obs": ONE_HOT[:4]}] * 500, lr=1e-3)

    *_, after = evaluate(module)
    assert (after[:4] < 0.01 * before[:4]).all()
    assert (after[4:] > 10 * after[:4].max()).all()


def test_in_jax_the_gradient_of_the_whole_state_stops_at_the_target():
    module = rnd_flax.RND(OBS_SIZE, rngs=nnx.Rngs(0))

    def loss(module):
        return module({"new_obs": ONE_HOT})["intrinsic_rewards"].mean()

    gradients = jax.grad(loss)(module)
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradients.target_net))
    assert all(leaf.any() for leaf in jax.tree.leaves(gradients.predictor_net))
