"""Whatever Python allows gets the right answer, or an error that names what was wrong. Nothing is left half done."""

import copy
import math
import pickle
import sys
from collections import ChainMap, OrderedDict, UserDict
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import permutations
from numbers import Number
from types import MappingProxyType
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from self_supervised_loss import Learner, MetricsLogger, SelfSupervisedLossAPI
from self_supervised_loss.metrics import Reduce
from self_supervised_loss.testing import check_module

always_the_same = settings(derandomize=True, deadline=None, database=None)


class Curious(SelfSupervisedLossAPI):
    """Logs, acts, and returns a loss that tells which module saw which input."""

    def __init__(self, tag, act=lambda learner: None):
        self.tag, self.act = tag, act

    def compute_self_supervised_loss(self, *, learner, batch, fwd_out, **kwargs):
        learner.metrics.log_value((self.tag, "asked"), 1, reduce="sum")
        self.act(learner)
        return self.tag, batch, fwd_out


class Plain:
    def __init__(self, tag):
        self.tag = tag


class TellingLearner(Learner):
    def compute_loss_for_module(self, *, module_id, batch, fwd_out, **kwargs):
        return self.module[module_id].tag, batch, fwd_out


def told_by(error):
    """All that an error says."""
    return "\n".join([str(error), *getattr(error, "__notes__", [])])


def names_the_module(error, module_id, module):
    # Python 3.10 has no notes.
    return sys.version_info < (3, 11) or f"in the loss of module {module_id!r} ({type(module).__name__})" in told_by(
        error
    )


class Refusal(BaseException):
    """Derives from nothing that anybody catches."""


def errors():
    classes = (KeyError, ValueError, AttributeError, StopIteration, RecursionError, KeyboardInterrupt, Refusal)
    return st.sampled_from(classes).map(lambda error_class: error_class("out of order"))


# IDs, and the mappings they stand in


@dataclass(frozen=True)
class Name:
    name: str


IDS = st.recursive(
    st.text()
    | st.text("ab", min_size=1, max_size=2).map(lambda name: name * 10_000)
    | st.integers()
    | st.floats()
    | st.booleans()
    | st.none()
    | st.binary()
    | st.builds(Name, st.text()),
    lambda ids: st.tuples(ids) | st.tuples(ids, ids) | st.frozensets(ids, max_size=1),
    max_leaves=5,
)


def twin(module_id):
    """Equal but not identical, and of another type where there is one. There is nothing that equals NaN."""
    return int(module_id) if isinstance(module_id, bool) else pickle.loads(pickle.dumps(module_id))


class ReadOnly(Mapping):
    def __init__(self, data):
        self.data = data

    def __getitem__(self, key):
        return self.data[key]

    def __iter__(self):
        return iter(self.data)

    def __len__(self):
        return len(self.data)


class Generating(ReadOnly):
    """Has generators for views, which make the keys as they go."""

    def keys(self):
        return (twin(key) for key in self.data)

    def items(self):
        return ((twin(key), value) for key, value in self.data.items())


MAPPINGS = st.sampled_from([dict, OrderedDict, ChainMap, UserDict, MappingProxyType, ReadOnly, Generating])


@always_the_same
@given(data=st.data(), ids=st.lists(IDS, max_size=5, unique=True), kinds=st.tuples(MAPPINGS, MAPPINGS, MAPPINGS))
def test_any_id_in_any_mapping_gets_its_loss_or_is_named(data, ids, kinds):
    subsets = st.just(ids) | st.lists(st.sampled_from(ids), unique=True) if ids else st.just([])
    modules = {module_id: data.draw(st.sampled_from([Curious, Plain]))(module_id) for module_id in data.draw(subsets)}
    batch = {twin(module_id): {"obs": module_id} for module_id in data.draw(subsets)}
    fwd_out = {module_id: {"features": module_id} for module_id in data.draw(subsets)}
    for module in modules.values():
        module.tag = str(module.tag)
    as_modules, as_batch, as_fwd_out = (
        kind(mapping) for kind, mapping in zip(kinds, (modules, batch, fwd_out), strict=True)
    )

    expected, fault = {}, None
    for module_id, features in as_fwd_out.items():
        lacking = [where for where, mapping in (("module", modules), ("batch", batch)) if module_id not in mapping]
        if lacking:
            has = [*(modules if lacking[0] == "module" else batch)]
            fault = f"{module_id!r} is in fwd_out but not in {lacking[0]}, which has {has}"
            break
        expected[module_id] = (modules[module_id].tag, batch[module_id], features)

    learner = TellingLearner(module=as_modules)
    if fault is None:
        assert learner.compute_losses(fwd_out=as_fwd_out, batch=as_batch) == expected
    else:
        with pytest.raises(KeyError) as raised:
            learner.compute_losses(fwd_out=as_fwd_out, batch=as_batch)
        assert raised.value.args == (fault,)
    asked = {tag for tag, *_ in expected.values()} & {
        module.tag for module in modules.values() if isinstance(module, Curious)
    }
    assert learner.metrics.reduce() == {tag: {"asked": 1} for tag in asked}


