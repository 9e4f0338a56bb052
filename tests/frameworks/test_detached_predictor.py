"""A mistake that is easily made, as a user meets it: the predictor of random network distillation
never learns."""

import pytest
import torch
from torch import nn

from self_supervised_loss import SelfSupervisedLossAPI
from self_supervised_loss.testing import check_module


class RND(nn.Module, SelfSupervisedLossAPI[torch.Tensor]):
    def __init__(self):
        super().__init__()
        self.target = nn.Linear(4, 8).requires_grad_(False)
        self.predictor = nn.Linear(4, 8)

    def forward(self, batch):
        error = (self.predictor(batch["obs"]) - self.target(batch["obs"])).square().mean(dim=-1)
        return {
            "intrinsic_rewards": error.detach()
        }  # the policy must not train it, but neither does the loss now

    def compute_self_supervised_loss(self, *, learner, module_id, config, batch, fwd_out, **kwargs):
        loss = fwd_out["intrinsic_rewards"].mean()
        learner.metrics.log_value((module_id, "predictor_loss"), loss)
        return loss


def check_rnd():
    module, batch = RND(), {"obs": torch.randn(32, 4)}
    check_module(module, batch=batch, fwd_out=module(batch))


def test_the_check_says_that_the_predictor_does_not_learn():
    with pytest.raises(AssertionError) as raised:
        check_rnd()
    assert str(raised.value) == (
        "RND breaks the contract of SelfSupervisedLossAPI:\n"
        "- the loss has no gradient for any parameter, so that nothing would be learnt. Make "
        "fwd_out with this module and with gradients, and detach nothing on the way to the loss."
    )
