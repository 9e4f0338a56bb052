"""The rules of `check_module` about `batch` and `fwd_out`, in plain Python."""

from collections import deque, namedtuple
from dataclasses import dataclass
from functools import cached_property, partial
from types import SimpleNamespace
from typing import Any

import pytest
from unit.checking import changing, check, module_with, returning, violations_of

Transition = namedtuple("Transition", "obs action")


@pytest.mark.parametrize(
    ("name", "value", "kind", "form"),
    [
        ("batch", [1.0], "list", "a dict"),
        ("fwd_out", lambda _: (1,), "tuple", "a dict"),
        ("batch", Transition(1, 2), "Transition", "batch._asdict()"),
    ],
)
def test_input_that_is_not_a_mapping_is_a_violation(name, value, kind, form):
    assert violations_of(returning(None), **{name: value}) == [
        f"{name} must be a mapping, got {kind}.\n  Pass {form}. The loss method was not called."
    ]


class Array:
    """Looks like an array, but cannot be copied."""

    def __init__(self, *shape, dtype="float32"):
        self.shape, self.dtype = shape, dtype

    def __repr__(self):  # for the names of the cases
        return f"Array{self.shape}"

    def __reduce__(self):
        raise TypeError("cannot be pickled")


# Changes

CHANGES = {
    "added": (lambda data: data.update(new=None), "new"),
    "removed": (lambda data: data.pop("rewards"), "rewards"),
    "replaced": (lambda data: data.update(rewards=[1.5]), "rewards"),
    "changed": (lambda data: data["rewards"].append(2.0), "rewards"),
}


