"""Our API and RLlib's of the same name are one, for the modules that both can see."""

import subprocess
import sys
import textwrap

import gymnasium as gym
import pytest
import torch
from modules.icm import ICM
from modules.icm_rl_module import ICMRLModule
from ray.rllib.algorithms.ppo.torch.default_ppo_torch_rl_module import DefaultPPOTorchRLModule
from ray.rllib.core.rl_module.apis import SelfSupervisedLossAPI as RLlibAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from ray.rllib.examples.rl_modules.classes.intrinsic_curiosity_model_rlm import (
    IntrinsicCuriosityModel,
)

from self_supervised_loss import SelfSupervisedLossAPI


class WithLoss:
    def compute_self_supervised_loss(self, *, learner, module_id, config, batch, fwd_out, **kwargs):
        return fwd_out["loss"]


def test_our_rl_module_implements_rllibs_api():
    assert issubclass(ICMRLModule, RLlibAPI)


def test_rllibs_module_implements_our_api():
    assert issubclass(IntrinsicCuriosityModel, SelfSupervisedLossAPI)


def test_rllibs_api_itself_counts_as_ours():
    assert issubclass(RLlibAPI, SelfSupervisedLossAPI)


@pytest.mark.parametrize("api", [RLlibAPI, SelfSupervisedLossAPI])
def test_other_rl_modules_are_left_alone(api):
    class Duck(WithLoss, TorchRLModule):
        pass

    assert not issubclass(DefaultPPOTorchRLModule, api)
    assert not issubclass(Duck, api)


def test_what_is_no_rl_module_is_none_of_rllibs_business():
    assert not issubclass(ICM, RLlibAPI)


def test_only_our_api_takes_rllibs_in_and_not_its_subclasses():
    assert not issubclass(IntrinsicCuriosityModel, ICM)
    assert not issubclass(IntrinsicCuriosityModel, ICMRLModule)
    assert not issubclass(RLlibAPI, ICMRLModule)


@pytest.mark.parametrize("api", [RLlibAPI, SelfSupervisedLossAPI])
def test_a_class_registered_with_one_api_implements_both_even_if_registered_late(api):
    class Registered(WithLoss, TorchRLModule):
        pass

    assert not issubclass(Registered, (RLlibAPI, SelfSupervisedLossAPI))
    assert api.register(Registered) is Registered
    assert issubclass(Registered, RLlibAPI)
    assert issubclass(Registered, SelfSupervisedLossAPI)


@pytest.mark.parametrize(
    "bases",
    [
        (WithLoss, SelfSupervisedLossAPI, TorchRLModule),
        (WithLoss, TorchRLModule, SelfSupervisedLossAPI),
        (WithLoss, SelfSupervisedLossAPI, RLlibAPI, TorchRLModule),
        (WithLoss, RLlibAPI, TorchRLModule, SelfSupervisedLossAPI),
        (SelfSupervisedLossAPI, IntrinsicCuriosityModel),
        (IntrinsicCuriosityModel, SelfSupervisedLossAPI),
        (ICMRLModule,),
    ],
)
def test_bases_may_come_in_any_order_and_twice(bases):
    # Asked first, and so cached: register() would find an inheritance cycle in a class whose first
    # base is our API.
    assert issubclass(RLlibAPI, SelfSupervisedLossAPI)

    Module = type(TorchRLModule)("Module", bases, {})

    assert issubclass(Module, RLlibAPI)
    assert issubclass(Module, SelfSupervisedLossAPI)


def test_a_new_class_leaves_no_wrong_answer_behind():
    class Parent(SelfSupervisedLossAPI):
        pass

    class Child(WithLoss, Parent, TorchRLModule):
        pass

    assert issubclass(RLlibAPI, SelfSupervisedLossAPI)
    assert not issubclass(RLlibAPI, Parent)
    assert not issubclass(RLlibAPI, Child)
    assert not issubclass(DefaultPPOTorchRLModule, Parent)
    assert not issubclass(Parent, RLlibAPI)
    assert not issubclass(torch.nn.Linear, SelfSupervisedLossAPI)


