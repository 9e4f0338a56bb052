"""Two optimizers on one module, which returns the sum of two terms: each gets the gradient of its
own."""

import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import nn

from rllib.learners import auxiliary_spec, built
from self_supervised_loss import SelfSupervisedLossAPI
from self_supervised_loss.rllib import AuxiliaryModules


class TwoTerms(TorchRLModule, SelfSupervisedLossAPI[torch.Tensor]):
    """Has an encoder and a head, each trained by a term and an optimizer of its own."""

    def setup(self):
        self.encoder, self.head = nn.Linear(3, 2), nn.Linear(2, 1)

    def _forward_train(self, batch, **kwargs):
        features = self.encoder(batch["obs"])
        prediction = self.head(features.detach())
        return {"encoder": features.square().mean(), "head": (prediction - 1).square().mean()}

    def compute_self_supervised_loss(self, *, fwd_out, **kwargs):
        return fwd_out["encoder"] + fwd_out["head"]


class WithTwoOptimizers(AuxiliaryModules):
    def configure_optimizers_for_module(self, module_id, config=None):
        if module_id != "two_terms":
            super().configure_optimizers_for_module(module_id=module_id, config=config)
            return
        for name in ("encoder", "head"):
            params = [*getattr(self.module[module_id], name).parameters()]
            self.register_optimizer(
                module_id=module_id,
                optimizer_name=name,
                optimizer=torch.optim.SGD(params, lr=1.0),
                params=params,
                lr_or_lr_schedule=1.0,
            )


def test_each_of_two_optimizers_gets_the_gradient_of_its_own_term():
    torch.manual_seed(0)
    learner = built(PPOConfig(), {"two_terms": auxiliary_spec(TwoTerms)}, WithTwoOptimizers)
    module, batch = learner.module["two_terms"], {"obs": torch.randn(16, 3)}
    fwd_out = module.forward_train(batch)
    expected = {}
    for name in ("encoder", "head"):
        params = [*getattr(module, name).parameters()]
        gradients = torch.autograd.grad(fwd_out[name], params, retain_graph=True)
        expected[name] = [param - grad for param, grad in zip(params, gradients, strict=True)]

    losses = learner.compute_losses(fwd_out={"two_terms": fwd_out}, batch={"two_terms": batch})
    learner.apply_gradients(learner.postprocess_gradients(learner.compute_gradients(losses)))

    assert all(map(torch.equal, module.encoder.parameters(), expected["encoder"]))
    assert all(map(torch.equal, module.head.parameters(), expected["head"]))
