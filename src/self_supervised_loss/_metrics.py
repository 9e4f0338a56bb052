"""The metrics logger: running values of what modules log while their losses are computed."""

import functools
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias, get_args

from self_supervised_loss._frameworks import is_dynamo_tracing

Key: TypeAlias = str | tuple[str, ...]
Reduce: TypeAlias = Literal["mean", "min", "max", "sum", "ema", "item"]
_REDUCTIONS = get_args(Reduce)
_Path: TypeAlias = tuple[str, ...]
_Settings: TypeAlias = tuple[Reduce, int | None, float | None]


class MetricsLogger:
    """Collects the values that modules log, and reduces the values of each key to one.

    Values are Python numbers, or arrays and tensors of any framework. They stay on their device, and nothing waits for
    them. Tensors are detached, and what is done to them in place later does not show. NaN is not skipped. Integers and
    half precision are reduced in larger types, so that sums neither overflow nor stop growing. A key takes the memory
    of one value, or of `window` values. Several threads must not write to one logger at once.

    Under `jax.jit`, `jax.vmap`, `torch.func.vmap` and `torch.export`, make the logger inside the transformed function
    and return what `reduce` returns. `torch.compile` also takes one from outside. The names are RLlib's (Ray 2.60).
    """

    def __init__(self) -> None:
        """Makes an empty logger."""
        self._stats: dict[_Path, _Stat] = {}

    def log_value(
        self,
        key: Key,
        value: Any,
        *,
        reduce: Reduce = "mean",
        window: int | None = None,
        ema_coeff: float | None = None,
    ) -> None:
        """Logs one value.

        Args:
            key: The name of the value, or a tuple of names that leads to it in the nested result.
            value: A scalar, or an array, which is reduced element by element.
            reduce: What becomes of the values of a key: their `"mean"`, `"min"`, `"max"` or `"sum"`, their
                exponential moving average (`"ema"`), or the last one (`"item"`).
            window: How many of the last values are reduced. By default all since the last `reduce()`. A step under
                `torch.compile` is recompiled until the window is full, so keep it small there.
            ema_coeff: The weight of a new value, for `"ema"` only: `ema = (1 - ema_coeff) * ema + ema_coeff * value`,
                starting at the first value. 0.01 by default.

        Raises:
            TypeError: If `key` or `value` is of another type, or if `value` does not go with those before it.
            ValueError: If the settings are impossible or not those of before, or the key both a value and a dict.
        """
        self._log({_path(key): value}, (reduce, window, ema_coeff))

    def log_dict(
        self,
        value_dict: Mapping[str, Any],
        *,
        key: Key | None = None,
        reduce: Reduce = "mean",
        window: int | None = None,
        ema_coeff: float | None = None,
    ) -> None:
        """Logs every value of a dict, which may be nested, as `log_value` does. If one is refused, none is logged.

        The dict goes under `key` in the nested result, often the ID of the module, or else at its top.
        """
        self._log(
            dict(_leaves(value_dict, () if key is None else _path(key))),
            (reduce, window, ema_coeff),
        )

    def peek(self, key: Key) -> Any:
        """Returns a copy of the reduced value of a key, or of the nested dict of all below it, and changes nothing."""
        path = _path(key)
        values = {
            other[len(path) :]: s.reduced()
            for other, s in self._stats.items()
            if other[: len(path)] == path
        }
        if not values:
            raise KeyError(
                f"nothing was logged under {path} since the last reduce(), only under {[*self._stats]}"
            )
        return values[()] if () in values else _nested(values)

    def reduce(self, *, sep: str | None = None) -> dict[str, Any]:
        """Takes out all values, in nested dicts. Only moving averages go on after that, as RLlib's do.

        With `sep` it is one flat dict, with joined names: `"/"` is what TensorBoard and W&B take.
        """
        names = {path: path if sep is None else (sep.join(path),) for path in self._stats}
        if len({*names.values()}) < len(names):
            raise ValueError(f"two of these keys are the same with sep={sep!r}: {[*names]}")
        values = {names[path]: stat.reduced() for path, stat in self._stats.items()}
        self._stats = {path: stat for path, stat in self._stats.items() if stat.reduce == "ema"}
        return _nested(values)

    def _log(self, values: dict[_Path, Any], settings: _Settings) -> None:
        updates = []
        for path, value in values.items():
            stat = self._stats.get(path)
            if stat is None:
                stat = _Stat(path, settings)
                for other in self._stats:
                    if other[: len(path)] == path[: len(other)]:
                        raise ValueError(
                            f"cannot log {path} beside {other}: a key is either a value or a dict"
                        )
            elif stat.settings != settings:
                raise ValueError(
                    f"{path} takes {stat.settings}, not {settings}, as (reduce, window, ema_coeff)"
                )
            updates.append((path, stat, stat.update(value)))
        for (
            path,
            stat,
            value,
        ) in updates:  # not before all are accepted, so that an error leaves the logger as it was
            self._stats[path] = stat
            stat.values.append(value)
            if len(stat.values) > (
                stat.window or 1
            ):  # not maxlen, which Dynamo gets wrong in torch 2.13
                stat.values.popleft()
            if stat.reduce == "mean" and stat.window is None:
                # A number would be a constant in a graph, and each new one a reason to recompile.
                in_graph = _has(value, "new_ones") and is_dynamo_tracing()
                stat.number = stat.number + (value.new_ones(()).int() if in_graph else 1)