def test_keywords_of_a_class_statement_reach_the_other_bases():
    class Named:
        def __init_subclass__(cls, *, name, **kwargs):
            super().__init_subclass__(**kwargs)
            cls.name = name

    class Module(SelfSupervisedLossAPI, Named, name="icm"):
        pass

    assert Module.name == "icm"


def test_a_misspelled_method_stops_the_module_from_being_built():
    class Misspelled(TorchRLModule, SelfSupervisedLossAPI):
        def compute_selfsupervised_loss(
            self, *, learner, module_id, config, batch, fwd_out, **kwargs
        ):
            return fwd_out["loss"]

    with pytest.raises(
        TypeError, match=r"abstract class Misspelled .*compute_self_supervised_loss"
    ):
        Misspelled(
            observation_space=gym.spaces.Box(-1, 1, (4,)),
            action_space=gym.spaces.Discrete(2),
            model_config={},
        )


DEFINE_BASE = """
    from self_supervised_loss import SelfSupervisedLossAPI

    class Base(SelfSupervisedLossAPI):
        def compute_self_supervised_loss(self, *, fwd_out, **kwargs):
            return fwd_out["loss"]

    assert not issubclass(dict, SelfSupervisedLossAPI)
"""
IMPORT_RLLIB = """
    from ray.rllib.core.rl_module.apis import SelfSupervisedLossAPI as RLlibAPI
    from ray.rllib.core.rl_module.torch import TorchRLModule
    from ray.rllib.examples.rl_modules.classes.intrinsic_curiosity_model_rlm import (
        IntrinsicCuriosityModel,
    )
"""
CHECK = """
    class Module(TorchRLModule, Base):
        pass

    assert issubclass(Module, RLlibAPI)
    assert issubclass(IntrinsicCuriosityModel, SelfSupervisedLossAPI)
    assert not issubclass(TorchRLModule, RLlibAPI)
    assert not issubclass(TorchRLModule, SelfSupervisedLossAPI)
"""
DEFINE_DIRECTLY = """
    class Direct(RLModule, Base):
        pass

    from ray.rllib.core.rl_module.apis import SelfSupervisedLossAPI as RLlibAPI

    assert issubclass(Direct, RLlibAPI)
    assert not issubclass(RLModule, RLlibAPI)
"""
HALF_IMPORTED = """
    import sys
    import types

    name = "ray.rllib.core.rl_module.apis"
    sys.modules[name] = types.ModuleType(name)
"""


SEND = """
    import sys
    from ray import cloudpickle

    sys.stdout.buffer.write(cloudpickle.dumps(Module))
"""
RECEIVE = """
    import pickle
    import sys

    Module = pickle.load(sys.stdin.buffer)
"""


def run(*parts, stdin=b""):
    script = "\n".join(textwrap.dedent(part) for part in parts)
    return subprocess.run(
        [sys.executable, "-c", script], input=stdin, stdout=subprocess.PIPE, check=True
    ).stdout


def test_our_package_may_be_imported_first_and_a_class_of_main_be_sent():
    pickled = run(HALF_IMPORTED, DEFINE_BASE, "del sys.modules[name]", IMPORT_RLLIB, CHECK, SEND)
    run(RECEIVE, IMPORT_RLLIB, "assert issubclass(Module, RLlibAPI)", stdin=pickled)


def test_rllibs_module_may_be_imported_first_and_without_its_apis():
    import_less = "import sys; from ray.rllib.core.rl_module.rl_module import RLModule"
    not_yet = "assert 'ray.rllib.core.rl_module.apis' not in sys.modules"
    run(import_less, not_yet, DEFINE_BASE, not_yet, DEFINE_DIRECTLY, IMPORT_RLLIB, CHECK)


def test_ray_is_not_imported_for_a_class_that_has_nothing_to_do_with_it():
    run(DEFINE_BASE, "import sys; assert 'ray' not in sys.modules")