class Failing(ReadOnly):
    """Raises at one access, counted from 0, or at all from then on."""

    def __init__(self, data, error, access, lasting):
        super().__init__(data)
        self.error, self.access, self.lasting = error, access, lasting

    def __getitem__(self, key):
        self.fail()
        return super().__getitem__(key)

    def __iter__(self):
        self.fail()
        return super().__iter__()

    def fail(self):
        self.access -= 1
        if self.access == -1 or (self.access < 0 and self.lasting):
            raise self.error


@always_the_same
@given(
    role=st.sampled_from(["module", "batch", "fwd_out"]),
    error=errors(),
    access=st.integers(0, 7),
    lasting=st.booleans(),
)
def test_a_mapping_that_raises_gives_no_wrong_loss(role, error, access, lasting):
    def as_role(name, mapping):
        return Failing(mapping, error, access, lasting) if name == role else mapping

    ids = ["a", "b", "c"]
    modules = {"a": Curious("a"), "b": Plain("b"), "c": Curious("c")}
    batch, fwd_out = {module_id: {} for module_id in ids}, {module_id: {} for module_id in ids}
    learner = TellingLearner(module=as_role("module", modules))
    try:
        losses = learner.compute_losses(fwd_out=as_role("fwd_out", fwd_out), batch=as_role("batch", batch))
    except BaseException as raised:
        assert error in (raised, raised.__cause__, raised.__context__)
        if type(raised) is KeyError and raised is not error:
            assert any(f"{module_id!r} is in fwd_out but not in" in str(raised) for module_id in ids)
    else:
        assert losses == {module_id: (module_id, {}, {}) for module_id in ids}
    assert learner.metrics.reduce() in ({}, {"a": {"asked": 1}}, {"a": {"asked": 1}, "c": {"asked": 1}})


def remove(mapping, key):
    mapping.pop(key, None)


def replace(mapping, key):
    mapping[key] = copy.copy(mapping.get(key))


def move_to_the_end(mapping, key):
    if key in mapping:
        mapping[key] = mapping.pop(key)


def rename(mapping, key):
    if key in mapping:
        mapping["new " + key] = mapping.pop(key)


def clear(mapping, key):
    mapping.clear()


@always_the_same
@given(
    role=st.sampled_from(["module", "batch", "fwd_out"]),
    change=st.sampled_from([remove, replace, move_to_the_end, rename, clear]),
    changed=st.sampled_from("abcdx"),
    changing=st.sets(st.sampled_from("abcd"), min_size=1),
)
def test_a_mapping_that_changes_meanwhile_gives_no_module_the_input_of_another(role, change, changed, changing):
    def act(learner):
        change(mappings[role], changed)

    mappings = {
        "module": {tag: Curious(tag, act) if tag in changing else Curious(tag) for tag in "abcd"},
        "batch": {tag: {"tag": tag} for tag in "abcd"},
        "fwd_out": {tag: {"tag": tag} for tag in "abcd"},
    }
    if changed == "x" and role != "module":
        mappings[role]["x"] = {"tag": "x"}
    learner = Learner(module=mappings["module"])
    try:
        losses = learner.compute_losses(fwd_out=mappings["fwd_out"], batch=mappings["batch"])
    except RuntimeError as error:
        assert role == "fwd_out"
        assert "dictionary" in str(error)
    except KeyError as error:
        module_id = (
            "new " + changed if change is rename and role == "fwd_out" else changed if change is not clear else ""
        )
        assert f"{module_id}' is in fwd_out but not in " in str(error)
    else:
        for module_id, (tag, batch, fwd_out) in losses.items():
            assert module_id == tag == batch["tag"] == fwd_out["tag"]


