"""Errors name what was wrong and what to do."""

import sys
from types import SimpleNamespace

import pytest
from unit.shared import Plain, Wrapper, loss_of

from self_supervised_loss import Learner, MetricsLogger, SelfSupervisedLossAPI
from self_supervised_loss.testing import check_module


class Rnd(SelfSupervisedLossAPI):
    def __init__(self, loss=0.0, error=None):
        self.loss, self.error, self.calls = loss, error, 0

    def compute_self_supervised_loss(self, **arguments):
        self.calls += 1
        if self.error is not None:
            raise self.error
        return self.loss


class RewardsLearner(Learner):
    """Has a loss for batches with rewards."""

    def compute_loss_for_module(self, *, batch, **arguments):
        return batch["rewards"]


# What a learner is created and called with


REMEDY = 'Write Learner(module={"my_module": my_module}).'


@pytest.mark.parametrize(
    ("module", "end"),
    [
        (Rnd(), f"Rnd. {REMEDY}"),
        (Rnd, f"Rnd. {REMEDY}"),
        ([Rnd()], f"list. {REMEDY}"),
        (Wrapper(Wrapper({"icm": Rnd()})), "Wrapper. Wrap each module instead of the dict."),
    ],
    ids=["module", "class", "list", "wrapper"],
)
def test_a_module_that_is_not_a_mapping_is_refused(module, end):
    with pytest.raises(TypeError) as raised:
        Learner(module=module)
    assert str(raised.value) == f"module must be a mapping from module ID to module, got {end}"


@pytest.mark.parametrize(
    ("module_id", "batch", "message"),
    [
        (
            "imc",
            {"icm": {}},
            "module, which has ['icm', 'rnd']. fwd_out must have the form {module_id: outputs}.",
        ),
        ("rnd", {"icm": {}, "pi": {}}, "batch, which has ['icm', 'pi']."),
        (
            "rnd",
            {"obs": [1.0], "new_obs": [2.0]},
            "batch, which has ['obs', 'new_obs']. "
            "If these are columns, pass batch={'rnd': columns}.",
        ),
    ],
    ids=["module", "batch", "columns"],
)
def test_a_missing_id_is_named(module_id, batch, message):
    learner = Learner(module={"icm": Rnd(), "rnd": Rnd()})
    with pytest.raises(KeyError) as raised:
        learner.compute_losses(fwd_out={module_id: {}}, batch=batch)
    assert raised.value.args == (f"{module_id!r} is in fwd_out but not in {message}",)
    assert isinstance(raised.value.__cause__, KeyError)  # a mapping's own error may say more


class Loader(dict):
    def __getitem__(self, module_id):
        raise KeyError("file not found")


@pytest.mark.parametrize(
    ("modules", "batch"),
    [(Loader(m=Rnd()), {"m": {}}), ({"m": Rnd()}, Loader(m={}))],
    ids=["module", "batch"],
)
def test_an_item_that_a_mapping_fails_to_load_is_not_called_missing(modules, batch):
    with pytest.raises(KeyError) as raised:
        Learner(module=modules).compute_losses(fwd_out={"m": {}}, batch=batch)
    assert raised.value.args == ("file not found",)


@pytest.mark.parametrize("module_class", [Rnd, Plain])
def test_a_class_instead_of_a_module_is_refused(module_class):
    name = module_class.__name__
    with pytest.raises(TypeError) as raised:
        loss_of(module_class, RewardsLearner)
    assert str(raised.value) == (
        f"module 'm' must be an instance. {name} is a class. Write {name}(...)."
    )
    if sys.version_info >= (3, 11):
        assert raised.value.__notes__ == [f"while computing the loss of module 'm' ({name})"]


@pytest.mark.parametrize(("module", "extra"), [(Rnd(), "learner"), (Plain(), "module_id")])
def test_an_extra_argument_must_not_clash_with_an_argument(module, extra):
    with pytest.raises(TypeError, match=f"multiple values for keyword argument '{extra}'"):
        loss_of(module, **{extra: None})


