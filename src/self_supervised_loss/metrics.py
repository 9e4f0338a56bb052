"""The metrics logger: running values of what modules log while their losses are computed."""

import functools
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

Key: TypeAlias = str | tuple[str, ...]
Reduce: TypeAlias = Literal["mean", "min", "max", "sum", "ema", "item"]
_REDUCTIONS = get_args(Reduce)


class MetricsLogger:
    """Collects the values that modules log, and reduces the values of each key to one.

    A training loop takes them out whenever it wants to report:

        for batch in batches:
            losses = learner.compute_losses(fwd_out=..., batch=batch)    # the modules log
        print(learner.metrics.reduce())    # {"icm": {"forward_loss": ..., "inverse_loss": ...}}

    Values are Python numbers, or arrays and tensors of any framework. They are not moved or waited for. Tensors leave
    the autograd graph as they are logged, later changes to them in place do not show, and small types are reduced in
    32 bits. A key takes the memory of one value, or of `window` values. NaN is not skipped but shows.

    Under `jax.jit` the values are tracers: make the logger inside the function, and return what `reduce` returns.
    Several threads must not write to one logger at once. The names are those of RLlib's `MetricsLogger` (Ray 2.60).
    """

    def __init__(self) -> None:
        """Makes an empty logger."""
        self._stats: dict[str, Any] = {}

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
            window: How many of the last values are reduced. By default all since the last `reduce()`. A compiled step
                is compiled anew until the window is full, so keep it small under `torch.compile`.
            ema_coeff: The weight of a new value, for `"ema"` only: `ema = (1 - ema_coeff) * ema + ema_coeff * value`,
                starting at the first value. 0.01 by default.

        Raises:
            TypeError: If `key` is neither a string nor a tuple of strings.
            ValueError: If `reduce` is unknown, if `window` or `ema_coeff` is out of range or does not go with
                `reduce`, if `key` was logged with other settings, or if one key would be both a value and a dict.
        """
        self._log({_path(key): value}, _settings(reduce, window, ema_coeff))

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

        Args:
            value_dict: The values by name.
            key: Where the dict goes in the nested result, often the ID of the module. By default at its top.
            reduce: As in `log_value`, and so are `window`, `ema_coeff` and the errors.
            window: See `reduce`.
            ema_coeff: See `reduce`.
        """
        self._log(dict(_leaves(value_dict, () if key is None else _path(key))), _settings(reduce, window, ema_coeff))

    def peek(self, key: Key) -> Any:
        """Reads what has been logged under a key, without changing it.

        Args:
            key: A key that was logged, or the beginning of one.

        Returns:
            The reduced value, or the nested dict of all values below `key`.

        Raises:
            KeyError: If nothing was logged under `key`.
        """
        node: Any = self._stats
        for name in _path(key):
            if not isinstance(node, dict) or name not in node:
                keys = [path if len(path) > 1 else path[0] for path, _ in _leaves(self._stats, ())]
                raise KeyError(f"nothing was logged under {key!r} since the last reduce(); the keys there are: {keys}")
            node = node[name]
        return _reduced(node)

    def reduce(self) -> dict[str, Any]:
        """Takes out all values and starts afresh, also where it raises because values do not go together.

        Returns:
            The reduced values, in nested dicts where keys are tuples.
        """
        stats, self._stats = self._stats, {}
        return {name: _reduced(node) for name, node in stats.items()}

    def _log(self, values: dict[tuple[str, ...], Any], settings: "_Settings") -> None:
        # All new states come before the first assignment, so that an error leaves the logger as it was.
        stats = {path: self._stat(path, settings).add(path, value) for path, value in values.items()}
        for path, stat in stats.items():
            node = self._stats
            for name in path[:-1]:
                node = node.setdefault(name, {})
            node[path[-1]] = stat

    def _stat(self, path: tuple[str, ...], settings: "_Settings") -> Any:
        node: Any = self._stats
        for depth, name in enumerate(path):
            if isinstance(node, _Stat):
                raise ValueError(f"cannot log {path!r}: {path[:depth]!r} holds a value already")
            if name not in node:
                return _Stat(settings)
            node = node[name]
        if isinstance(node, dict):
            raise ValueError(f"cannot log a value as {path!r}: it holds a dict already, with {list(node)}")
        if node.settings != settings:
            raise ValueError(f"{path!r} takes {node.settings._asdict()}, not {settings._asdict()}. Use another key.")
        return node