def a_generator():
    yield "m", {}


@pytest.mark.parametrize(
    "thing", [None, 3, ["m"], ("m",), {"m"}, a_generator(), object()], ids=lambda thing: type(thing).__name__
)
def test_what_is_no_mapping_is_named_by_its_class(thing):
    learner = Learner(module={"m": Curious("m")})
    for inputs in ({"fwd_out": thing, "batch": {"m": {}}}, {"fwd_out": {"m": {}}, "batch": thing}):
        with pytest.raises((TypeError, AttributeError)) as raised:
            learner.compute_losses(**inputs)
        assert type(thing).__name__ in told_by(raised.value)
    assert learner.metrics.reduce() == {}


# Errors, and modules that go round in circles


class TakesNoNote(Exception):
    add_note = None


class HasOddNotes(Exception):
    __notes__ = "no list"


class FailsAtNotes(Exception):
    @property
    def add_note(self):
        raise AttributeError("no notes")


@pytest.mark.parametrize("error_class", [TakesNoNote, HasOddNotes, FailsAtNotes, Refusal, GeneratorExit, StopIteration])
def test_any_error_of_a_loss_comes_through_as_it_is_and_the_learner_goes_on(error_class):
    def act(learner):
        if errors:
            raise errors.pop()

    error = error_class("out of order")
    errors = [error]
    learner = Learner(module={"first": Curious("first"), "failing": Curious("failing", act), "last": Curious("last")})
    inputs = {module_id: {} for module_id in learner.module}
    with pytest.raises(error_class) as raised:
        learner.compute_losses(fwd_out=inputs, batch=inputs)
    assert raised.value is error
    assert (error.args, error.__cause__, error.__context__) == (("out of order",), None, None)
    assert learner.metrics.reduce() == {"first": {"asked": 1}, "failing": {"asked": 1}}
    assert list(learner.compute_losses(fwd_out=inputs, batch=inputs)) == ["first", "failing", "last"]


@settings(always_the_same, max_examples=30)
@given(calls=st.dictionaries(st.sampled_from("abcd"), st.sampled_from("abcd")))
def test_modules_that_call_each_other_end_in_their_losses_or_in_an_error_that_names_them(calls):
    def calling(called):
        return lambda learner: learner.compute_losses(fwd_out={called: {}}, batch={called: {}})

    learner = Learner(
        module={tag: Curious(tag, calling(calls[tag])) if tag in calls else Curious(tag) for tag in "abcd"}
    )
    chain = ["a"]
    while chain[-1] in calls and chain.count(chain[-1]) == 1:
        chain.append(calls[chain[-1]])
    if chain[-1] in calls:
        with pytest.raises(RecursionError) as raised:
            learner.compute_losses(fwd_out={"a": {}}, batch={"a": {}})
        assert all(names_the_module(raised.value, tag, learner.module[tag]) for tag in chain)
    else:
        assert learner.compute_losses(fwd_out={"a": {}}, batch={"a": {}}) == {"a": ("a", {}, {})}
        assert learner.metrics.reduce() == {tag: {"asked": 1} for tag in chain}


class Wrapper:
    def unwrapped(self):
        return self.wrapped


class Endless:
    def unwrapped(self):
        return Endless()


@settings(always_the_same, max_examples=30)
@given(links=st.lists(st.integers(0, 5), min_size=5, max_size=5), innermost=st.sampled_from([Curious("m"), Plain("m")]))
def test_wrappers_lead_to_a_module_or_to_themselves_or_to_an_error_that_names_the_first(links, innermost):
    things = [*(Wrapper() for _ in links), innermost]
    for wrapper, link in zip(things, links, strict=False):
        wrapper.wrapped, wrapper.tag = things[link], "a wrapper"
    position, seen = 0, set()
    while position < 5 and links[position] != position and position not in seen:
        seen.add(position)
        position = links[position]

    learner = TellingLearner(module={"m": things[0]})
    if position in seen:
        with pytest.raises(RecursionError) as raised:
            learner.compute_losses(fwd_out={"m": {}}, batch={"m": {}})
        assert names_the_module(raised.value, "m", things[0])
        assert learner.metrics.reduce() == {}
    else:
        assert learner.unwrap(things[0]) is things[position]
        asked = isinstance(things[position], Curious)
        ((tag, *_),) = learner.compute_losses(fwd_out={"m": {}}, batch={"m": {}}).values()
        assert tag == (things[position] if asked else things[0]).tag
        assert learner.metrics.reduce() == ({"m": {"asked": 1}} if asked else {})


