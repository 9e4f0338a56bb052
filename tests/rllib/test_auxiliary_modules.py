"""What the mix-in does with each module of a learner, and what it refuses."""

import pytest
import torch
from modules.rnd_rl_module import RNDRLModule
from ray.actor import _modify_class
from ray.rllib.algorithms.cql import CQLConfig
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.algorithms.sac import SACConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module.torch import TorchRLModule
from ray.rllib.offline.offline_evaluation_runner import OfflineEvaluationRunner
from ray.train._internal.worker_group import create_executable_class
from torch import distributed, nn

from rllib.learners import SAC_FAMILY, auxiliary_spec, built, update
from self_supervised_loss.rllib import AuxiliaryModules, AuxiliaryModulesOffline

POLICIES = ("p0", "p1")

every_algorithm = pytest.mark.parametrize("config_class", [PPOConfig, SACConfig])
pytestmark = pytest.mark.filterwarnings("ignore:Using a target size:UserWarning")  # RLlib's TQC


def is_trained(learner, module_id="rnd", policies=(DEFAULT_MODULE_ID,)):
    module = learner.module[module_id].unwrapped()
    params = [param for param in module.parameters() if param.requires_grad]
    before = [param.detach().clone() for param in params]
    update(learner, policies)
    changed = {not torch.equal(old, new) for old, new in zip(before, params, strict=True)}
    assert len(changed) == 1  # all parameters, or none
    return changed.pop()


def with_policies(config, *policies, **settings):
    return config.multi_agent(
        policies={*policies}, policy_mapping_fn=lambda agent_id, episode: agent_id, **settings
    )


class KeepsBatch(AuxiliaryModules):
    def compute_losses(self, *, fwd_out, batch):
        self.batch = batch
        return super().compute_losses(fwd_out=fwd_out, batch=batch)


class LearnsFromP1(KeepsBatch):
    def data_for_module(self, module_id, batch):
        return batch["p1"]


# The class


@pytest.mark.parametrize(
    ("rllibs", "mix_in"),
    [(PPOTorchLearner, AuxiliaryModules), (OfflineEvaluationRunner, AuxiliaryModulesOffline)],
)
def test_a_mix_in_behind_rllibs_class_is_refused(rllibs, mix_in):
    order = rf"class Mixed\({mix_in.__name__}, {rllibs.__name__}\)"
    with pytest.raises(TypeError, match=rf"{mix_in.__name__} has no effect.*{order}"):
        type("Mixed", (rllibs, mix_in), {})


def test_classes_that_ray_derives_from_a_learner_pass():
    class PPOLearner(AuxiliaryModules, PPOTorchLearner): ...

    assert issubclass(_modify_class(create_executable_class(PPOLearner)), PPOLearner)


# Which modules are trained


@every_algorithm
def test_a_list_of_policies_to_train_says_nothing_of_auxiliary_modules(config_class):
    config = with_policies(config_class(), *POLICIES, policies_to_train=["p1"])
    learner = built(config, {"rnd": auxiliary_spec()}, LearnsFromP1, POLICIES)
    assert is_trained(learner, policies=POLICIES)
    assert not is_trained(learner, "p0", policies=POLICIES)


@every_algorithm
@pytest.mark.parametrize("decision", [True, False])
def test_a_function_decides_about_all_modules(config_class, decision):
    config = config_class().multi_agent(
        policies_to_train=lambda module_id, batch: decision or module_id != "rnd"
    )
    assert is_trained(built(config, {"rnd": auxiliary_spec()})) == decision


@every_algorithm
def test_a_module_that_is_listed_among_the_policies_too_is_trained(config_class):
    config = with_policies(config_class(), DEFAULT_MODULE_ID, "rnd")
    assert is_trained(built(config, {"rnd": auxiliary_spec()}))


class CanAct(RNDRLModule):
    def _forward(self, batch, **kwargs):
        return super()._forward_train(batch, **kwargs)


def test_a_module_that_could_act_is_trained():
    assert is_trained(built(PPOConfig(), {"rnd": auxiliary_spec(CanAct)}))


def test_a_module_that_could_act_and_is_listed_among_the_policies_is_refused():
    config = with_policies(PPOConfig(), DEFAULT_MODULE_ID, "rnd")
    with pytest.raises(ValueError, match=r"'rnd' \(CanAct\) is learner_only, but"):
        built(config, {"rnd": auxiliary_spec(CanAct)})


@every_algorithm
def test_a_module_that_is_added_later_is_trained(config_class):
    learner = built(config_class(), {})
    learner.add_module(module_id="rnd", module_spec=auxiliary_spec())
    assert is_trained(learner)


def test_a_module_that_has_the_method_without_the_api_is_refused():
    class Duck(TorchRLModule):
        compute_self_supervised_loss = RNDRLModule.compute_self_supervised_loss

    with pytest.raises(TypeError, match=r"'duck' \(Duck\) does not implement.*Derive Duck"):
        built(PPOConfig(), {"duck": auxiliary_spec(Duck)})


def test_a_module_without_a_loss_such_as_a_shared_encoder_is_left_alone():
    class Encoder(TorchRLModule):
        def setup(self):
            self.net = nn.Linear(3, 2)

    assert not is_trained(built(PPOConfig(), {"encoder": auxiliary_spec(Encoder)}), "encoder")


# What they learn from


class Scribbler(RNDRLModule):
    """Keeps its batch, and writes into it."""

    def _forward_train(self, batch, **kwargs):
        batch["obs"], batch["mine"] = torch.zeros_like(batch["obs"]), batch["new_obs"]
        self.batch = batch
        return super()._forward_train(batch, **kwargs)


