"""Which loss a module gets, and with what arguments. No framework is needed."""

import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any

import pytest

from self_supervised_loss import Learner, MetricsLogger, SelfSupervisedLossAPI


class Curious(SelfSupervisedLossAPI):
    """Brings a loss that tells what it was called with."""

    def compute_self_supervised_loss(self, **arguments):
        return "own", self, arguments


class Plain:
    """Brings no loss."""


class AnsweringLearner(Learner):
    def compute_loss_for_module(self, **arguments):
        return "fallback", None, arguments


def loss_of(module, learner_class=AnsweringLearner):
    learner = learner_class(module={"m": module})
    return learner.compute_losses(fwd_out={"m": {}}, batch={"m": {}})["m"]


def chooses_own_loss(module, learner_class=AnsweringLearner):
    return loss_of(module, learner_class)[0] == "own"


# Who is asked


def test_a_subclass_is_asked_for_its_loss():
    assert chooses_own_loss(Curious())


def test_a_module_without_a_loss_gets_the_learners():
    assert not chooses_own_loss(Plain())


def test_a_registered_class_is_asked_for_its_loss():
    @SelfSupervisedLossAPI.register
    class Registered:
        def compute_self_supervised_loss(self, **arguments):
            return "own", self, arguments

    assert chooses_own_loss(Registered())


def test_a_class_may_be_registered_after_its_modules_were_trained():
    class Late:
        def compute_self_supervised_loss(self, **arguments):
            return "own", self, arguments

    learner = AnsweringLearner(module={"m": Late()})
    with pytest.warns(UserWarning, match="Late"):
        assert learner.compute_losses(fwd_out={"m": {}}, batch={"m": {}})["m"][0] == "fallback"
    SelfSupervisedLossAPI.register(Late)
    assert learner.compute_losses(fwd_out={"m": {}}, batch={"m": {}})["m"][0] == "own"


def test_a_method_of_the_right_name_is_not_enough_and_the_class_is_told_once():
    class DuckTyped:
        def compute_self_supervised_loss(self, **arguments):
            raise AssertionError("called")

    learner = AnsweringLearner(module={"a": DuckTyped(), "b": DuckTyped()})
    inputs = {"a": {}, "b": {}}
    with pytest.warns(UserWarning) as warned:
        losses = learner.compute_losses(fwd_out=inputs, batch=inputs)
        learner.compute_losses(fwd_out=inputs, batch=inputs)
    assert [kind for kind, *_ in losses.values()] == ["fallback", "fallback"]
    (warning,) = warned
    assert "DuckTyped.compute_self_supervised_loss is not called" in str(warning.message)
    assert "Derive DuckTyped from SelfSupervisedLossAPI" in str(warning.message)


def test_the_warning_points_at_the_line_that_asked_for_the_losses():
    class DuckTyped:
        def compute_self_supervised_loss(self, **arguments): ...

    learner = AnsweringLearner(module={"m": DuckTyped()})
    with pytest.warns(UserWarning, match="DuckTyped") as warned:
        learner.compute_losses(fwd_out={"m": {}}, batch={"m": {}})
    assert warned[0].filename == __file__


def test_the_warning_is_an_error_each_time_if_warnings_are_errors():
    class DuckTyped:
        def compute_self_supervised_loss(self, **arguments): ...

    for _ in range(2):
        with pytest.raises(UserWarning, match="DuckTyped"):
            loss_of(DuckTyped())


def test_the_warning_keeps_no_class_alive():
    import gc
    import weakref

    def warn_of_a_class_that_is_dropped():
        class DuckTyped:
            def compute_self_supervised_loss(self, **arguments): ...

        with pytest.warns(UserWarning):
            loss_of(DuckTyped())
        return weakref.ref(DuckTyped)

    dropped = warn_of_a_class_that_is_dropped()
    gc.collect()
    assert dropped() is None


def test_a_module_that_lacks_the_method_cannot_be_made():
    class Misspelt(SelfSupervisedLossAPI):
        def compute_selfsupervised_loss(self, **arguments): ...

    with pytest.raises(TypeError, match="compute_self_supervised_loss"):
        Misspelt()


def test_the_interface_adds_no_state_to_a_module():
    class Slotted(SelfSupervisedLossAPI):
        __slots__ = ("weight",)

        def compute_self_supervised_loss(self, **arguments): ...

    assert not hasattr(Slotted(), "__dict__")


# What it is asked with


