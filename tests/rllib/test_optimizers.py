"""Each parameter belongs to one optimizer, and its gradient is the sum over all losses."""

import pytest
import torch
from ray.rllib.algorithms.cql import CQLConfig
from ray.rllib.algorithms.iql import IQLConfig
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.sac import SACConfig
from ray.rllib.algorithms.tqc import TQCConfig
from ray.rllib.core import DEFAULT_MODULE_ID

from rllib.learners import (
    SAC_FAMILY,
    Decoder,
    ExpectsGradients,
    LearnsFromFirst,
    SharedEncoders,
    auxiliary_spec,
    built,
    update,
)
from self_supervised_loss.rllib import AuxiliaryModules

ENCODERS = [
    (PPOConfig, "encoder.encoder", "default_optimizer"),
    (SACConfig, "pi_encoder", "policy"),
    (SACConfig, "qf_encoder.base_encoders.obs", "qf"),
    (TQCConfig, "pi_encoder", "policy"),
    (IQLConfig, "vf_encoder", "value"),
    (CQLConfig, "pi_encoder", "policy"),
]


def decoder_spec(*paths):
    return auxiliary_spec(Decoder, encoders=[(DEFAULT_MODULE_ID, path) for path in paths])


def optimizers_of(learner, module):
    """Returns the names of the optimizers that have parameters of a module."""
    params = {*module.parameters()}
    return [
        f"{name} of {module_id}"
        for module_id in learner.module.keys()
        for name, optimizer in learner.get_optimizers_for_module(module_id)
        if params & {*optimizer.param_groups[0]["params"]}
    ]


@pytest.mark.parametrize(("config_class", "path", "optimizer"), ENCODERS)
def test_a_shared_encoder_is_trained_once_on_all_losses(config_class, path, optimizer):
    specs = {"decoder": decoder_spec(path), "other_decoder": decoder_spec(path)}
    learner = built(config_class(), specs, ExpectsGradients, multi_rl_module_class=SharedEncoders)
    for _ in range(2):  # gradients do not add up over updates
        update(learner)
        assert learner.has_expected_gradients()
    decoder = learner.module["decoder"]
    assert optimizers_of(learner, decoder.encoders) == [f"{optimizer} of {DEFAULT_MODULE_ID}"]
    assert optimizers_of(learner, decoder.head) == ["default_optimizer of decoder"]


@pytest.mark.parametrize("config_class", [PPOConfig, SACConfig])
def test_parameters_shared_by_auxiliary_modules_belong_to_the_first(config_class):
    specs = {name: auxiliary_spec(Decoder, encoders=[], head_of="a") for name in ("b", "a")}
    learner = built(config_class(), specs, ExpectsGradients, multi_rl_module_class=SharedEncoders)
    update(learner)
    assert learner.has_expected_gradients()
    assert learner.module["b"].head is learner.module["a"].head
    assert optimizers_of(learner, learner.module["b"].head) == ["default_optimizer of a"]


@pytest.mark.parametrize(
    ("config_class", "encoders"),
    [
        (SACConfig, [("p0", "pi_encoder"), ("p0", "qf_encoder.base_encoders.obs")]),
        (PPOConfig, [("p0", "encoder.encoder")]),
    ],
)
def test_parameters_of_several_optimizers_cannot_be_shared(config_class, encoders):
    class OneEncoderForBothPolicies(SharedEncoders):
        def setup(self):
            super().setup()
            if config_class is PPOConfig:
                self["p1"].encoder = self["p0"].encoder

    specs = {"decoder": auxiliary_spec(Decoder, encoders=encoders)}
    modules = OneEncoderForBothPolicies
    with pytest.raises(ValueError, match=r"'decoder' shares .* of 'p0', \w+ of 'p[01]'\. Share"):
        built(config_class(), specs, LearnsFromFirst, ("p0", "p1"), multi_rl_module_class=modules)


@pytest.mark.parametrize("config_class", [PPOConfig, SACConfig])
def test_a_frozen_policy_keeps_all_parameters_that_it_does_not_share(config_class):
    path = "encoder.encoder" if config_class is PPOConfig else "pi_encoder"
    specs = {"decoder": decoder_spec(path)}
    learner = built(config_class(), specs, multi_rl_module_class=SharedEncoders)
    update(learner)
    learner.config.multi_agent(policies_to_train=[])
    named = learner.module[DEFAULT_MODULE_ID].named_parameters()
    policy = {name: param for name, param in named if param.requires_grad}
    before = {name: param.detach().clone() for name, param in policy.items()}
    update(learner)
    changed = {name for name in policy if not torch.equal(policy[name], before[name])}
    assert changed == {name for name in policy if name.startswith(path)} > set()


# The optimizers of auxiliary modules


@pytest.mark.parametrize("config_class", SAC_FAMILY)
def test_the_learning_rate_is_lr_or_otherwise_critic_lr(config_class):
    config = config_class().training(lr=None, critic_lr=0.01)
    config.rl_module(algorithm_config_overrides_per_module={"fast": config_class.overrides(lr=0.1)})
    learner = built(config, {"rnd": auxiliary_spec(), "fast": auxiliary_spec()})
    for module_id, lr in (("rnd", 0.01), ("fast", 0.1)):
        assert learner.get_optimizer(module_id).param_groups[0]["lr"] == lr
    assert learner.config.lr is None


class OfPoliciesOnly:
    def configure_optimizers_for_module(self, module_id, config=None):
        if module_id == DEFAULT_MODULE_ID:
            super().configure_optimizers_for_module(module_id=module_id, config=config)


class OneOptimizerPerLayer(OfPoliciesOnly, ExpectsGradients):
    def configure_optimizers(self):
        super().configure_optimizers()
        for layer in (0, 2, 4):
            params = [*self.module["rnd"].predictor_net[layer].parameters()]
            self.register_optimizer(
                module_id="rnd",
                optimizer_name=f"layer_{layer}",
                optimizer=torch.optim.SGD(params),
                params=params,
                lr_or_lr_schedule=1.0,
            )


def test_each_optimizer_of_a_module_takes_a_step_with_its_gradient():
    learner = built(PPOConfig(), {"rnd": auxiliary_spec()}, OneOptimizerPerLayer)
    before = [param.clone() for param in learner.module["rnd"].predictor_net.parameters()]
    update(learner)
    after = [*learner.module["rnd"].predictor_net.parameters()]
    steps = zip(before, learner.expected, after, strict=True)
    assert all(torch.equal(old - gradient, new) for old, gradient, new in steps)


@pytest.mark.parametrize("is_added", [False, True])
def test_a_module_without_an_optimizer_is_rejected(is_added):
    class BeforeTheMixIn(OfPoliciesOnly, AuxiliaryModules): ...

    specs = {"rnd": auxiliary_spec()}
    message = r"'rnd' have no optimizer: predictor_net\.0\.w.*super\(\)"
    with pytest.raises(ValueError, match=message):
        learner = built(PPOConfig(), {} if is_added else specs, BeforeTheMixIn)
        learner.add_module(module_id="rnd", module_spec=specs["rnd"])


def test_a_class_after_the_mix_in_may_configure_policies_only():
    class AfterTheMixIn(AuxiliaryModules, OfPoliciesOnly): ...

    learner = built(PPOConfig(), {"rnd": auxiliary_spec()}, AfterTheMixIn)
    assert learner.get_optimizer("rnd").param_groups[0]["params"]
