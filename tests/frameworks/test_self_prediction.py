"""The loss and the target network of the self-predictive representation."""

import pytest
import torch
from modules.self_prediction import SelfPrediction
from torch import nn

from self_supervised_loss import Learner
from self_supervised_loss.testing import check_module

OBS_SIZE, LATENT_SIZE, NUM_ACTIONS = 4, 8, 3


@pytest.fixture
def module():
    torch.manual_seed(0)
    encoder = nn.Linear(OBS_SIZE, LATENT_SIZE)
    return SelfPrediction(encoder, latent_size=LATENT_SIZE, num_actions=NUM_ACTIONS, tau=0.25)


@pytest.fixture
def batch():
    torch.manual_seed(1)
    return {
        "obs": torch.randn(16, OBS_SIZE),
        "new_obs": torch.randn(16, OBS_SIZE),
        "actions": torch.randint(NUM_ACTIONS, (16,)),
    }


def loss_and_metrics(module, **fwd_out):
    learner = Learner(module={"spr": module})
    loss = learner.compute_losses(fwd_out={"spr": fwd_out}, batch={"spr": {}})["spr"]
    return loss.item(), learner.metrics.reduce()["spr"]


def test_everything_except_the_target_is_trained(module, batch):
    check_module(module, batch=batch, fwd_out=module(batch)).backward()

    parameters = dict(module.named_parameters())
    untrained = {name for name, p in parameters.items() if p.grad is None or not p.grad.any()}
    assert untrained == {name for name in parameters if name.startswith("target.")}


@pytest.mark.parametrize(("factor", "loss"), [(3.0, 0.0), (-2.0, 2.0)])
def test_the_loss_compares_directions_but_not_lengths(module, factor, loss):
    targets = torch.randn(16, 32)

    computed, metrics = loss_and_metrics(
        module, latents=torch.randn(16, LATENT_SIZE), predictions=factor * targets, targets=targets
    )

    assert computed == pytest.approx(loss, abs=1e-6)
    assert metrics["prediction_loss"] == computed


def test_the_variance_of_the_latents_shows_a_collapse(module):
    # Only one of the components differs between the two observations.
    latents = torch.ones(2, LATENT_SIZE)
    latents[:, 0] = torch.tensor([0.0, 2.0])
    projections = torch.ones(2, 32)

    _, metrics = loss_and_metrics(
        module, latents=latents, predictions=projections, targets=projections
    )

    assert metrics["latent_variance"] == 2 / LATENT_SIZE


def test_the_encoder_is_shared_and_the_target_is_a_copy(module, batch):
    before = module(batch)
    nn.init.zeros_(module.encoder.weight)
    after = module(batch)

    assert after["latents"].equal(module.encoder(batch["obs"]))
    assert not after["predictions"].equal(before["predictions"])
    assert after["targets"].equal(before["targets"])


def test_an_update_moves_the_target_by_the_fraction_tau(module):
    online = [*module.encoder.parameters(), *module.projection_net.parameters()]
    before = [parameter.clone() for parameter in module.target.parameters()]
    for parameter in online:
        nn.init.normal_(parameter)

    module.update_target()

    expected = [0.75 * old + 0.25 * new for old, new in zip(before, online, strict=True)]
    torch.testing.assert_close([*module.target.parameters()], expected)
