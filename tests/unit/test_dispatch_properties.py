"""What holds for any mapping of modules, however they are mixed."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from self_supervised_loss import Learner, SelfSupervisedLossAPI

METHOD = "compute_self_supervised_loss"


def own_loss(self, **arguments):
    return "own", arguments


class RecordingLearner(Learner):
    def compute_loss_for_module(self, **arguments):
        return "fallback", arguments


@st.composite
def module_classes(draw):
    """Classes that implement the API in one of its ways, or do not, and that define this and that besides."""
    nominal = draw(st.sampled_from(["derived", "derived from a derived class", "registered", "no"]))
    body: dict[str, Any] = {
        name: draw(st.sampled_from([None, 0, (), own_loss, property(own_loss)]))
        for name in draw(st.sets(st.sampled_from(["module", "_orig_mod", "unwrap", "loss", "config", "metrics"])))
    }
    body["__call__"] = body["__getitem__"] = own_loss
    if nominal != "no":
        body[METHOD] = own_loss
    if nominal == "derived":
        return True, type("Derived", (SelfSupervisedLossAPI,), body)
    if nominal == "derived from a derived class":
        base = type("Base", (SelfSupervisedLossAPI,), {METHOD: own_loss})
        return True, type("Derived", (base,), body)
    plain = type("Plain", (), body)
    if nominal == "registered":
        SelfSupervisedLossAPI.register(plain)
    return nominal != "no", plain


MODULE_IDS = st.text() | st.integers() | st.tuples(st.text(), st.integers()) | st.none()


@given(
    classes=st.dictionaries(MODULE_IDS, module_classes(), max_size=8),
    extras=st.dictionaries(st.sampled_from(["step", "others_loss_per_module", "generator"]), st.integers()),
    data=st.data(),
)
def test_every_output_gets_the_loss_of_its_module(classes, extras, data):
    modules = {module_id: module_class() for module_id, (_, module_class) in classes.items()}
    trained_now = data.draw(st.permutations(list(modules)).flatmap(lambda ids: st.just(ids[: len(ids) // 2 + 1])))
    batch = {module_id: {"obs": object()} for module_id in modules}
    fwd_out = {module_id: {"features": object()} for module_id in trained_now}
    configs = {module_id: object() for module_id in modules}
    learner = RecordingLearner(module=modules, config=SimpleNamespace(get_config_for_module=configs.__getitem__))

    losses = learner.compute_losses(fwd_out=fwd_out, batch=batch, **extras)

    assert list(losses) == trained_now
    for module_id, (kind, arguments) in losses.items():
        implements_the_api, _ = classes[module_id]
        assert kind == ("own" if implements_the_api else "fallback")
        assert arguments.pop("learner", None) is (learner if implements_the_api else None)
        assert arguments.pop("module_id") == module_id
        assert arguments.pop("batch") is batch[module_id]
        assert arguments.pop("fwd_out") is fwd_out[module_id]
        assert arguments.pop("config") is configs[module_id]
        assert arguments == extras


@given(module_ids=st.lists(st.text(), min_size=1, max_size=8, unique=True), data=st.data())
def test_a_module_that_fails_changes_nothing_else(module_ids, data):
    class Fails(Exception): ...

    class Module(SelfSupervisedLossAPI):
        def compute_self_supervised_loss(self, *, module_id, **arguments):
            asked.append(module_id)
            if module_id == failing:
                raise error
            return module_id

    asked: list[str] = []
    error = Fails()
    failing: Any = data.draw(st.sampled_from(module_ids))
    modules = {module_id: Module() for module_id in module_ids}
    learner = Learner(module=modules, config={})
    inputs = {module_id: {} for module_id in module_ids}
    before = dict(vars(learner)), dict(modules), dict(inputs)

    with pytest.raises(Fails) as raised:
        learner.compute_losses(fwd_out=inputs, batch=inputs)
    assert raised.value is error
    assert asked == module_ids[: module_ids.index(failing) + 1]
    assert (dict(vars(learner)), modules, inputs) == before

    failing = object()
    assert learner.compute_losses(fwd_out=inputs, batch=inputs) == {module_id: module_id for module_id in module_ids}