@pytest.mark.parametrize(("change", "key"), CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("name", ["batch", "fwd_out"])
def test_a_change_of_the_input_is_a_violation(name, change, key):
    assert violations_of(changing(name, change), **{name: {"rewards": [1.0]}}) == [
        f"The loss method changed {name}[{key!r}].\n  Change a copy: other code may read it, too."
    ]


@dataclass(slots=True)
class Output:
    samples: Any


def normal():
    return SimpleNamespace(mean=0.0, _params={"scale": [1.0]})


INNER_CHANGES = {
    "dict in a named tuple": (Transition([1.0], {}), lambda data: data.action.update(up=1)),
    "set in a dataclass": (Output([{2.0}]), lambda data: data.samples[0].add(3.0)),
    "attribute of a dataclass": (Output([2.0]), lambda data: setattr(data, "samples", [2.5])),
    "list of iterators": ([iter(())], lambda data: data.__setitem__(0, iter(()))),
    "deque": (deque([1.0]), deque.clear),
    "one of two equal numbers": ([1, 1], lambda data: data.__setitem__(1, 2)),
    "attribute": (normal(), lambda data: setattr(data, "mean", 1.0)),
    "attribute removed": (normal(), lambda data: delattr(data, "mean")),
    "list in a private one": (normal(), lambda data: data._params["scale"].append(1.0)),
}


@pytest.mark.parametrize(("data", "change"), INNER_CHANGES.values(), ids=INNER_CHANGES)
def test_a_change_inside_any_container_is_found(data, change):
    module = changing("batch", lambda batch: change(batch["data"]))
    (message,) = violations_of(module, batch={"data": data})
    assert message.startswith("The loss method changed batch['data'].")


class Caches:
    """Computes results once, as distributions do."""

    def __init__(self):
        self._last = None, None

    @cached_property
    def entropy(self):
        self._last = 1.0, 2.0
        return 1.0


class Unreadable:
    __slots__ = ("values",)
    __dict__ = property(lambda self: 1 / 0)


circular = {}
circular |= {"itself": circular, "again": circular}
READINGS = {
    "array that cannot be copied": (Array(2), lambda data: data.shape),
    "circular": (circular, lambda data: data["itself"]),
    "object in a dict": ({"dist": Caches()}, lambda data: data["dist"].entropy),
    "generator": ([(n for n in range(3))], list),
    "unreadable": (Unreadable(), repr),
}


@pytest.mark.parametrize(("data", "read"), READINGS.values(), ids=READINGS)
def test_reading_the_input_does_not_change_it(data, read):
    check(changing("batch", lambda batch: read(batch["data"])), batch={"data": data})


@pytest.mark.parametrize("name", ["batch", "fwd_out"])
def test_data_by_module_id_get_the_advice_to_leave_out_ids(name):
    module = module_with(lambda self, **arguments: arguments[name]["obs"])
    message = "compute_self_supervised_loss raised KeyError: 'obs'"
    advice = f"  'obs' is in {name}['rnd']. Pass columns and outputs without module IDs."
    assert violations_of(module, **{name: {"rnd": {"obs": 1.0}}}) == [f"{message}\n{advice}"]
    assert violations_of(module, **{name: {"image": {"left": 1.0}}}) == [message]


# Shapes


def column(name, *shape, **arguments):
    return {name: Array(*shape, **arguments)}


obs, rewards, mask = (partial(column, name) for name in ("obs", "rewards", "loss_mask"))


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        (obs(8, 4), [(8,)]),
        (obs(8, 1), [(8,)]),
        (obs(8, 5, 4), [(8,), (8, 5)]),
        (obs(8, dtype="int64"), [(8,)]),
        (obs(8, 1, dtype="int64"), [(8,)]),
        (obs(8, 5, dtype="int64"), [(8,), (8, 5)]),
        ({"new_obs": Array(8, 4)}, [(8,)]),
        (obs(8, 5, 4) | mask(8, 5), [(8, 5)]),
        (obs(6, 8, 4) | mask(5, 8), [(5, 8)]),
        (obs(8, 4) | rewards(8), [(8,)]),
        (obs(6, 8, 4) | rewards(5, 8), [(5, 8)]),
        (obs(8, 5, 2, 4) | rewards(8, 5, 2) | mask(8, 5), [(8, 5, 2)]),
        ({}, [(8,), (8, 1), (8, 4), (8, 5), (5, 8)]),
        ({"obs": [1.0]}, [(8,), (8, 1), (8, 4), (8, 5), (5, 8)]),
    ],
    ids=str,
)
def test_intrinsic_rewards_have_the_shape_of_the_rewards(batch, expected):
    for shape in ((), (8,), (8, 1), (8, 4), (8, 5), (5, 8), (8, 5, 1), (8, 5, 2)):
        fwd_out = {"intrinsic_rewards": Array(*shape)}
        if shape in expected:
            check(returning(1.0), batch=batch, fwd_out=fwd_out)
        else:
            is_known = len(expected) < 5
            names = " or ".join(map(str, expected)) if is_known else "(B,) or (B, T)"
            assert violations_of(returning(1.0), batch=batch, fwd_out=fwd_out) == [
                f"fwd_out['intrinsic_rewards'] has shape {shape}, expected {names}.\n"
                "  Return one reward for each row, to be added to batch['rewards']."
            ]


@pytest.mark.parametrize(
    ("name", "batch", "fwd_out"),
    [
        ("rewards", obs(8, 4), {"intrinsic_rewards": Array(8)}),
        ("loss_mask", obs(8, 4), {}),
        ("loss_mask", obs(8, 1), {}),
        ("loss_mask", rewards(8), {}),
        ("loss_mask", {"actions": Array(8)}, {}),
        ("loss_mask", {}, {"intrinsic_rewards": Array(8)}),
        ("loss_mask", obs(8, 4), {"intrinsic_rewards": Array(8)}),
    ],
    ids=str,
)
def test_rewards_or_a_loss_mask_in_a_column_are_a_violation(name, batch, fwd_out):
    batch = batch | column(name, 8, 1)
    assert violations_of(returning(1.0), batch=batch, fwd_out=fwd_out) == [
        f"batch[{name!r}] has shape (8, 1), expected (8,).\n"
        "  Squeeze its last axis: it would broadcast against the rows."
    ]


@pytest.mark.parametrize(
    "batch", [obs(8, 1, 4) | mask(8, 1), obs(8, 5, 4) | mask(8, 5), mask(8, 1), mask(8)], ids=str
)
def test_a_loss_mask_with_one_time_step_is_correct(batch):
    check(returning(1.0), batch=batch)
