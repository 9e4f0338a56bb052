"""Which modules the mix-in trains, on which data, and which mistakes it names."""

import pytest
import torch
from modules.rnd_rl_module import RNDRLModule
from ray.actor import _modify_class
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module import MultiRLModule, MultiRLModuleSpec, RLModuleSpec
from ray.rllib.core.rl_module.torch import TorchRLModule
from ray.rllib.examples.rl_modules.classes.random_rlm import RandomRLModule
from ray.rllib.offline.offline_evaluation_runner import OfflineEvaluationRunner
from ray.train._internal.worker_group import create_executable_class
from torch import nn

from rllib.learners import (
    POLICIES,
    SAC_FAMILY,
    SPACES,
    LearnsFromFirst,
    auxiliary_spec,
    built,
    config_of,
    is_trained,
    policy_spec,
    transitions,
    update,
)
from self_supervised_loss import Learner
from self_supervised_loss.rllib import AuxiliaryModules, AuxiliaryModulesOffline

every_algorithm = pytest.mark.parametrize("algorithm", ["PPO", "SAC"])


# The class


@pytest.mark.parametrize(
    "bases",
    [
        (PPOTorchLearner, AuxiliaryModules),
        (OfflineEvaluationRunner, AuxiliaryModulesOffline),
        (AuxiliaryModules, OfflineEvaluationRunner),
        (AuxiliaryModulesOffline, PPOTorchLearner),
        (AuxiliaryModules, RNDRLModule),
        (AuxiliaryModules, Learner),
    ],
)
def test_a_wrong_base_class_or_order_is_rejected(bases):
    got = rf"class L\({bases[0].__name__}, {bases[1].__name__}\)"
    with pytest.raises(TypeError, match=rf"Auxiliary.* must come before .*, got {got}\. Write cl"):
        type("L", bases, {})


def test_a_users_mix_in_and_the_classes_ray_derives_are_accepted():
    class Mine(AuxiliaryModules): ...

    class PPOLearner(Mine, PPOTorchLearner): ...

    assert issubclass(_modify_class(create_executable_class(PPOLearner)), PPOLearner)


# Which modules are trained


@every_algorithm
@pytest.mark.parametrize(
    ("policies_to_train", "trained"),
    [
        ([], {"rnd"}),
        (["p1"], {"p1", "rnd"}),
        (lambda module_id, batch: module_id == "rnd", {"rnd"}),
        (lambda module_id, batch: module_id in batch.policy_batches, {"p0", "p1"}),
    ],
    ids=["no policy", "a list", "a function", "a function of the batch"],
)
def test_modules_learn_from_policies_that_are_not_trained(algorithm, policies_to_train, trained):
    config = config_of(algorithm).multi_agent(policies_to_train=policies_to_train)
    learner = built(config, {"rnd": auxiliary_spec()}, LearnsFromFirst, POLICIES)
    changed = [name for name in (*POLICIES, "rnd") if is_trained(learner, name, POLICIES)]
    assert {*changed} == trained


class CanAct(RNDRLModule):
    def _forward(self, batch, **kwargs):
        return super()._forward_train(batch, **kwargs)


@every_algorithm
@pytest.mark.parametrize("module_class", [RNDRLModule, CanAct])
def test_learner_only_modules_are_trained_before_and_after_one_is_added(algorithm, module_class):
    spec = auxiliary_spec(module_class)
    config = config_of(algorithm).multi_agent(policies={DEFAULT_MODULE_ID, "listed"})
    learner = built(config, {"listed": spec, "rnd": spec})
    assert is_trained(learner, "listed") and is_trained(learner, "rnd")
    specs = learner.add_module(module_id="added", module_spec=auxiliary_spec(module_class))
    for module_id in ("listed", "rnd", "added"):
        assert is_trained(learner, module_id)
        assert specs[module_id].learner_only  # a checkpoint contains the specs
    assert not specs[DEFAULT_MODULE_ID].learner_only


