"""The records of keys: the last value, a running result, or a window."""

from abc import ABC, abstractmethod
from collections import deque
from typing import Any

from self_supervised_loss._frameworks import is_torch_tensor
from self_supervised_loss._metrics.arrays import (
    aligned,
    as_rows,
    boxed,
    continues,
    converted_copy,
    copied,
    counts_in_row,
    dimensions_of,
    filled_like,
    floating,
    go_together,
    has_two_rows,
    is_number,
    is_single,
    larger,
    operand_for,
    promotes_freely,
    rounding_error,
    smaller,
    unboxed,
    widened,
    with_correction,
)
from self_supervised_loss._metrics.settings import Settings


class Record(ABC):
    """A key of the logger: its settings, and its values in reduced form.

    Records have `__slots__`, which saves time in compiled steps: Dynamo would check in each call
    whether a `__dict__` overrides a method.
    """

    __slots__ = ("settings",)

    def __init__(self, settings: Settings) -> None:
        """Starts without a value."""
        self.settings = settings

    @property
    @abstractmethod
    def is_empty(self) -> bool:
        """Whether there is no value."""

    @abstractmethod
    def add(self, value: Any) -> None:
        """Adds a value. A value that is rejected changes nothing.

        Raises:
            ValueError: If the value does not fit the earlier ones.
            TypeError: If the value cannot be reduced.
        """

    @abstractmethod
    def clear(self) -> None:
        """Forgets the values."""

    @abstractmethod
    def reduced(self) -> Any:
        """Returns the result as a copy."""


class Last(Record):
    """The last value, of any shape."""

    __slots__ = ("_value",)

    def __init__(self, settings: Settings) -> None:
        """Starts without a value."""
        super().__init__(settings)
        self._value: Any = None

    @property
    def is_empty(self) -> bool:
        """Whether there is no value."""
        return self._value is None

    def add(self, value: Any) -> None:
        """Replaces the value."""
        self._value = copied(value)

    def clear(self) -> None:
        """Forgets the value."""
        self._value = None

    def reduced(self) -> Any:
        """Returns a copy of the value."""
        return copied(self._value)


class Running(Record):
    """A result that is updated with each value, element by element.

    The constructor does not take the first value, because Dynamo makes the arguments of a
    constructor outputs of the graph. A loss that is logged and returned would then share an output
    with its detached copy.

    Attributes:
        convert: Brings a value into the type of the result.
        neutral: The number that changes no value it is combined with.
    """

    __slots__ = ("_cleared", "_value")

    convert = staticmethod(widened)
    neutral: float = 0

    def __init__(self, settings: Settings) -> None:
        """Starts without a value."""
        super().__init__(settings)
        self._value: Any = None
        self._cleared: Any = None  # the value that `clear` left

    @property
    def is_empty(self) -> bool:
        """Whether there is no value."""
        # A flag would take time in each step of torch.compile, which would have to write it.
        return self._value is self._cleared

    def add(self, value: Any) -> None:
        """Combines a value with the result. A value that is rejected changes nothing."""
        # The common case comes first: if a step of torch.compile asked whether the record is empty,
        # it would take another graph.
        if continues(self._value, value, self.convert):
            self._fold(value)
        elif self.is_empty:
            self._start(value)
        else:
            _require_same_kind(unboxed(self._value), value)
            self._value, value = aligned(self._value, value)
            self._fold(value)

    def clear(self) -> None:
        """Forgets the values.

        A tensor of torch stays a tensor. Otherwise `torch.compile` would compile a step that adds
        the next value again.
        """
        is_tensor = is_torch_tensor(self._value)
        self._cleared = filled_like(self._value, self.neutral) if is_tensor else None
        self._value = self._cleared

    def reduced(self) -> Any:
        """Returns the result as a copy."""
        return copied(unboxed(self._value))

    def _start(self, first: Any) -> None:
        self._value = boxed(converted_copy(first, self.convert))

    def _fold(self, value: Any) -> None:
        # torch converts and combines in one kernel.
        is_ready = promotes_freely(value) and not is_number(self._value)
        value = value if is_ready else boxed(self.convert(value))
        self._value = self._combine(self._value, value)

    @abstractmethod
    def _combine(self, running: Any, value: Any) -> Any: ...


class Minimum(Running):
    """The smallest value."""

    __slots__ = ()

    neutral = float("inf")

    def _combine(self, running: Any, value: Any) -> Any:
        return smaller(running, value)


class Maximum(Running):
    """The largest value."""

    __slots__ = ()

    neutral = -float("inf")

    def _combine(self, running: Any, value: Any) -> Any:
        return larger(running, value)