def test_the_loss_method_gets_the_learner_and_what_belongs_to_its_module():
    module, config = Curious(), object()
    learner = AnsweringLearner(module={"a": module, "b": Plain()}, config=config)
    fwd_out = {"b": {"x": 1}, "a": {"x": 2}}
    batch = {"a": {"obs": 3}, "b": {"obs": 4}, "c": {"obs": 5}}

    losses = learner.compute_losses(fwd_out=fwd_out, batch=batch, others_loss_per_module=[6])

    assert list(losses) == ["b", "a"]
    assert losses["a"] == (
        "own",
        module,
        {
            "learner": learner,
            "module_id": "a",
            "config": config,
            "batch": {"obs": 3},
            "fwd_out": {"x": 2},
            "others_loss_per_module": [6],
        },
    )
    assert losses["b"] == (
        "fallback",
        None,
        {
            "module_id": "b",
            "config": config,
            "batch": {"obs": 4},
            "fwd_out": {"x": 1},
            "others_loss_per_module": [6],
        },
    )


def test_a_config_may_have_one_for_each_module():
    class Config:
        def get_config_for_module(self, module_id):
            return f"config of {module_id}"

    learner = AnsweringLearner(module={"a": Curious(), "b": Plain()}, config=Config())
    losses = learner.compute_losses(fwd_out={"a": {}, "b": {}}, batch={"a": {}, "b": {}})
    assert [arguments["config"] for _, _, arguments in losses.values()] == ["config of a", "config of b"]


def test_the_config_of_a_module_can_be_asked_for():
    class Config:
        def get_config_for_module(self, module_id):
            return f"config of {module_id}"

    config = {"lr": 0.1}
    assert Learner(module={}, config=Config()).get_config_for_module("a") == "config of a"
    assert Learner(module={}, config=config).get_config_for_module("a") is config


def test_a_learner_may_choose_the_config_of_a_module():
    class Config:
        def get_config_for_module(self, module_id):
            return f"config of {module_id}"

    class ChoosingLearner(AnsweringLearner):
        def get_config_for_module(self, module_id):
            return f"chosen {super().get_config_for_module(module_id)}"

    choosing = ChoosingLearner(module={"m": Curious()}, config=Config())
    patched = AnsweringLearner(module={"m": Curious()}, config=Config())
    patched.get_config_for_module = "patched config of {}".format
    for learner, config in ((choosing, "chosen config of m"), (patched, "patched config of m")):
        _, _, arguments = learner.compute_losses(fwd_out={"m": {}}, batch={"m": {}})["m"]
        assert arguments["config"] == config


def test_a_config_that_has_just_any_attribute_is_passed_as_it_is():
    class Permissive:
        def __getattr__(self, name):
            return {name: "nothing that can be called"}

    config = Permissive()
    learner = AnsweringLearner(module={"m": Curious()}, config=config)
    _, _, arguments = learner.compute_losses(fwd_out={"m": {}}, batch={"m": {}})["m"]
    assert arguments["config"] is config


def test_modules_may_come_and_go():
    modules: dict[str, Any] = {}
    learner = AnsweringLearner(module=modules)
    modules["late"] = Curious()
    assert list(learner.compute_losses(fwd_out={"late": {}}, batch={"late": {}})) == ["late"]
    assert learner.compute_losses(fwd_out={}, batch={"late": {}}) == {}


def test_any_mapping_will_do():
    proxy = MappingProxyType({"m": Curious()})
    learner = AnsweringLearner(module=proxy)
    assert learner.module is proxy
    losses = learner.compute_losses(fwd_out=MappingProxyType({"m": {}}), batch=MappingProxyType({"m": {}}))
    assert losses["m"][0] == "own"


def test_a_module_may_compute_the_losses_of_others():
    class Outer(Curious):
        def compute_self_supervised_loss(self, *, learner, **arguments):
            return "own", learner.compute_losses(fwd_out={"inner": {}}, batch={"inner": {}}), arguments

    learner = AnsweringLearner(module={"outer": Outer(), "inner": Curious()})
    losses = learner.compute_losses(fwd_out={"outer": {}}, batch={"outer": {}})
    assert losses["outer"][1]["inner"][1] is learner.module["inner"]


# What it is not to do


class Untouchable:
    """Raises at whatever a dispatcher has no business doing."""

    def __bool__(self):
        raise AssertionError("tested for truth")

    def __len__(self):
        raise AssertionError("asked for its length")

    def __eq__(self, other):
        raise AssertionError("tested for equality")

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("bases", [(Untouchable, Curious), (Untouchable, Plain)])
def test_modules_are_not_touched(bases):
    module = type("UntouchableModule", bases, {})()
    kind, asked, _ = loss_of(module)
    assert kind == ("own" if issubclass(bases[1], Curious) else "fallback")
    assert asked is (module if kind == "own" else None)