def test_a_wrapper_that_unwraps_to_ever_new_ones_is_named():
    with pytest.raises(RecursionError) as raised:
        Learner(module={"m": Endless()}).compute_losses(fwd_out={"m": {}}, batch={"m": {}})
    assert names_the_module(raised.value, "m", Endless())


# Metrics


class Unfit:
    """A value that raises when it is reckoned with."""

    def __init__(self, error):
        self.error = error

    def reckon(self, other):
        raise self.error

    __mul__ = __rmul__ = __add__ = __radd__ = __sub__ = __rsub__ = reckon


NAMES = st.sampled_from(["a", "b", "c", "", "a" * 10_000])
KEYS = NAMES | st.lists(NAMES, min_size=1, max_size=3).map(tuple) | st.lists(NAMES, min_size=50, max_size=50).map(tuple)
NO_KEYS = st.sampled_from([None, 3, (), b"a", ("a", 3), ("a", ("b",)), ("a", None), Name("a"), math.nan])
NUMBERS = st.floats() | st.integers(-(10**300), 10**300) | st.booleans() | st.fractions(max_denominator=10)
NO_NUMBERS = st.none() | st.sampled_from([{1.0}, object(), float, a_generator()]) | errors().map(Unfit)
SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "reduce": st.sampled_from([*get_args(Reduce), *get_args(Reduce), "median", None, 0, math.nan, ["mean"], {}]),
        "window": st.sampled_from([None, 1, 2, 10**30, 0, -1, 1.0, "2", math.nan, math.inf]),
        "ema_coeff": st.sampled_from([None, 1, 0.5, Fraction(1, 2), 0, 2, -1.0, math.nan, math.inf]),
    },
)


class Repeating(ReadOnly):
    """Gives everything twice."""

    def items(self):
        yield from self.data.items()
        yield from self.data.items()


@st.composite
def dicts(draw):
    names, numbers = draw(
        st.sampled_from([(NAMES, NUMBERS), (NAMES, NUMBERS | NO_NUMBERS), (NAMES | NAMES | NO_KEYS, NUMBERS)])
    )
    values = numbers | st.dictionaries(names, numbers | st.dictionaries(names, numbers, max_size=2), max_size=3)
    return draw(st.sampled_from([dict, MappingProxyType, ReadOnly, Repeating]))(
        draw(st.dictionaries(names, values, max_size=4))
    )


@st.composite
def entries(draw):
    key = draw(KEYS | KEYS | NO_KEYS)
    value = draw(dicts() if draw(st.booleans()) else NUMBERS | NUMBERS | NO_NUMBERS)
    return key, value, draw(SETTINGS) if draw(st.booleans()) else {}


def leaves(values, path=()):
    for name, value in values.items():
        yield from leaves(value, (*path, name)) if isinstance(value, Mapping) else [((*path, name), value)]


def all_peeked(metrics):
    paths = [path for path, _ in leaves(copy.copy(metrics).reduce())]
    return {path: repr(metrics.peek(path)) for path in paths}  # NaN equals itself as text


FAULTS = (
    "the key of a metric is a string or a tuple of strings, not ",
    "not a number, an array or a tensor",
    "cannot log ",
    " Use another key.",
    "reduce is one of ",
    "window is None, for all values, or ",
    "ema_coeff ",
)


