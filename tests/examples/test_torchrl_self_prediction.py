"""The TorchRL example learns, and trains one encoder with two losses."""

import warnings

import pytest
import torch
from torch import nn

with warnings.catch_warnings():
    # TorchRL itself uses a class that it has deprecated.
    warnings.filterwarnings(
        "ignore", "Creating .* which inherits from WeightUpdaterBase", DeprecationWarning
    )
    from examples import torchrl_self_prediction as example
    from torchrl.objectives import ClipPPOLoss
    from torchrl.objectives.value import GAE


@pytest.fixture
def modules():
    torch.manual_seed(0)
    return example.make_modules()


@pytest.fixture
def batch(modules):
    """Returns a few episodes of the policy, whose encoder has changed since then."""
    policy = modules["policy"]
    with torch.no_grad():
        rollout = example.make_env(4, seed=0).rollout(
            64, policy.get_policy_operator(), break_when_any_done=False
        )
        GAE(gamma=0.99, lmbda=0.95, value_network=policy.get_value_operator())(rollout)
        for parameter in policy[0].parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return example.as_batch(rollout)


def gradients(loss, module):
    return list(torch.autograd.grad(loss, list(module.parameters()), retain_graph=True))


def test_a_short_training_improves_policy_and_representation():
    history = example.train(seed=3, num_steps=12 * example.STEPS_PER_ROLLOUT)

    assert history["average_return"][-1] > 3 * history["average_return"][0]
    assert history["prediction_loss"][-1] < history["prediction_loss"][0] / 2
    assert history["latent_variance"][-1] > history["latent_variance"][0]


def test_the_losses_equal_torchrls_and_the_modules_own(modules, batch):
    policy = modules["policy"]
    whole_ppo_loss = ClipPPOLoss(
        policy.get_policy_operator(), policy.get_value_operator(), normalize_advantage=True
    )
    terms = whole_ppo_loss(batch["policy"])
    fwd_out = example.forward(modules, batch)
    similarity = nn.functional.cosine_similarity(
        fwd_out["representation"]["predictions"], fwd_out["representation"]["targets"]
    )
    learner = example.PPOLearner(module=modules)

    losses = learner.compute_losses(fwd_out=fwd_out, batch=batch)

    ppo_loss = terms["loss_objective"] + terms["loss_critic"] + terms["loss_entropy"]
    torch.testing.assert_close(
        losses, {"policy": ppo_loss, "representation": 1 - similarity.mean()}
    )
    torch.testing.assert_close(gradients(losses["policy"], policy), gradients(ppo_loss, policy))
    assert all(gradient.any() for gradient in gradients(losses["representation"], policy[0]))


def test_the_last_transition_has_the_last_observation():
    torch.manual_seed(0)
    rollout = example.make_env(4, seed=0).rollout(64, break_when_any_done=False)
    transitions = example.as_batch(rollout)["representation"].reshape(rollout.shape)
    done = rollout["next", "done"].squeeze(-1)

    assert done.any()
    assert transitions["new_obs"][:, :-1][~done[:, :-1]].equal(
        transitions["obs"][:, 1:][~done[:, :-1]]
    )
    position, _, angle, _ = transitions["new_obs"][done].unbind(dim=-1)
    assert ((position.abs() > 2.4) | (angle.abs() > 0.2)).all()