@every_algorithm
def test_a_module_gets_a_copy_of_the_dict_of_its_policy(config_class):
    learner = built(config_class(), {"rnd": auxiliary_spec(Scribbler)}, KeepsBatch)
    update(learner)
    of_policy, of_module = learner.batch[DEFAULT_MODULE_ID], learner.module["rnd"].batch
    assert of_module["new_obs"] is of_policy["new_obs"]
    assert of_policy["obs"].all() and "mine" not in of_policy


def test_a_module_that_comes_with_data_of_its_own_keeps_them():
    learner = built(PPOConfig(), {"rnd": auxiliary_spec(Scribbler)}, KeepsBatch)
    update(learner, (DEFAULT_MODULE_ID, "rnd"))
    assert learner.module["rnd"].batch["new_obs"] is learner.batch["rnd"]["new_obs"]


def test_a_single_policy_of_any_name_is_found():
    config = with_policies(PPOConfig(), "p0")
    assert is_trained(built(config, {"rnd": auxiliary_spec()}, policies=["p0"]), policies=["p0"])


def test_with_several_policies_an_error_asks_for_the_data():
    config = with_policies(PPOConfig(), *POLICIES)
    with pytest.raises(
        ValueError, match=r"'rnd' could learn from each of.*LearnerOfTest\.data_for_"
    ):
        built(config, {"rnd": auxiliary_spec()}, policies=POLICIES)


def test_with_several_policies_an_override_says_what_a_module_learns_from():
    config = with_policies(PPOConfig(), *POLICIES)
    learner = built(config, {"rnd": auxiliary_spec(Scribbler)}, LearnsFromP1, POLICIES)
    update(learner, POLICIES)
    assert learner.module["rnd"].batch["new_obs"] is learner.batch["p1"]["new_obs"]


# Their optimizers


@pytest.mark.parametrize("config_class", SAC_FAMILY)
def test_the_learning_rate_is_the_modules_own_or_else_that_of_the_critic(config_class):
    config = config_class().training(lr=None, critic_lr=0.01)
    config.rl_module(algorithm_config_overrides_per_module={"fast": config_class.overrides(lr=0.1)})
    learner = built(config, {"rnd": auxiliary_spec(), "fast": auxiliary_spec()})
    for module_id, lr in (("rnd", 0.01), ("fast", 0.1)):
        assert learner.get_optimizer(module_id).param_groups[0]["lr"] == lr
        assert is_trained(learner, module_id)
    assert learner.config.lr is None


class Frozen(RNDRLModule):
    def setup(self):
        super().setup()
        self.requires_grad_(False)


@pytest.mark.parametrize("config_class", [PPOConfig, *SAC_FAMILY])
def test_a_module_with_all_parameters_frozen_is_computed_and_stays_as_it_was(config_class):
    config = config_class().training(lr=None) if config_class is CQLConfig else config_class()
    learner = built(config, {"rnd": auxiliary_spec(Frozen)})
    before = [param.clone() for param in learner.module["rnd"].parameters()]
    assert "total_loss" in update(learner)["rnd"]
    assert all(map(torch.equal, before, learner.module["rnd"].parameters()))


class OfPoliciesAlone:
    def configure_optimizers_for_module(self, module_id, config=None):
        if module_id == DEFAULT_MODULE_ID:
            super().configure_optimizers_for_module(module_id=module_id, config=config)


class GivesNone(OfPoliciesAlone, AuxiliaryModules): ...


class BehindTheMixIn(AuxiliaryModules, OfPoliciesAlone): ...


no_optimizer = pytest.raises(
    ValueError, match=r"'rnd' have no optimizer: predictor_net\.0\.weight, .*super"
)


def test_a_learner_that_gives_a_module_no_optimizer_is_refused():
    with no_optimizer:
        built(PPOConfig(), {"rnd": auxiliary_spec()}, GivesNone)


def test_a_module_that_gets_no_optimizer_later_is_refused():
    learner = built(PPOConfig(), {}, GivesNone)
    with no_optimizer:
        learner.add_module(module_id="rnd", module_spec=auxiliary_spec())


def test_a_learner_behind_the_mix_in_may_configure_optimizers_for_policies_alone():
    assert is_trained(built(PPOConfig(), {"rnd": auxiliary_spec()}, BehindTheMixIn))


# Several learners, whose modules are in DDP


@pytest.fixture
def process_group():
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


class WithUnused(RNDRLModule):
    def setup(self):
        super().setup()
        self.unused = nn.Linear(1, 1)


def test_a_parameter_that_the_loss_does_not_use_is_let_be_on_one_learner():
    assert "total_loss" in update(built(PPOConfig(), {"rnd": auxiliary_spec(WithUnused)}))["rnd"]


@pytest.mark.usefixtures("process_group")
@every_algorithm
def test_a_parameter_that_the_loss_does_not_use_is_named_on_several_learners(config_class):
    learner = built(config_class().learners(num_learners=2), {"rnd": auxiliary_spec(WithUnused)})
    with pytest.raises(
        ValueError, match=r"'rnd' have no part.*: unused\.weight, unused\.bias\. Freeze"
    ):
        update(learner)


@pytest.mark.usefixtures("process_group")
def test_a_module_without_unused_parameters_is_trained_on_several_learners():
    assert is_trained(built(PPOConfig().learners(num_learners=2), {"rnd": auxiliary_spec()}))


@pytest.mark.usefixtures("process_group")
def test_several_learners_refuse_a_module_with_all_parameters_frozen():
    with pytest.raises(RuntimeError, match="doesn't have any parameter that requires"):
        built(PPOConfig().learners(num_learners=2), {"rnd": auxiliary_spec(Frozen)})
