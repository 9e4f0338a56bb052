"""What bad input gets: an error that names what was wrong and what to do."""

import sys
from types import SimpleNamespace

import pytest

from self_supervised_loss import Learner, MetricsLogger, SelfSupervisedLossAPI
from self_supervised_loss.testing import check_module


class Curious(SelfSupervisedLossAPI):
    def __init__(self, loss=0.0, error=None):
        self.loss, self.error = loss, error

    def compute_self_supervised_loss(self, **arguments):
        if self.error is not None:
            raise self.error
        return self.loss


class Plain: ...


class Wrapper:
    def __init__(self, wrapped):
        self.wrapped = wrapped

    def unwrapped(self):
        return self.wrapped


class Sequence(Plain):
    """Indexed by position, as torch.nn.Sequential is."""

    def __getitem__(self, position): ...


@pytest.mark.parametrize("module", [Curious(), Sequence(), [Curious()], "icm", None, Curious])
def test_a_module_that_is_no_mapping_is_refused_with_the_mapping_to_write(module):
    with pytest.raises(TypeError) as raised:
        Learner(module=module)
    name = type(module).__name__
    assert str(raised.value).endswith(
        f'but is a {name}. Write Learner(module={{"my_module": my_module}}).'
    )


def test_a_wrapper_around_all_modules_is_answered_with_wrap_each_module():
    with pytest.raises(TypeError) as raised:
        Learner(module=Wrapper(Wrapper({"icm": Curious()})))
    assert str(raised.value).endswith(
        "but is a Wrapper. Wrap each module in it, not the dict of all modules."
    )


def test_an_id_that_is_missing_is_named():
    learner = Learner(module={"icm": Curious(), "rnd": Curious()})
    for fwd_out, error in {
        "imc": "'imc' is in fwd_out but not in module, which has ['icm', 'rnd']",
        "rnd": "'rnd' is in fwd_out but not in batch, which has ['icm', 'pi']",
    }.items():
        with pytest.raises(KeyError) as raised:
            learner.compute_losses(fwd_out={fwd_out: {}}, batch={"icm": {}, "pi": {}})
        assert raised.value.args == (error,)
        assert isinstance(raised.value.__cause__, KeyError)  # a mapping's own may say more


@pytest.mark.parametrize("lazy", ["module", "batch"])
def test_an_id_that_is_there_but_cannot_be_loaded_is_not_said_to_be_missing(lazy):
    class Loader(dict):
        def __getitem__(self, module_id):
            raise KeyError("file not found")

    mappings = {"module": {"icm": Curious()}, "batch": {"icm": {}}}
    mappings[lazy] = Loader(mappings[lazy])
    with pytest.raises(KeyError) as raised:
        Learner(module=mappings["module"]).compute_losses(
            fwd_out={"icm": {}}, batch=mappings["batch"]
        )
    assert raised.value.args == ("file not found",)


def test_a_loss_that_is_none_names_its_module():
    class Forgetful(Learner):
        def compute_loss_for_module(self, **arguments): ...

    for module in (Curious(loss=None), Plain()):
        with pytest.raises(TypeError) as raised:
            Forgetful(module={"m": module}).compute_losses(fwd_out={"m": {}}, batch={"m": {}})
        assert f"the loss of module 'm' ({type(module).__name__}) is None" in str(raised.value)


def test_where_nobody_has_a_loss_both_remedies_are_named():
    class EmptyLearner(Learner): ...

    with pytest.raises(NotImplementedError) as raised:
        EmptyLearner(module={"policy": Plain()}).compute_losses(
            fwd_out={"policy": {}}, batch={"policy": {}}
        )
    assert str(raised.value) == (
        "module 'policy' (Plain) has no loss. Override EmptyLearner.compute_loss_for_module. "
        "Or, if the module has its own loss: Derive Plain from SelfSupervisedLossAPI, or register "
        "it with SelfSupervisedLossAPI.register."
    )


@pytest.mark.parametrize("module_class", [Curious, Plain, type("Sub", (Plain,), {})])
def test_a_class_in_place_of_a_module_is_told_so(module_class):
    class FallbackLearner(Learner):
        def compute_loss_for_module(self, **arguments):
            return 0.0

    name = module_class.__name__
    with pytest.raises(
        TypeError, match=rf"module 'm' is not an instance. {name} is a class: write"
    ):
        FallbackLearner(module={"m": module_class}).compute_losses(fwd_out={"m": 0}, batch={"m": 0})


@pytest.mark.parametrize(
    ("error_class", "message"),
    [(ValueError, "bad shape"), (KeyError, "m"), (KeyError, "obs"), (KeyboardInterrupt, "")],
)
def test_what_a_loss_raises_comes_through_with_a_note_that_names_the_module(error_class, message):
    error = error_class(message)
    learner = Learner(module={"m": Curious(error=error), "first": Curious(), "last": Curious()})
    inputs = {"first": {}, "m": {}, "last": {}}
    with pytest.raises(error_class) as raised:
        learner.compute_losses(fwd_out=inputs, batch=inputs)
    assert raised.value is error
    assert error.__cause__ is None
    if sys.version_info >= (3, 11):
        assert error.__notes__ == ["while computing the loss of module 'm' (Curious)"]