class _Settings(NamedTuple):
    reduce: Reduce
    window: int | None
    ema_coeff: Any


class _Stat(NamedTuple):
    """What is kept of one key: the values in its window, or else what runs over all values, and their number."""

    settings: _Settings
    state: tuple[Any, ...] = ()

    def add(self, path: tuple[str, ...], value: Any) -> "_Stat":
        value = _own(path, value)
        if self.settings.window is not None:
            return _Stat(self.settings, (*self.state, value)[-self.settings.window :])
        if not self.state:
            # For tensors the number is a tensor too: torch.compile would compile anew for each value of an int.
            return _Stat(self.settings, (value, value.new_ones(()).int() if _has(value, "new_ones") else 1))
        running, number = self.state
        if self.settings.reduce == "mean":
            number = number + 1
        return _Stat(self.settings, (self.fold(running, value), number))

    def value(self) -> Any:
        if self.settings.window is None:
            running, number = self.state
        else:
            running, number = functools.reduce(self.fold, self.state), len(self.state)
        return running / number if self.settings.reduce == "mean" else running

    def fold(self, running: Any, value: Any) -> Any:
        """Adds a value to what runs over those before it, which for a mean is their sum."""
        reduce, _, ema_coeff = self.settings
        if reduce in ("mean", "sum"):
            return running + value
        if reduce == "ema":
            return (1 - ema_coeff) * running + ema_coeff * value
        if reduce == "item":
            return value
        array, bound = (value, running) if _has(value, "clip") else (running, value)
        if _has(array, "clip"):
            # The one spelling that NumPy, torch and JAX share, and that does not wait for a device as min() would.
            return array.clip(max=bound) if reduce == "min" else array.clip(min=bound)
        return running if running != running else (min if reduce == "min" else max)(value, running)  # NaN stays


def _own(path: tuple[str, ...], value: Any) -> Any:
    """Returns a copy outside the autograd graph, in at least 32 bits: in less, sums soon stand still or overflow."""
    if _has(value, "detach"):
        value = value.detach()
        if value.element_size() < 4:
            return value.float() if value.is_floating_point() else value.int()
    elif _has(value, "astype") and value.dtype.itemsize < 4:
        return value.astype("int32" if value.dtype.kind in "biu" else "float32")
    try:
        return value - 0  # refuses str and list, which * 1 would take
    except TypeError:
        raise TypeError(f"{path!r} is {value!r}, not a number, an array or a tensor; log_dict takes dicts") from None


def _has(value: Any, method: str) -> bool:
    # torch.compile cannot ask for the attributes of a number whose value it does not know.
    return not isinstance(value, (int, float)) and hasattr(value, method)


def _reduced(node: Any) -> Any:
    return {name: _reduced(child) for name, child in node.items()} if isinstance(node, dict) else node.value()


def _leaves(values: Mapping[str, Any], prefix: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in dict(values.items()).items():  # each name once
        path = _path((*prefix, name))
        yield from _leaves(value, path) if isinstance(value, Mapping) else [(path, value)]


def _path(key: Key) -> tuple[str, ...]:
    if isinstance(key, str):
        return (key,)
    if isinstance(key, tuple) and 0 < len(key) < 100 and all(isinstance(name, str) for name in key):
        return key
    raise TypeError(f"the key of a metric is a string or a tuple of strings, not {key!r}, and has at most 99 names")


def _settings(reduce: Reduce, window: int | None, ema_coeff: float | None) -> _Settings:
    if reduce not in _REDUCTIONS:
        raise ValueError(f"reduce is one of {', '.join(map(repr, _REDUCTIONS))}, not {reduce!r}")
    if window is not None and (not isinstance(window, int) or window < 1):
        raise ValueError(f"window is None, for all values, or an integer from 1 on, not {window!r}")
    if (window if reduce == "ema" else ema_coeff) is not None:
        raise ValueError(f"ema_coeff goes with reduce='ema' alone, and window with all others, but reduce={reduce!r}")
    if ema_coeff is not None and not 0 < ema_coeff <= 1:
        raise ValueError(f"ema_coeff is above 0 and at most 1, not {ema_coeff!r}")
    return _Settings(reduce, window, 0.01 if reduce == "ema" and ema_coeff is None else ema_coeff)