def test_modules_without_a_loss_are_left_to_rllib():
    class Encoder(TorchRLModule):
        def setup(self):
            self.net = nn.Linear(3, 2)

    random_policy = RLModuleSpec(module_class=RandomRLModule, **SPACES)
    config = config_of("PPO").multi_agent(policies={DEFAULT_MODULE_ID, "random"})
    learner = built(config, {"random": random_policy, "encoder": auxiliary_spec(Encoder)})
    assert is_trained(learner, DEFAULT_MODULE_ID)
    assert not is_trained(learner, "encoder")
    assert learner.get_optimizers_for_module("random") == []


class Frozen(RNDRLModule):
    def setup(self):
        super().setup()
        self.requires_grad_(False)


@pytest.mark.parametrize("algorithm", ["PPO", *SAC_FAMILY])
def test_a_frozen_module_is_computed_and_stays_as_it_was(algorithm):
    learner = built(config_of(algorithm), {"rnd": auxiliary_spec(Frozen)})
    before = [param.clone() for param in learner.module["rnd"].parameters()]
    assert "total_loss" in update(learner)["rnd"]
    assert all(map(torch.equal, before, learner.module["rnd"].parameters()))


# What they learn from


class Scribbler(RNDRLModule):
    """Writes into its batch."""

    def _forward_train(self, batch, **kwargs):
        batch["obs"], batch["mine"] = torch.zeros_like(batch["obs"]), batch["new_obs"]
        return super()._forward_train(batch, **kwargs)


class KeepsBatch(MultiRLModule):
    """Gets the data of all modules, as a joint forward pass does."""

    def _forward_train(self, batch, **kwargs):
        self.batch = batch
        return super()._forward_train(batch, **kwargs)


def test_a_module_gets_a_copy_of_the_policys_dict():
    specs = {"rnd": auxiliary_spec(Scribbler)}
    learner = built(config_of("PPO"), specs, policies=["p0"], multi_rl_module=KeepsBatch)
    update(learner, ["p0"])
    of_policy, of_module = learner.module.batch["p0"], learner.module.batch["rnd"]
    assert of_module["new_obs"] is of_module["mine"] is of_policy["new_obs"]
    assert of_policy["obs"].all() and "mine" not in of_policy


def test_data_in_the_batch_under_the_modules_id_come_first():
    learner = built(config_of("PPO"), {"rnd": auxiliary_spec()}, multi_rl_module=KeepsBatch)
    update(learner, (DEFAULT_MODULE_ID, "rnd"))
    batch = learner.module.batch
    assert batch["rnd"]["new_obs"] is not batch[DEFAULT_MODULE_ID]["new_obs"]


def test_several_policies_require_a_choice():
    with pytest.raises(ValueError, match=r"'rnd' .* several .* 'p0', 'p1'\. Override data_f"):
        built(config_of("PPO"), {"rnd": auxiliary_spec()}, policies=POLICIES)


@every_algorithm
def test_none_leaves_a_module_out_of_the_batch(algorithm):
    learner = built(config_of(algorithm), {"rnd": auxiliary_spec()}, LearnsFromFirst, POLICIES)
    assert is_trained(learner, policies=["p0", "p1"])
    assert not is_trained(learner, policies=["p1"])
    assert is_trained(learner, "p1", policies=["p1"])


@pytest.mark.parametrize(
    ("get_data", "message"),
    [
        (lambda batch: {"obs": 0}, r"'rnd' has no column 'new_obs', only 'obs'\. .*add_next_obs"),
        (lambda batch: batch, r"'rnd' has no .* 'p0', 'p1'\. data_for_module must return the col"),
    ],
)
def test_a_missing_column_is_named_with_the_columns_present(get_data, message):
    class WithData(AuxiliaryModules):
        def data_for_module(self, module_id, batch):
            return get_data(batch)

    learner = built(config_of("PPO"), {"rnd": auxiliary_spec()}, WithData, POLICIES)
    with pytest.raises(KeyError, match=message):
        update(learner, POLICIES)


def test_offline_evaluation_computes_the_loss_of_an_auxiliary_module():
    class Runner(AuxiliaryModulesOffline, OfflineEvaluationRunner): ...

    config = config_of("PPO")
    specs = {DEFAULT_MODULE_ID: policy_spec(config), "rnd": auxiliary_spec()}
    runner = Runner(config=config, module_spec=MultiRLModuleSpec(rl_module_specs=specs))
    batch = transitions()
    losses = runner.compute_eval_losses(fwd_out={}, batch={DEFAULT_MODULE_ID: batch})
    assert losses["rnd"] == runner.module["rnd"].forward_train(batch)["intrinsic_rewards"].mean()