@settings(always_the_same, max_examples=300)
@given(logged_in_turn=st.lists(entries(), max_size=6))
def test_what_is_logged_is_logged_whole_or_refused_with_the_reason(logged_in_turn):
    metrics = MetricsLogger()
    for key, value, setting in logged_in_turn:
        before = all_peeked(metrics)
        prefix = key if isinstance(key, tuple) else (key,)
        if isinstance(value, Mapping):
            prefix = () if key is None else prefix
            logged = dict(leaves(value, prefix))
        else:
            logged = {prefix: value}
        try:
            if isinstance(value, Mapping):
                metrics.log_dict(value, key=key, **setting)
            else:
                metrics.log_value(key, value, **setting)
        except BaseException as error:
            assert all_peeked(metrics) == before
            its_own = any(isinstance(leaf, Unfit) and leaf.error is error for leaf in logged.values())
            assert its_own or any(fault in str(error) for fault in FAULTS)
        else:
            assert all(isinstance(name, str) for path in logged for name in path)
            assert all(isinstance(leaf, Number) for leaf in logged.values())
            after = all_peeked(metrics)
            assert after.keys() == before.keys() | logged.keys()
            assert all(after[path] == before[path] for path in before.keys() - logged.keys())


@pytest.mark.parametrize("reduce", get_args(Reduce))
@pytest.mark.parametrize(
    ("first", "second"),
    list(permutations([1.0, Decimal(1), 1j, Fraction(1), 10**400], 2)),
    ids=lambda number: type(number).__name__,
)
def test_numbers_that_do_not_go_together_are_named_by_their_class(first, second, reduce):
    metrics = MetricsLogger()
    metrics.log_value("loss", first, reduce=reduce)
    kept = copy.deepcopy(vars(metrics))
    try:
        metrics.log_value("loss", second, reduce=reduce)
    except (TypeError, OverflowError) as error:
        assert any(type(number).__name__ in str(error) for number in (first, second))
        assert vars(metrics) == kept


@pytest.mark.parametrize("error", [ValueError("out of order"), Refusal("out of order")], ids=repr)
@pytest.mark.parametrize("access", range(5))
def test_a_dict_that_raises_while_it_is_read_is_not_logged_in_part(error, access):
    metrics = MetricsLogger()
    metrics.log_dict({"a": 1.0, "b": {"c": 2.0}})
    with pytest.raises(type(error)) as raised:
        metrics.log_dict({"a": 2.0, "b": Failing({"c": 3.0, "d": 4.0, "e": 5.0, "f": 6.0}, error, access, False)})
    assert raised.value is error
    assert metrics.reduce() == {"a": 1.0, "b": {"c": 2.0}}


def test_a_dict_that_holds_itself_is_named_and_not_logged_in_part():
    values = {"a": 2.0}
    values["circle"] = values
    metrics = MetricsLogger()
    metrics.log_value("a", 1.0)
    with pytest.raises(TypeError, match=r"not \('circle', 'circle', .*and has at most 99 names"):
        metrics.log_dict(values)
    assert metrics.reduce() == {"a": 1.0}


@pytest.mark.parametrize("depth", [99, 100, 3_000])
def test_a_key_is_refused_or_can_be_taken_out_again_however_deep(depth):
    metrics = MetricsLogger()
    if depth < 100:
        metrics.log_value(("a",) * depth, 1.0)
        assert metrics.peek(("a",) * depth) == 1.0
        assert str(metrics.reduce()).count("a") == depth
    else:
        with pytest.raises(TypeError, match="at most 99 names"):
            metrics.log_value(("a",) * depth, 1.0)
        assert metrics.reduce() == {}


@pytest.mark.parametrize("value", ["high", b"high", [1.0], (1.0,)])
def test_what_can_be_multiplied_but_is_no_number_is_refused_at_once(value):
    metrics = MetricsLogger()
    with pytest.raises(TypeError, match=r"^\('loss',\) is .*, not a number, an array or a tensor"):
        metrics.log_value("loss", value)
    assert metrics.reduce() == {}


def test_a_mapping_that_gives_a_name_twice_logs_it_once():
    class Twice(ReadOnly):
        def items(self):
            return iter([("a", 1.0), ("a", {"b": 2.0}), ("c", 3.0)])

    metrics = MetricsLogger()
    metrics.log_dict(Twice({}))
    assert metrics.reduce() == {"a": {"b": 2.0}, "c": 3.0}


def test_values_that_cannot_be_reduced_are_not_in_the_way_for_ever():
    metrics = MetricsLogger()
    metrics.log_value("loss", 1.0, window=2)
    metrics.log_value("loss", Decimal(1), window=2)
    with pytest.raises(TypeError, match="Decimal"):
        metrics.reduce()
    metrics.log_value("loss", 1.0, window=2)
    assert metrics.reduce() == {"loss": 1.0}