class Sum(Running):
    """The sum of the values.

    In JAX's single precision, the rounding error of each step is added up separately, as in the
    algorithm Sum2 of Ogita, Rump and Oishi (https://doi.org/10.1137/030601818).
    """

    __slots__ = ("_lost",)

    def __init__(self, settings: Settings) -> None:
        """Starts without a value."""
        super().__init__(settings)
        self._lost: Any = None

    def clear(self) -> None:
        """Forgets the values."""
        super().clear()
        self._lost = None

    def reduced(self) -> Any:
        """Returns the sum as a copy."""
        return copied(unboxed(self._corrected()))

    def _combine(self, running: Any, value: Any) -> Any:
        total = running + value
        if is_single(total):
            lost = rounding_error(running, value, total)
            self._lost = lost if self._lost is None else self._lost + lost
        return total

    def _corrected(self) -> Any:
        return self._value if self._lost is None else with_correction(self._value, self._lost)


class Mean(Sum):
    """The mean of the values.

    In a graph of torch, the stored tensor has two rows, the sum and the number of values. Dynamo
    treats a Python number as a constant, and would compile the graph again for each.
    """

    __slots__ = ("_count",)

    convert = staticmethod(floating)

    def __init__(self, settings: Settings) -> None:
        """Starts without a value."""
        super().__init__(settings)
        self._count = 0  # not kept up to date if there is a second row

    def clear(self) -> None:
        """Forgets the values."""
        super().clear()
        self._count = 0

    def reduced(self) -> Any:
        """Returns the mean as a new value."""
        if has_two_rows(self._value):
            return self._value[0] / self._value[1]
        return unboxed(self._corrected() / operand_for(self._value, self._count))

    def _start(self, first: Any) -> None:
        super()._start(first)
        self._count = 1
        if counts_in_row(self._value):
            self._value = self._with_row(self._value)

    def _combine(self, running: Any, value: Any) -> Any:
        if counts_in_row(running):
            rows = self._with_row(running)
            return as_rows(rows[:1] + value, rows[1:] + 1)
        self._count += 1
        return super()._combine(running, value)

    def _with_row(self, running: Any) -> Any:
        if has_two_rows(running):
            return running
        return as_rows(running, filled_like(running, self._count))


class MovingAverage(Running):
    """An exponential moving average, which starts at the first value and is never cleared."""

    __slots__ = ("_coeff",)

    convert = staticmethod(floating)

    def __init__(self, settings: Settings, coeff: float) -> None:
        """Starts without a value. Each value after the first has the weight `coeff`."""
        super().__init__(settings)
        self._coeff = coeff

    def clear(self) -> None:
        """Keeps the average."""

    def _combine(self, running: Any, value: Any) -> Any:
        old, new = operand_for(running, 1 - self._coeff), operand_for(running, self._coeff)
        return old * running + new * floating(value)


class Window(Record):
    """The last values, which are reduced when the result is read."""

    __slots__ = ("_kind", "_size", "_values")

    def __init__(self, settings: Settings, kind: type[Running], size: int) -> None:
        """Starts without a value, and keeps at most `size` of them."""
        super().__init__(settings)
        self._kind, self._size = kind, size
        self._values: deque[Any] = deque()

    @property
    def is_empty(self) -> bool:
        """Whether there is no value."""
        return len(self._values) == 0

    def add(self, value: Any) -> None:
        """Adds a value, and drops the oldest if there are too many."""
        if self._values:
            _require_same_kind(self._value_to_match(value), value)
        self._values.append(boxed(converted_copy(value, self._kind.convert)))
        if len(self._values) > self._size:  # Dynamo of torch 2.13 gets maxlen wrong
            self._values.popleft()

    def clear(self) -> None:
        """Forgets the values."""
        self._values.clear()

    def reduced(self) -> Any:
        """Returns the result as a copy."""
        running = self._kind(self.settings)
        for value in self._values:
            running.add(unboxed(value))
        return running.reduced()

    def _value_to_match(self, value: Any) -> Any:
        # Any array fits a number, so an array is compared with the array before the numbers.
        for earlier in reversed(self._values):
            if is_number(value) or not is_number(earlier):
                return unboxed(earlier)
        return self._values[-1]


_KINDS: dict[str, type[Running]] = {"mean": Mean, "min": Minimum, "max": Maximum, "sum": Sum}


def new_record(settings: Settings) -> Record:
    """Returns a record without a value."""
    if settings.reduce == "item" or settings.window == 1:
        return Last(settings)
    if settings.ema_coeff is not None:
        return MovingAverage(settings, float(settings.ema_coeff))
    kind = _KINDS[settings.reduce]
    return kind(settings) if settings.window is None else Window(settings, kind, settings.window)


def _require_same_kind(earlier: Any, value: Any) -> None:
    if not go_together(earlier, value):
        raise ValueError(_mismatch_message(earlier, value))


def _mismatch_message(earlier: Any, value: Any) -> str:
    before, now = tuple(dimensions_of(earlier)), tuple(dimensions_of(value))
    if before != now:
        return f"expected shape {before} as before, got {now}"
    return f"expected {_place(earlier)} as before, got {_place(value)}"


def _place(array: Any) -> str:
    name = f"{type(array).__module__}.{type(array).__name__}"
    return f"{name} on {array.device}" if is_torch_tensor(array) else name
