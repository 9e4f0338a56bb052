"""What the mix-in does with each module of a learner, and what it refuses."""

import pytest
import torch
from modules.rnd_rl_module import RNDRLModule
from ray.actor import _modify_class
from ray.rllib.algorithms.cql import CQLConfig
from ray.rllib.algorithms.iql import IQLConfig
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.algorithms.sac import SACConfig
from ray.rllib.algorithms.tqc import TQCConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module.torch import TorchRLModule
from ray.rllib.offline.offline_evaluation_runner import OfflineEvaluationRunner
from ray.train._internal.worker_group import create_executable_class
from torch import distributed, nn

from rllib.learners import auxiliary_spec, built, update
from self_supervised_loss.rllib import AuxiliaryModules, AuxiliaryModulesOffline

CRITICS = [SACConfig, TQCConfig, IQLConfig, CQLConfig]

every_algorithm = pytest.mark.parametrize("config_class", [PPOConfig, SACConfig])
every_critic = pytest.mark.parametrize("config_class", CRITICS)
pytestmark = pytest.mark.filterwarnings("ignore:Using a target size:UserWarning")  # RLlib's TQC


def weights(learner, module_id="rnd"):
    module = learner.module[module_id].unwrapped()
    return [param.detach().clone() for param in module.parameters() if param.requires_grad]


def is_trained(learner, module_id="rnd", policies=(DEFAULT_MODULE_ID,)):
    before = weights(learner, module_id)
    update(learner, policies)
    return not all(map(torch.equal, before, weights(learner, module_id)))


def two_policies(config, **settings):
    return config.multi_agent(
        policies={"p0", "p1"}, policy_mapping_fn=lambda agent_id, episode: agent_id, **settings
    )


class LearnsFromP1(AuxiliaryModules):
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
    config = two_policies(config_class(), policies_to_train=["p0"])
    learner = built(config, {"rnd": auxiliary_spec()}, LearnsFromP0, policies=("p0", "p1"))
    assert is_trained(learner, policies=("p0", "p1"))
    assert not is_trained(learner, "p1", policies=("p0", "p1"))


class LearnsFromP0(AuxiliaryModules):
    def data_for_module(self, module_id, batch):
        return batch["p0"]


@every_algorithm
@pytest.mark.parametrize("decision", [True, False])
def test_a_function_decides_about_all_modules(config_class, decision):
    config = config_class().multi_agent(
        policies_to_train=lambda module_id, batch: decision or module_id != "rnd"
    )
    assert is_trained(built(config, {"rnd": auxiliary_spec()})) == decision


@every_algorithm
def test_a_module_that_is_listed_among_the_policies_too_is_trained(config_class):
    config = listing_as_policy(config_class(), "rnd")
    assert is_trained(built(config, {"rnd": auxiliary_spec()}))


@every_algorithm
def test_a_module_that_is_added_later_is_trained(config_class):
    learner = built(config_class(), {})
    learner.add_module(module_id="rnd", module_spec=auxiliary_spec())
    assert is_trained(learner)


class WithGenericForward(RNDRLModule):
    def _forward(self, batch, **kwargs):
        return super()._forward_train(batch, **kwargs)


def test_where_a_module_could_be_taken_for_a_policy_it_is_refused():
    config = listing_as_policy(PPOConfig(), "rnd")
    with pytest.raises(ValueError, match=r"'rnd' \(WithGenericForward\) is learner_only, but"):
        built(config, {"rnd": auxiliary_spec(WithGenericForward)})


def listing_as_policy(config, module_id):
    policies = {DEFAULT_MODULE_ID, module_id}
    return config.multi_agent(policies=policies, policy_mapping_fn=lambda *_, **__: None)


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


class KeepsBatch(AuxiliaryModules):
    def compute_losses(self, *, fwd_out, batch):
        self.batch = batch
        return super().compute_losses(fwd_out=fwd_out, batch=batch)


@every_algorithm
def test_a_module_gets_a_copy_of_the_dict_of_its_policy(config_class):
    learner = built(config_class(), {"rnd": auxiliary_spec(Scribbler)}, KeepsBatch)
    update(learner)
    of_policy, of_module = learner.batch[DEFAULT_MODULE_ID], learner.module["rnd"].batch
    assert of_module["new_obs"] is of_policy["new_obs"]
    assert of_policy["obs"].all() and "mine" not in of_policy


def test_a_single_policy_of_any_name_is_found():
    config = PPOConfig().multi_agent(
        policies={"p0"}, policy_mapping_fn=lambda agent_id, episode: "p0"
    )
    assert is_trained(built(config, {"rnd": auxiliary_spec()}, policies=("p0",)), policies=("p0",))


def test_with_several_policies_an_error_asks_for_the_data():
    with pytest.raises(
        ValueError, match=r"'rnd' could learn from each of.*LearnerOfTest\.data_for_"
    ):
        built(two_policies(PPOConfig()), {"rnd": auxiliary_spec()}, policies=("p0", "p1"))


def test_with_several_policies_an_override_says_what_a_module_learns_from():
    class KeepsChoice(LearnsFromP1):
        def compute_losses(self, *, fwd_out, batch):
            self.chosen = self.data_for_module("rnd", batch) is batch["p1"]
            return super().compute_losses(fwd_out=fwd_out, batch=batch)

    config = two_policies(PPOConfig())
    learner = built(config, {"rnd": auxiliary_spec()}, KeepsChoice, policies=("p0", "p1"))
    assert is_trained(learner, policies=("p0", "p1"))
    assert learner.chosen


# Their optimizers


@every_critic
def test_the_learning_rate_is_the_modules_own_or_else_that_of_the_critic(config_class):
    config = config_class().training(lr=None, critic_lr=0.01)
    config.rl_module(algorithm_config_overrides_per_module={"fast": config_class.overrides(lr=0.1)})
    learner = built(config, {"rnd": auxiliary_spec(), "fast": auxiliary_spec()})
    for module_id, lr in (("rnd", 0.01), ("fast", 0.1)):
        assert learner.get_optimizer(module_id).param_groups[0]["lr"] == lr
        assert is_trained(learner, module_id)


class Frozen(RNDRLModule):
    def setup(self):
        super().setup()
        self.requires_grad_(False)


@pytest.mark.parametrize("config_class", [PPOConfig, *CRITICS])
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
    class PPOLearner(AuxiliaryModules, OfPoliciesAlone): ...

    assert is_trained(built(PPOConfig(), {"rnd": auxiliary_spec()}, PPOLearner))


# Several learners


@pytest.fixture
def process_group():
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


class WithUnused(RNDRLModule):
    def setup(self):
        super().setup()
        self.unused = nn.Linear(1, 1)


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
    learner = built(PPOConfig().learners(num_learners=2), {"rnd": auxiliary_spec()})
    module = learner.module["rnd"].unwrapped()
    before = [parameter.detach().clone() for parameter in module.predictor_net.parameters()]
    update(learner)
    assert not any(map(torch.equal, before, module.predictor_net.parameters()))
