"""A module of our API implements RLlib's API of the same name, and the other way round."""

import pickle
import subprocess
import sys
import textwrap

import pytest
from modules.icm_rl_module import ICMRLModule
from ray.rllib.core.rl_module.apis import SelfSupervisedLossAPI as RLlibAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from ray.rllib.examples.rl_modules.classes.intrinsic_curiosity_model_rlm import (
    IntrinsicCuriosityModel,
)

from rllib.learners import auxiliary_spec
from self_supervised_loss import SelfSupervisedLossAPI


@pytest.mark.parametrize(
    "bases",
    [
        (SelfSupervisedLossAPI, TorchRLModule),
        (TorchRLModule, SelfSupervisedLossAPI),
        (SelfSupervisedLossAPI, RLlibAPI, TorchRLModule),
        (RLlibAPI, TorchRLModule, SelfSupervisedLossAPI),
        (SelfSupervisedLossAPI, IntrinsicCuriosityModel),
        (IntrinsicCuriosityModel, SelfSupervisedLossAPI),
        (IntrinsicCuriosityModel,),
        (ICMRLModule,),
    ],
)
def test_a_module_implements_both_apis_whatever_the_order_of_its_bases(bases):
    # The cached answer makes register() find a cycle in a class whose first base is our API.
    assert issubclass(RLlibAPI, SelfSupervisedLossAPI)

    Module = type(TorchRLModule)("Module", bases, {})

    assert issubclass(Module, RLlibAPI)
    assert issubclass(Module, SelfSupervisedLossAPI)


@pytest.mark.parametrize("api", [RLlibAPI, SelfSupervisedLossAPI])
def test_a_class_registered_late_with_one_api_implements_both(api):
    class Registered(TorchRLModule): ...

    assert not issubclass(Registered, (RLlibAPI, SelfSupervisedLossAPI))
    assert api.register(Registered) is Registered
    assert issubclass(Registered, RLlibAPI)
    assert issubclass(Registered, SelfSupervisedLossAPI)


def test_keywords_of_a_class_statement_reach_the_other_bases():
    class Named:
        def __init_subclass__(cls, *, name, **kwargs):
            super().__init_subclass__(**kwargs)
            cls.name = name

    class Module(SelfSupervisedLossAPI, Named, name="icm"): ...

    assert Module.name == "icm"


def test_a_module_with_a_misspelled_method_cannot_be_built():
    class Misspelled(TorchRLModule, SelfSupervisedLossAPI):
        def compute_selfsupervised_loss(self, **kwargs): ...

    with pytest.raises(TypeError, match=r"class Misspelled .*compute_self_supervised_loss"):
        auxiliary_spec(Misspelled).build()


# In processes that import RLlib and our package in turn

DEFINE_BASE = """
    from self_supervised_loss import SelfSupervisedLossAPI

    class Base(SelfSupervisedLossAPI):
        def compute_self_supervised_loss(self, *, fwd_out, **kwargs):
            return fwd_out["loss"]

    assert not issubclass(dict, SelfSupervisedLossAPI)
"""
CHECK_WITH_RLLIB = """
    from ray.rllib.core.rl_module.apis import SelfSupervisedLossAPI as RLlibAPI
    from ray.rllib.core.rl_module.torch import TorchRLModule
    from ray.rllib.examples.rl_modules.classes.intrinsic_curiosity_model_rlm import (
        IntrinsicCuriosityModel,
    )

    class Module(TorchRLModule, Base):
        pass

    assert issubclass(Module, RLlibAPI)
    assert issubclass(IntrinsicCuriosityModel, SelfSupervisedLossAPI)
    assert not issubclass(TorchRLModule, (RLlibAPI, SelfSupervisedLossAPI))
"""


def run(*parts):
    script = "\n".join(map(textwrap.dedent, parts))
    return subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=True).stdout


def test_our_package_may_be_imported_before_rllib():
    imported_halfway = """
        import sys
        import types

        name = "ray.rllib.core.rl_module.apis"
        sys.modules[name] = types.ModuleType(name)
    """
    imported_wholly = "del sys.modules[name]"
    # A class of the main program is sent by value.
    send = """
        from ray import cloudpickle

        sys.stdout.buffer.write(cloudpickle.dumps(Module))
    """
    sent = run(imported_halfway, DEFINE_BASE, imported_wholly, CHECK_WITH_RLLIB, send)
    assert issubclass(pickle.loads(sent), RLlibAPI)


def test_rllibs_modules_may_be_imported_first_without_their_apis():
    import_module = "import sys; from ray.rllib.core.rl_module.rl_module import RLModule"
    not_yet = "assert 'ray.rllib.core.rl_module.apis' not in sys.modules"
    check_before_the_rest = """
        class Direct(RLModule, Base):
            pass

        from ray.rllib.core.rl_module.apis import SelfSupervisedLossAPI as RLlibAPI

        assert issubclass(Direct, RLlibAPI)
        assert not issubclass(RLModule, RLlibAPI)
    """
    run(import_module, not_yet, DEFINE_BASE, not_yet, check_before_the_rest, CHECK_WITH_RLLIB)


def test_a_class_outside_rllib_does_not_import_ray():
    run(DEFINE_BASE, "import sys; assert 'ray' not in sys.modules")