def test_a_learner_goes_on_after_an_error():
    module = Curious(error=ValueError("out of order"))
    learner = Learner(module={"first": Curious(), "failing": module})
    inputs = {"first": {}, "failing": {}}
    with pytest.raises(ValueError):
        learner.compute_losses(fwd_out=inputs, batch=inputs)
    module.error = None
    assert learner.compute_losses(fwd_out=inputs, batch=inputs) == {"first": 0.0, "failing": 0.0}


def test_what_the_learners_own_loss_raises_names_the_module_too():
    class Broken(Learner):
        def compute_loss_for_module(self, *, batch, **arguments):
            return batch["rewards"]

    with pytest.raises(KeyError, match="'rewards'") as raised:
        Broken(module={"policy": Plain()}).compute_losses(
            fwd_out={"policy": {}}, batch={"policy": {}}
        )
    if sys.version_info >= (3, 11):
        assert raised.value.__notes__ == ["while computing the loss of module 'policy' (Plain)"]


def test_an_error_that_takes_no_note_comes_through_all_the_same():
    class TakesNoNote(Exception):
        add_note = None

    error = TakesNoNote()
    with pytest.raises(TakesNoNote) as raised:
        Learner(module={"m": Curious(error=error)}).compute_losses(
            fwd_out={"m": {}}, batch={"m": {}}
        )
    assert raised.value is error


def test_the_note_names_the_module_that_failed_where_fwd_out_grows_meanwhile():
    class Growing(Curious):
        def compute_self_supervised_loss(self, *, learner, **arguments):
            learner.module["a"] = learner.module["z"] = self
            raise ValueError

    class Items(dict):
        def items(self):
            return iter([("m", {})])

        def __iter__(self):  # as a TensorDict, which walks its batch
            raise AssertionError("walked")

    with pytest.raises(ValueError) as raised:
        Learner(module={"m": Growing()}).compute_losses(fwd_out=Items(), batch={"m": {}})
    if sys.version_info >= (3, 11):
        assert raised.value.__notes__ == ["while computing the loss of module 'm' (Growing)"]


def test_the_note_names_the_module_inside_its_wrapper():
    error = ValueError()
    with pytest.raises(ValueError):
        Learner(module={"m": Wrapper(Curious(error=error))}).compute_losses(
            fwd_out={"m": {}}, batch={"m": {}}
        )
    if sys.version_info >= (3, 11):
        assert error.__notes__ == ["while computing the loss of module 'm' (Curious)"]


@pytest.mark.parametrize(
    ("module", "extra"),
    [
        (Curious(), "learner"),
        (Curious(), "module_id"),
        (Curious(), "config"),
        (Plain(), "module_id"),
        (Plain(), "config"),
    ],
)
def test_an_extra_cannot_take_the_place_of_an_argument(module, extra):
    with pytest.raises(TypeError, match=f"multiple values for keyword argument '{extra}'"):
        Learner(module={"m": module}).compute_losses(
            fwd_out={"m": {}}, batch={"m": {}}, **{extra: None}
        )


@pytest.mark.parametrize(
    "call",
    [
        lambda: Learner({"m": Curious()}),
        lambda: Learner(module={"m": Curious()}).compute_losses({"m": {}}, {"m": {}}),
        lambda: Learner(module={"m": Curious()}).compute_loss_for_module("m", None, {}, {}),
        lambda: MetricsLogger().log_value("loss", 1.0, "sum"),
        lambda: MetricsLogger().log_dict({"loss": 1.0}, "icm"),
        lambda: check_module(Curious(), {}, {}),
    ],
)
def test_arguments_go_by_name(call):
    with pytest.raises(TypeError, match="positional"):
        call()


class FailsAtFirst(Curious):
    calls = 0

    def compute_self_supervised_loss(self, **arguments):
        self.calls += 1
        if self.calls == 1:
            raise RuntimeError("out of order")
        return 0.0


def test_no_loss_method_is_called_twice():
    healthy, failing = FailsAtFirst(), FailsAtFirst()
    healthy.calls = 1
    learner, inputs = Learner(module={"a": healthy, "b": failing}), {"a": {}, "b": {}}
    with pytest.raises(RuntimeError, match="out of order"):
        learner.compute_losses(fwd_out=inputs, batch=inputs)
    assert (healthy.calls, failing.calls) == (2, 1)


def test_an_error_in_a_graph_has_no_note_which_dynamo_could_not_trace(monkeypatch):
    # What torch.compile shows of the error is in tests/frameworks/test_torch_compile.py.
    compiler = SimpleNamespace(is_dynamo_compiling=lambda: True)
    monkeypatch.setitem(sys.modules, "torch.compiler", compiler)
    error = ValueError("out of order")
    with pytest.raises(ValueError) as raised:
        Learner(module={"m": Curious(error=error)}).compute_losses(
            fwd_out={"m": {}}, batch={"m": {}}
        )
    assert raised.value is error
    assert not hasattr(error, "__notes__")