# Mistakes in modules and specs


class NoParameters(RNDRLModule):
    def setup(self): ...


class Duck(TorchRLModule):
    compute_self_supervised_loss = RNDRLModule.compute_self_supervised_loss


MISTAKES = {
    r"'rnd' \(NoParameters\) has no parameters\. Create .* in setup": auxiliary_spec(NoParameters),
    r"'rnd' \(Duck\) does not implement.*Derive Duck.* file of the class": auxiliary_spec(Duck),
    r"'rnd' has no observation space.*RLModuleSpec\(observation_space=": RLModuleSpec(
        module_class=RNDRLModule, learner_only=True
    ),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_a_mistake_in_a_module_or_spec_is_named_with_the_remedy(message):
    spec = MISTAKES[message]
    with pytest.raises((TypeError, ValueError), match=message):
        built(config_of("PPO"), {"rnd": spec})
    with pytest.raises((TypeError, ValueError), match=message):
        built(config_of("PPO"), {}).add_module(module_id="rnd", module_spec=spec)


@pytest.mark.parametrize("learner_only", [False, True])
def test_an_auxiliary_module_as_the_only_module_is_rejected(learner_only):
    spec = auxiliary_spec()
    spec.learner_only = learner_only
    with pytest.raises(ValueError, match=r"'default_policy' has no policy .*another ID.* DEFAULT_"):
        built(config_of("PPO"), {DEFAULT_MODULE_ID: spec})


@every_algorithm
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda loss: None, TypeError, r"of shape \(\), got None\. Return"),
        (torch.Tensor.item, TypeError, r"of shape \(\), got 0\.\d+"),
        (lambda loss: loss.expand(8), TypeError, r"got a tensor of shape \(8,\).*mean\(\)"),
        (torch.Tensor.detach, ValueError, r"has no gradient.*without detach\(\)"),
    ],
)
def test_an_unusable_loss_is_rejected_before_the_backward_pass(algorithm, change, error, message):
    class BadLoss(RNDRLModule):
        def compute_self_supervised_loss(self, **arguments):
            return change(super().compute_self_supervised_loss(**arguments))

    learner = built(config_of(algorithm), {"rnd": auxiliary_spec(BadLoss)})
    with pytest.raises(error, match=rf"loss of module 'rnd' \(BadLoss\) .*{message}"):
        update(learner)
    assert all(param.grad is None for param in learner.module[DEFAULT_MODULE_ID].parameters())


# Several learners, whose modules are in DDP


class WithUnused(RNDRLModule):
    def setup(self):
        super().setup()
        self.unused = nn.Linear(1, 1)


@pytest.mark.usefixtures("process_group")
@every_algorithm
def test_only_several_learners_reject_a_parameter_without_a_gradient(algorithm):
    specs = {"rnd": auxiliary_spec(WithUnused)}
    assert "total_loss" in update(built(config_of(algorithm), specs))["rnd"]
    learner = built(config_of(algorithm).learners(num_learners=2), specs)
    message = r"'rnd' have no part.*: unused\.weight, unused\.bias\. Freeze"
    with pytest.raises(ValueError, match=message):
        update(learner)


@pytest.mark.usefixtures("process_group")
def test_several_learners_require_data_for_each_module():
    config = config_of("PPO").learners(num_learners=2)
    learner = built(config, {"rnd": auxiliary_spec()}, LearnsFromFirst, POLICIES)
    assert is_trained(learner, policies=POLICIES)
    with pytest.raises(ValueError, match=r"no data for 'rnd' on .* Return the data of"):
        update(learner, ["p1"])


@pytest.mark.usefixtures("process_group")
def test_several_learners_reject_a_frozen_module():
    with pytest.raises(RuntimeError, match="doesn't have any parameter that requires"):
        built(config_of("PPO").learners(num_learners=2), {"rnd": auxiliary_spec(Frozen)})