def test_losses_configs_and_data_are_not_touched():
    class Touchy(Curious):
        def compute_self_supervised_loss(self, *, config, batch, fwd_out, **arguments):
            assert config is thing and batch is thing and fwd_out is thing
            return thing

    class TouchyLearner(Learner):
        def compute_loss_for_module(self, **arguments):
            return thing

    thing = Untouchable()
    learner = TouchyLearner(module={"own": Touchy(), "fallback": Plain()}, config=thing, metrics=thing)
    losses = learner.compute_losses(fwd_out={"own": thing, "fallback": thing}, batch={"own": thing, "fallback": thing})
    assert all(loss is thing for loss in losses.values())
    assert learner.metrics is thing


# Wrappers


class Wrapper:
    """Wraps a module in the way of RLlib."""

    def __init__(self, wrapped):
        self.wrapped = wrapped

    def unwrapped(self):
        return self.wrapped


def test_a_wrapped_module_is_asked_for_its_loss():
    module = Curious()
    assert loss_of(Wrapper(Wrapper(module)))[1] is module


def test_a_wrapper_that_brings_a_loss_is_asked_itself():
    class CuriousWrapper(Wrapper, Curious): ...

    wrapper = CuriousWrapper(Curious())
    assert loss_of(wrapper)[1] is wrapper


def test_a_wrapper_that_is_registered_is_asked_itself():
    @SelfSupervisedLossAPI.register
    class Registered(Wrapper):
        def compute_self_supervised_loss(self, **arguments):
            return "own", self, arguments

    wrapper = Registered(Curious())
    assert loss_of(wrapper)[1] is wrapper


def test_unwrap_ends_at_the_innermost_module():
    plain = Plain()
    assert AnsweringLearner(module={}).unwrap(Wrapper(Wrapper(plain))) is plain


def test_a_module_that_unwraps_to_itself_is_no_wrapper():
    class OwnUnwrapped(Plain):
        def unwrapped(self):
            return self

    module = OwnUnwrapped()
    assert AnsweringLearner(module={}).unwrap(module) is module
    assert not chooses_own_loss(module)


@pytest.mark.parametrize("attribute", ["module", "_orig_mod", "_forward_module", "unwrapped"])
def test_a_module_that_merely_has_a_child_of_that_name_is_no_wrapper(attribute):
    parent = Plain()
    setattr(parent, attribute, Curious())
    assert not chooses_own_loss(parent)


def test_a_class_that_merely_has_the_name_of_a_wrapper_is_no_wrapper():
    class DistributedDataParallel:
        module = Curious()

    assert not chooses_own_loss(DistributedDataParallel())


class Box:
    def __init__(self, content):
        self.content = content


class BoxLearner(AnsweringLearner):
    def unwrap(self, module):
        return self.unwrap(module.content) if isinstance(module, Box) else super().unwrap(module)


@pytest.mark.parametrize("layers", [(Box,), (Box, Box), (Box, Wrapper), (Wrapper, Box), (Wrapper, Box, Wrapper, Box)])
def test_unwrap_can_be_taught_another_wrapper(layers):
    module = wrapped = Curious()
    for layer in layers:
        wrapped = layer(wrapped)
    assert loss_of(wrapped, BoxLearner)[1] is module


# Copies and threads


class Counting(SelfSupervisedLossAPI):
    def compute_self_supervised_loss(self, *, learner, module_id, batch, **arguments):
        learner.metrics.log_value((module_id, "loss"), batch["obs"])
        return batch["obs"]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda learner: pickle.loads(pickle.dumps(learner))])
def test_a_learner_can_be_copied_and_goes_on_by_itself(duplicate):
    learner = Learner(module={"m": Counting()}, config={"lr": 0.1})
    learner.compute_losses(fwd_out={"m": {}}, batch={"m": {"obs": 1.0}})
    twin = duplicate(learner)
    twin.compute_losses(fwd_out={"m": {}}, batch={"m": {"obs": 3.0}})
    assert twin.config == learner.config
    assert twin.module["m"] is not learner.module["m"]
    assert twin.metrics.reduce() == {"m": {"loss": 2.0}}
    assert learner.metrics.reduce() == {"m": {"loss": 1.0}}


def test_threads_that_share_a_learner_get_their_own_answers():
    learner = AnsweringLearner(module={"own": Curious(), "fallback": Plain()})
    all_at_once = threading.Barrier(8)

    def dispatch(thread):
        all_at_once.wait()
        for call in range(500):
            inputs = {module_id: {"obs": (thread, call)} for module_id in learner.module}
            losses = learner.compute_losses(fwd_out=inputs, batch=inputs)
            for kind, (answered, _, arguments) in losses.items():
                assert answered == kind
                assert arguments["batch"] == arguments["fwd_out"] == {"obs": (thread, call)}
        return thread

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(dispatch, range(8))) == list(range(8))


def test_each_learner_has_a_metrics_logger_of_its_own():
    one, other = Learner(module={}), Learner(module={})
    assert isinstance(one.metrics, MetricsLogger)
    assert one.metrics is not other.metrics
