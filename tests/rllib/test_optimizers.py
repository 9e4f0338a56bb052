"""Two optimizers on one module, which returns the sum of two terms: each gets the gradient of its
own."""

from typing import Any

import gymnasium as gym
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.core.rl_module import MultiRLModuleSpec, RLModuleSpec
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import nn

from self_supervised_loss import SelfSupervisedLossAPI


class TwoTerms(TorchRLModule, SelfSupervisedLossAPI[torch.Tensor]):
    """Has an encoder and a head, each trained by a term and an optimizer of its own."""

    def setup(self) -> None:
        self.encoder, self.head = nn.Linear(4, 2), nn.Linear(2, 1)

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, torch.Tensor]:
        features = self.encoder(batch["obs"])
        return {"features": features, "prediction": self.head(features.detach())}

    def compute_self_supervised_loss(
        self, *, fwd_out: dict[str, torch.Tensor], **kwargs: Any
    ) -> torch.Tensor:
        first, second = self.terms(fwd_out)
        return first + second

    def terms(self, fwd_out: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        return fwd_out["features"].square().mean(), (fwd_out["prediction"] - 1).square().mean()


class TwoOptimizersLearner(PPOTorchLearner):
    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        module = self.module[module_id]
        for name in ("encoder", "head"):
            parameters = [*getattr(module, name).parameters()]
            optimizer = torch.optim.SGD(parameters, lr=1.0)
            self.register_optimizer(
                module_id=module_id,
                optimizer_name=name,
                optimizer=optimizer,
                params=parameters,
                lr_or_lr_schedule=1.0,
            )


def test_each_of_two_optimizers_gets_the_gradient_of_its_own_term() -> None:
    torch.manual_seed(0)
    spec = RLModuleSpec(
        module_class=TwoTerms,
        observation_space=gym.spaces.Box(-1.0, 1.0, (4,)),
        action_space=gym.spaces.Discrete(2),
    )
    learner = TwoOptimizersLearner(
        config=PPOConfig().training(grad_clip=None),
        module_spec=MultiRLModuleSpec(rl_module_specs={"m": spec}),
    )
    learner.build()
    module, batch = learner.module["m"], {"obs": torch.randn(16, 4)}
    parts = module.encoder, module.head
    expected = [
        [
            parameter - gradient
            for parameter, gradient in zip(part.parameters(), gradients, strict=True)
        ]
        for part, gradients in (
            (part, torch.autograd.grad(term, [*part.parameters()]))
            for part, term in zip(parts, module.terms(module.forward_train(batch)), strict=True)
        )
    ]

    losses = learner.compute_losses(fwd_out={"m": module.forward_train(batch)}, batch={"m": batch})
    learner.apply_gradients(learner.postprocess_gradients(learner.compute_gradients(losses)))

    for part, parameters in zip(parts, expected, strict=True):
        assert all(map(torch.equal, part.parameters(), parameters))