class _Stat:
    """What is kept of one key: the values in its window or, without one, a single value that runs over all of them."""

    def __init__(self, path: _Path, settings: _Settings) -> None:
        self.path, self.settings, (self.reduce, self.window, ema_coeff) = path, settings, settings
        possible = self.window is None or (isinstance(self.window, int) and self.window > 0)
        possible = (
            possible and self.reduce in _REDUCTIONS and (ema_coeff is None or 0 < ema_coeff <= 1)
        )
        if not possible or (self.window if self.reduce == "ema" else ema_coeff) is not None:
            rules = f"reduce is one of {_REDUCTIONS}; 'ema' takes an ema_coeff in (0, 1], the others a window from 1 on"
            raise ValueError(
                f"{path} cannot be logged with {settings}, as (reduce, window, ema_coeff). {rules}"
            )
        self.ema_coeff = 0.01 if ema_coeff is None else ema_coeff
        self.values: deque[Any] = deque()
        self.number: Any = 0  # of the values that a mean runs over

    def update(self, value: Any) -> Any:
        """Returns what is to be kept for a value."""
        try:
            value = value.detach() if _has(value, "detach") else value
            if not self.values:
                return self._copy(value)
            kept = self.values[0]
            if self.window is None:  # an array promotes later values to its type
                return self._fold(kept, value if _has(kept, "dtype") else self._copy(value))
            if getattr(value, "shape", ()) != getattr(kept, "shape", ()):
                raise TypeError(
                    f"in a window all have one shape, such as {tuple(getattr(kept, 'shape', ()))}"
                )
            if not _has(value, "shape"):
                self._fold(
                    kept, value
                )  # raises here and not in reduce() if they do not go together
            return self._copy(value)
        except Exception as error:
            fault = (
                "does not go with those before it"
                if self.values
                else "is not a number, an array or a tensor"
            )
            raise TypeError(f"the value {value!r} of {self.path} {fault}: {error}") from error

    def reduced(self) -> Any:
        """Returns the reduced value, which shares no memory with what is kept."""
        running = functools.reduce(self._fold, self.values)
        if self.reduce == "mean":
            return running / (self.number if self.window is None else len(self.values))
        return self._copy(running)

    def _fold(self, running: Any, value: Any) -> Any:
        """Adds a value to what runs over those before it, which for a mean is their sum."""
        if self.reduce in ("mean", "sum"):
            return running + value
        if self.reduce == "ema":
            return (1 - self.ema_coeff) * running + self.ema_coeff * value
        if self.reduce == "item":
            return self._copy(value)
        array, bound = (value, running) if _has(value, "clip") else (running, value)
        if _has(array, "clip"):
            # The one spelling that NumPy, torch and JAX share, and that does not wait for a device as min() would.
            return array.clip(max=bound) if self.reduce == "min" else array.clip(min=bound)
        return (
            running
            if running != running
            else (min if self.reduce == "min" else max)(value, running)
        )  # NaN stays

    def _copy(self, value: Any) -> Any:
        """Returns a copy, of a type that is large enough to run over many values. JAX has no 64 bits by default."""
        averaged = self.reduce in ("mean", "ema")
        if _has(value, "detach"):
            integer = not value.is_floating_point()
            large = value.float() if not integer else value.double() if averaged else value.long()
        elif _has(value, "astype"):
            integer = value.dtype.kind in "biu"
            large = value.astype("float32" if not integer else float if averaged else int)
        else:
            return value - 0  # refuses str and list, which * 1 would take
        is_larger = large.dtype.itemsize > value.dtype.itemsize
        return large if is_larger or (integer and averaged) else value - 0


def _has(value: Any, attribute: str) -> bool:
    # Dynamo cannot ask for the attributes of a number whose value it does not know.
    return not isinstance(value, (int, float)) and hasattr(value, attribute)


def _nested(values: Mapping[_Path, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for path, value in values.items():
        node = nested
        for name in path[:-1]:
            node = node.setdefault(name, {})
        node[path[-1]] = value
    return nested


def _leaves(values: Mapping[str, Any], prefix: _Path) -> Iterator[tuple[_Path, Any]]:
    for name, value in dict(values.items()).items():  # each name once
        path = _path((*prefix, name))
        yield from _leaves(value, path) if isinstance(value, Mapping) else [(path, value)]


def _path(key: Key) -> _Path:
    if isinstance(key, str):
        return (key,)
    if isinstance(key, tuple) and 0 < len(key) < 100 and all(isinstance(name, str) for name in key):
        return key
    raise TypeError(
        f"the key of a metric is a string or a tuple of strings, not {key!r}, and has at most 99 names"
    )