# check_module


LOSSES = st.floats() | st.sampled_from(
    [
        1,
        True,
        Fraction(1, 3),
        math.inf,
        -math.inf,
        math.nan,
        None,
        "1.0",
        b"1",
        [1.0],
        {"loss": 1.0},
        {1.0},
        1j,
        Decimal(1),
        Decimal("NaN"),
        10**400,
        object(),
        float,
        math.fsum,
    ]
)


class Answering(SelfSupervisedLossAPI):
    def __init__(self, act, loss):
        self.act, self.loss = act, loss

    def compute_self_supervised_loss(self, *, learner, module_id, batch, **kwargs):
        assert learner.module[module_id] is self
        self.act(learner, batch)
        return self.loss


@st.composite
def acts(draw):
    """What a module does before it returns its loss, and what the check then says of it."""
    error = draw(errors())
    value, no_key = draw(NO_NUMBERS.filter(lambda value: not isinstance(value, Unfit))), draw(NO_KEYS)

    def fail(learner, batch):
        raise error

    def log_what_is_no_number(learner, batch):
        learner.metrics.log_dict({"a": {"b": value}}, key="c")

    def log_under_what_is_no_key(learner, batch):
        learner.metrics.log_value(no_key, 1.0)

    def ask_again(learner, batch):
        learner.compute_losses(fwd_out={}, batch=batch)

    def change_the_batch(learner, batch):
        batch["new"] = 0

    def nothing(learner, batch): ...

    return draw(
        st.sampled_from(
            [
                *[(nothing, "")] * 6,
                (fail, f"raised {type(error).__name__}: {error}" if isinstance(error, Exception) else error),
                (log_what_is_no_number, "the value logged as ('c', 'a', 'b') is "),
                (log_under_what_is_no_key, f"the key of a metric is a string or a tuple of strings, not {no_key!r}"),
                (ask_again, "not every learner has .compute_losses there"),
                (change_the_batch, "batch['new'] was added"),
            ]
        )
    )


@settings(always_the_same, max_examples=300)
@given(act=acts(), loss=LOSSES, module_id=IDS, kind=MAPPINGS, obs=LOSSES)
def test_a_check_returns_the_loss_or_lists_what_is_wrong(act, loss, module_id, kind, obs):
    act, fault = act
    module, batch = Answering(act, loss), {"obs": obs}
    if act.__name__ == "change_the_batch":
        kind = dict
    try:
        checked = check_module(module, batch=kind(batch), fwd_out=kind({}), module_id=module_id)
    except AssertionError as error:
        title, *violations = str(error).splitlines()
        assert title == "Answering breaks the contract of SelfSupervisedLossAPI:"
        assert fault in str(error)
        if not fault:
            assert len(violations) == 1 and violations[0].startswith("- the loss is ")
            assert loss != 1 and not (isinstance(loss, float | Fraction) and math.isfinite(loss))
    except BaseException as error:
        assert error is fault
    else:
        assert not fault
        assert checked is loss
        assert math.isfinite(loss)


class Circle:
    def unwrapped(self):
        return Circle()


class FailsToUnwrap:
    def unwrapped(self):
        raise ValueError("nothing inside")


class HasOddMethod(SelfSupervisedLossAPI):
    @property
    def compute_self_supervised_loss(self):
        raise ValueError("no method")


@pytest.mark.parametrize("module_class", [Circle, FailsToUnwrap, HasOddMethod])
def test_a_check_names_the_module_that_cannot_be_looked_into(module_class):
    with pytest.raises(AssertionError, match=f"no learner can look into {module_class.__name__}: "):
        check_module(module_class(), batch={}, fwd_out={})


def test_a_check_names_a_loss_with_an_odd_shape():
    class Loss(float):
        shape = 5

    with pytest.raises(AssertionError, match="the loss is a Loss, not a real number"):
        check_module(Answering(lambda learner, batch: None, Loss()), batch={}, fwd_out={})


def test_a_check_takes_a_batch_that_makes_its_columns_anew():
    class Lazy(ReadOnly):
        def __getitem__(self, column):
            return list(self.data[column])

    batch = Lazy({"obs": [1.0]})
    assert check_module(Answering(lambda learner, batch: None, 1.0), batch=batch, fwd_out={}) == 1.0
