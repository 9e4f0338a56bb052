"""Each parameter belongs to one optimizer, and its gradient is the sum over all losses."""

import pytest
import torch
from ray.rllib.core import DEFAULT_MODULE_ID

from rllib.learners import (
    POLICIES,
    SAC_FAMILY,
    Decoder,
    ExpectsGradients,
    LearnsFromFirst,
    SharedEncoders,
    auxiliary_spec,
    built,
    config_of,
    update,
)
from self_supervised_loss.rllib import AuxiliaryModules

ENCODERS = [
    ("PPO", "encoder.encoder", "default_optimizer"),
    ("SAC", "pi_encoder", "policy"),
    ("SAC", "qf_encoder.base_encoders.obs", "qf"),
    ("TQC", "pi_encoder", "policy"),
    ("IQL", "vf_encoder", "value"),
    ("CQL", "pi_encoder", "policy"),
]


def optimizers_of(learner, module):
    """Returns the names of the optimizers that have parameters of a module."""
    params = {*module.parameters()}
    return [
        f"{name} of {module_id}"
        for module_id in learner.module.keys()
        for name, optimizer in learner.get_optimizers_for_module(module_id)
        if params & {*optimizer.param_groups[0]["params"]}
    ]


@pytest.mark.parametrize(("algorithm", "path", "optimizer"), ENCODERS)
def test_a_shared_encoder_is_trained_once_on_all_losses(algorithm, path, optimizer):
    spec = auxiliary_spec(Decoder, encoders=[path])
    specs = {"decoder": spec, "other_decoder": spec}
    learner = built(config_of(algorithm), specs, ExpectsGradients, multi_rl_module=SharedEncoders)
    for _ in range(2):  # gradients do not add up over updates
        update(learner)
        assert learner.has_expected_gradients()
    decoder = learner.module["decoder"]
    assert optimizers_of(learner, decoder.encoders) == [f"{optimizer} of {DEFAULT_MODULE_ID}"]
    assert optimizers_of(learner, decoder.head) == ["default_optimizer of decoder"]


@pytest.mark.parametrize("algorithm", ["PPO", "SAC"])
def test_parameters_shared_by_auxiliary_modules_belong_to_the_first(algorithm):
    specs = {name: auxiliary_spec(Decoder, encoders=[], head_of="a") for name in ("b", "a")}
    learner = built(config_of(algorithm), specs, ExpectsGradients, multi_rl_module=SharedEncoders)
    update(learner)
    assert learner.has_expected_gradients()
    assert learner.module["b"].head is learner.module["a"].head
    assert optimizers_of(learner, learner.module["b"].head) == ["default_optimizer of a"]


class OneEncoderForBothPolicies(SharedEncoders):
    def setup(self):
        super().setup()
        self["p1"].encoder = self["p0"].encoder


@pytest.mark.parametrize(
    ("algorithm", "multi_rl_module", "paths"),
    [
        ("SAC", SharedEncoders, ["pi_encoder", "qf_encoder.base_encoders.obs"]),
        ("PPO", OneEncoderForBothPolicies, ["encoder.encoder"]),
    ],
)
def test_parameters_of_several_optimizers_cannot_be_shared(algorithm, multi_rl_module, paths):
    specs = {"decoder": auxiliary_spec(Decoder, encoders=paths)}
    with pytest.raises(ValueError, match=r"'decoder' shares .* of 'p0', \w+ of 'p[01]'\. Share"):
        built(config_of(algorithm), specs, LearnsFromFirst, POLICIES, multi_rl_module)


@pytest.mark.parametrize("algorithm", ["PPO", "SAC"])
def test_a_frozen_policy_keeps_all_parameters_that_it_does_not_share(algorithm):
    path = "encoder.encoder" if algorithm == "PPO" else "pi_encoder"
    specs = {"decoder": auxiliary_spec(Decoder, encoders=[path])}
    learner = built(config_of(algorithm), specs, multi_rl_module=SharedEncoders)
    update(learner)
    learner.config.multi_agent(policies_to_train=[])
    named = learner.module[DEFAULT_MODULE_ID].named_parameters()
    policy = {name: param for name, param in named if param.requires_grad}
    before = {name: param.detach().clone() for name, param in policy.items()}
    update(learner)
    changed = {name for name in policy if not torch.equal(policy[name], before[name])}
    assert changed == {name for name in policy if name.startswith(path)} > set()


# The optimizers of auxiliary modules


@pytest.mark.parametrize("algorithm", SAC_FAMILY)
def test_the_learning_rate_is_lr_or_otherwise_critic_lr(algorithm):
    config = config_of(algorithm).training(lr=None, critic_lr=0.01)
    config.rl_module(algorithm_config_overrides_per_module={"fast": type(config).overrides(lr=0.1)})
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
    learner = built(config_of("PPO"), {"rnd": auxiliary_spec()}, OneOptimizerPerLayer)
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
        learner = built(config_of("PPO"), {} if is_added else specs, BeforeTheMixIn)
        learner.add_module(module_id="rnd", module_spec=specs["rnd"])


def test_a_class_after_the_mix_in_may_configure_policies_only():
    class AfterTheMixIn(AuxiliaryModules, OfPoliciesOnly): ...

    learner = built(config_of("PPO"), {"rnd": auxiliary_spec()}, AfterTheMixIn)
    assert learner.get_optimizer("rnd").param_groups[0]["params"]