@pytest.mark.parametrize(
    "call",
    [
        lambda: Learner({"m": Rnd()}),
        lambda: Learner(module={"m": Rnd()}).compute_losses({"m": {}}, {"m": {}}),
        lambda: Learner(module={"m": Rnd()}).compute_loss_for_module("m", None, {}, {}),
        lambda: MetricsLogger().log_value("loss", 1.0, "sum"),
        lambda: MetricsLogger().log_dict({"loss": 1.0}, "icm"),
        lambda: check_module(Rnd(), {}, {}),
    ],
)
def test_arguments_are_keyword_only(call):
    with pytest.raises(TypeError, match="positional"):
        call()


# Losses


class Async(SelfSupervisedLossAPI):
    async def compute_self_supervised_loss(self, **arguments):
        return 0.0


class Forgetful(Learner):
    def compute_loss_for_module(self, **arguments): ...


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (
            Rnd(loss=None),
            "the loss of module 'm' (Rnd) is None. Return it from the loss method.",
        ),
        (Plain(), "the loss of module 'm' (Plain) is None. Return it from the loss method."),
        (Async(), "the loss method of module 'm' (Async) is async. Define it without async."),
    ],
    ids=["module", "fallback", "async"],
)
def test_a_loss_that_is_none_or_a_coroutine_is_refused(module, message):
    with pytest.raises(TypeError) as raised:
        loss_of(module, Forgetful)
    assert str(raised.value) == message


@pytest.mark.parametrize("module", [Plain(), Wrapper(Plain())], ids=["bare", "wrapped"])
def test_without_any_loss_the_error_names_the_remedies(module):
    class EmptyLearner(Learner): ...

    with pytest.raises(NotImplementedError) as raised:
        loss_of(module, EmptyLearner)
    assert str(raised.value) == (
        "module 'm' (Plain) has no loss. Override EmptyLearner.compute_loss_for_module, "
        "or leave 'm' out of fwd_out. If the module brings its own loss: Derive Plain from "
        "SelfSupervisedLossAPI, or register it with SelfSupervisedLossAPI.register."
    )


class TakesNoNote(Exception):
    add_note = None


@pytest.mark.parametrize(
    "error", [ValueError("bad shape"), KeyError("m"), KeyboardInterrupt(), TakesNoNote()]
)
def test_an_error_of_a_loss_method_stays_the_same_object(error):
    with pytest.raises(type(error)) as raised:
        loss_of(Rnd(error=error))
    assert raised.value is error
    assert error.__cause__ is None


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (Rnd(error=KeyError), "Rnd"),
        (Rnd(error=KeyboardInterrupt), "Rnd"),
        (Wrapper(Rnd(error=KeyError)), "Rnd"),
        (Plain(), "Plain"),  # the learner's own loss raises
    ],
)
def test_a_note_names_the_module_whose_loss_raised(module, name):
    learner = RewardsLearner(module={"first": Rnd(), "m": module, "last": Rnd()})
    inputs = {"first": {}, "m": {}, "last": {}}
    with pytest.raises((KeyError, KeyboardInterrupt)) as raised:
        learner.compute_losses(fwd_out=inputs, batch=inputs)
    if sys.version_info >= (3, 11):
        assert raised.value.__notes__ == [f"while computing the loss of module 'm' ({name})"]


def test_an_error_in_a_compiled_graph_has_no_note(monkeypatch):
    compiler = SimpleNamespace(is_dynamo_compiling=lambda: True)
    monkeypatch.setitem(sys.modules, "torch.compiler", compiler)
    with pytest.raises(ValueError) as raised:
        loss_of(Rnd(error=ValueError("out of order")))
    assert not hasattr(raised.value, "__notes__")


def test_after_an_error_the_learner_can_be_used_again():
    healthy, failing = Rnd(), Rnd(error=RuntimeError("out of order"))
    learner, inputs = Learner(module={"a": healthy, "b": failing}), {"a": {}, "b": {}}
    with pytest.raises(RuntimeError, match="out of order"):
        learner.compute_losses(fwd_out=inputs, batch=inputs)
    assert (healthy.calls, failing.calls) == (1, 1)
    failing.error = None
    assert learner.compute_losses(fwd_out=inputs, batch=inputs) == {"a": 0.0, "b": 0.0}
