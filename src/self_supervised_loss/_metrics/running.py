"""What is kept of the values of one key: the last, a value that runs over all, or a window.

Each starts with a first value, which must be a copy, made by `widened`, that nobody else has.
"""

from abc import ABC, abstractmethod
from collections import deque
from typing import Any

from self_supervised_loss._metrics.arrays import (
    floating,
    is_array,
    larger,
    one,
    shape_of,
    smaller,
    widened,
)


class Last:
    """The last value, whatever its shape."""

    def __init__(self, first: Any) -> None:
        """Starts with a copy of the first value."""
        self._value = first

    def add(self, value: Any) -> None:
        """Takes the place of the value before it. If it is refused, that one stays."""
        self._value = widened(value)

    def reduced(self) -> Any:
        """Returns the result, which shares no memory with what is kept."""
        return widened(self._value)


class Running(ABC):
    """A value that runs over all, element by element. Each kind says how it goes on in `_fold`."""

    def __init__(self, first: Any) -> None:
        """Starts with a copy of the first value."""
        self._value = first

    def add(self, value: Any) -> None:
        """Goes on to a value of the same shape. If it is refused, all is as before."""
        _require_same_shape(self._value, value)
        # Once it is an array, it promotes what comes to its own type. A number does not.
        value = value if is_array(self._value) else self._promoted(value)
        self._value = self._fold(self._value, value)

    def reduced(self) -> Any:
        """Returns the result, which shares no memory with what is kept."""
        return widened(self._value)

    def _promoted(self, value: Any) -> Any:
        return widened(value)

    @abstractmethod
    def _fold(self, running: Any, value: Any) -> Any: ...


class Sum(Running):
    """The sum of all values."""

    def _fold(self, running: Any, value: Any) -> Any:
        return running + value


class Minimum(Running):
    """The smallest value."""

    def _fold(self, running: Any, value: Any) -> Any:
        return smaller(running, value)


class Maximum(Running):
    """The largest value."""

    def _fold(self, running: Any, value: Any) -> Any:
        return larger(running, value)


class Mean(Sum):
    """The sum by the number of values."""

    def __init__(self, first: Any) -> None:
        """Starts with a copy of the first value."""
        super().__init__(floating(first))
        self._number = one(first)

    def add(self, value: Any) -> None:
        """Goes on to a value of the same shape. If it is refused, all is as before."""
        super().add(value)
        self._number = self._number + one(value)

    def reduced(self) -> Any:
        """Returns the result, which shares no memory with what is kept."""
        return self._value / self._number

    def _promoted(self, value: Any) -> Any:
        return floating(widened(value))


class MovingAverage(Running):
    """An exponential moving average. A value that is not a number stays in it for ever."""

    def __init__(self, first: Any, coeff: float) -> None:
        """Starts with a copy of the first value. Each later one has the weight `coeff`."""
        super().__init__(floating(first))
        self._coeff = coeff

    def _promoted(self, value: Any) -> Any:
        return floating(widened(value))

    def _fold(self, running: Any, value: Any) -> Any:
        return (1 - self._coeff) * running + self._coeff * floating(value)


class Window:
    """The last values, over which one of the above runs when the result is asked for."""

    def __init__(self, kind: type[Running], size: int, first: Any) -> None:
        """Starts with a copy of the first value, and will keep as many as `size`."""
        self._kind, self._size = kind, size
        self._values = deque([first])

    def add(self, value: Any) -> None:
        """Takes in a value of the same shape. If it is refused, all is as before."""
        _require_same_shape(self._values[0], value)
        if not is_array(value):
            self._kind(self._values[0]).add(value)  # so that it is refused here, if at all
        self._values.append(widened(value))
        if len(self._values) > self._size:  # Dynamo of torch 2.13 gets maxlen wrong
            self._values.popleft()

    def reduced(self) -> Any:
        """Returns the result, which shares no memory with what is kept."""
        first, *others = self._values
        running = self._kind(first)
        for value in others:
            running.add(value)
        return running.reduced()


def _require_same_shape(kept: Any, value: Any) -> None:
    if shape_of(value) != shape_of(kept):
        raise ValueError(f"its shape is {shape_of(value)}, and theirs is {shape_of(kept)}")
