"""Errors name what was wrong and what to do."""

import sys
from types import SimpleNamespace

import pytest
from unit.shared import Plain, Wrapper, loss_of

from self_supervised_loss import Learner, SelfSupervisedLossAPI


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


def assert_has_note(error, class_name):
    if sys.version_info >= (3, 11):  # Python 3.10 has no notes
        assert error.__notes__ == [f"while computing the loss of module 'm' ({class_name})"]


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
        ("x", {}, "module, which has ['icm']. fwd_out must have the form {module_id: outputs}."),
        ("icm", {}, "batch, which has []."),
        (
            "icm",
            {"obs": {"image": [1.0]}},
            "batch, which has ['obs']. If these are columns, pass batch={'icm': columns}.",
        ),
    ],
    ids=["module", "batch", "columns"],
)
def test_a_missing_id_is_named(module_id, batch, message):
    learner = Learner(module={"icm": Rnd()})
    with pytest.raises(KeyError) as raised:
        learner.compute_losses(fwd_out={module_id: {}}, batch=batch)
    assert raised.value.args == (f"{module_id!r} is in fwd_out but not in {message}",)
    assert isinstance(raised.value.__cause__, KeyError)  # a mapping's own error may say more


@pytest.mark.parametrize(
    ("present", "message"),
    [("m", "^'file not found'$"), ("other", "'m' is in fwd_out but not in batch, which has")],
)
def test_an_item_that_a_mapping_fails_to_load_is_not_called_missing(present, message):
    class Loader(dict):
        def __getitem__(self, module_id):
            raise KeyError("file not found")

    learner = Learner(module={"m": Rnd()})
    with pytest.raises(KeyError, match=message):
        learner.compute_losses(fwd_out={"m": {}}, batch=Loader({present: {}}))


def test_a_class_instead_of_a_module_is_refused():
    with pytest.raises(TypeError) as raised:
        loss_of(Rnd, RewardsLearner)
    assert str(raised.value) == "module 'm' must be an instance. Rnd is a class. Write Rnd(...)."
    assert_has_note(raised.value, "Rnd")


@pytest.mark.parametrize(("module", "extra"), [(Rnd(), "learner"), (Plain(), "module_id")])
def test_an_extra_argument_must_not_clash_with_an_argument(module, extra):
    with pytest.raises(TypeError, match=f"multiple values for keyword argument '{extra}'"):
        loss_of(module, **{extra: None})


# Losses


class Async(SelfSupervisedLossAPI):
    async def compute_self_supervised_loss(self, **arguments):
        return 0.0


class Forgetful(Learner):
    def compute_loss_for_module(self, **arguments): ...


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Rnd(loss=None), "the loss of module 'm' (Rnd) is None. Return it from the loss method."),
        (Plain(), "the loss of module 'm' (Plain) is None. Return it from the loss method."),
        (Async(), "the loss method of module 'm' (Async) is async. Define it without async."),
    ],
    ids=["module", "fallback", "async"],
)
def test_a_loss_that_is_none_or_a_coroutine_is_refused(module, message):
    with pytest.raises(TypeError) as raised:
        loss_of(module, Forgetful)
    assert str(raised.value) == message


def test_without_any_loss_the_error_names_the_remedies():
    class EmptyLearner(Learner): ...

    with pytest.raises(NotImplementedError) as raised:
        loss_of(Wrapper(Plain()), EmptyLearner)
    assert str(raised.value) == (
        "module 'm' (Plain) has no loss. Override EmptyLearner.compute_loss_for_module, "
        "or leave 'm' out of fwd_out. If the module brings its own loss: Derive Plain from "
        "SelfSupervisedLossAPI, or register it with SelfSupervisedLossAPI.register."
    )


class TakesNoNote(Exception):
    add_note = None


@pytest.mark.parametrize("error_class", [ValueError, KeyError, KeyboardInterrupt, TakesNoNote])
def test_an_error_of_a_loss_method_is_raised_unchanged_with_a_note(error_class):
    error = error_class("m")
    first, failing, last = Rnd(), Rnd(error=error), Rnd()
    learner = Learner(module={"first": first, "m": Wrapper(failing), "last": last})
    inputs = {"first": {}, "m": {}, "last": {}}
    with pytest.raises(error_class) as raised:
        learner.compute_losses(fwd_out=inputs, batch=inputs)
    assert raised.value is error
    assert error.__cause__ is None
    if error_class is not TakesNoNote:
        assert_has_note(error, "Rnd")
    assert (first.calls, failing.calls, last.calls) == (1, 1, 0)

    failing.error = None
    assert learner.compute_losses(fwd_out=inputs, batch=inputs) == dict.fromkeys(inputs, 0.0)


def test_an_error_of_the_learners_loss_has_a_note():
    with pytest.raises(KeyError, match="rewards") as raised:
        loss_of(Plain(), RewardsLearner)
    assert_has_note(raised.value, "Plain")


def test_an_error_in_a_compiled_graph_has_no_note(monkeypatch):
    compiler = SimpleNamespace(is_dynamo_compiling=lambda: True)
    monkeypatch.setitem(sys.modules, "torch.compiler", compiler)
    with pytest.raises(ValueError) as raised:
        loss_of(Rnd(error=ValueError("out of order")))
    assert not hasattr(raised.value, "__notes__")
