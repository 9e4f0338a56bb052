"""The metrics logger."""

from collections.abc import Mapping
from typing import Any

from self_supervised_loss._metrics.arrays import to_loggable
from self_supervised_loss._metrics.records import Record, new_record
from self_supervised_loss._metrics.settings import Reduce, Settings
from self_supervised_loss._metrics.tree import (
    Key,
    Path,
    as_key,
    cleared,
    insert,
    nested,
    node_at,
    records_below,
    to_path,
)


class MetricsLogger:
    """Collects values during training, and reduces the values of each key to one.

    Modules, learners and training loops log numbers with `log_value` and `log_dict`. Once per
    iteration, the loop calls `reduce`, which returns the results and clears the logger. `peek`
    reads a result in between.

    Example:
        >>> metrics = MetricsLogger()
        >>> for loss in (1.0, 2.0):
        ...     metrics.log_value(("rnd", "loss"), loss)
        ...     metrics.log_value("steps", 256, reduce="sum")
        >>> metrics.peek("steps")
        512
        >>> metrics.reduce()
        {'rnd': {'loss': 1.5}, 'steps': 512}
        >>> metrics.reduce()
        {}

    A value is a number, or an array of NumPy, torch, JAX or a similar library. Arrays are reduced
    element by element. Tensors are detached and stay on their device, and logging never waits for
    the device. A key takes the memory of one value, or of `window` values.

    Methods and settings have the names that they have in RLlib's logger (Ray 2.60). Two differences
    are intentional: the default of `log_value` is a mean, not a moving average, and NaN is not
    skipped.

    Precision: Results have 64 bits, float64 or, for sums and extremes of integers, int64. NumPy's
    uint32 and uint64 give uint64, and torch's uint64 gives float64. In JAX results have 32 bits,
    unless the program enables 64, and a sum of large integers overflows. Only `"item"` and
    `window=1` keep the type of an array. After a million float32 values, the relative error of a
    mean is below 1e-5 with torch and NumPy, and below 1e-4 with JAX in 32 bits. On devices without
    double precision, such as Apple's MPS, a mean drifts like any sum in float32.
    Under `jax.debug_nans`, a NaN is refused if there is another value to combine it with, and an
    infinity is refused in a mean or sum.

    Threads: A logger is not safe to share between threads.

    torch.compile: A compiled step can log to a logger from outside. With a `window`, it is compiled
    again for each value until the window is full, and fails if that exceeds
    `torch._dynamo.config.recompile_limit`, by default 8.

    Other transformations: Under `jax.jit`, `jax.grad`, `jax.vmap`, `torch.func.vmap` and
    `torch.export`, create the logger inside the transformed function and return the result of
    `reduce`. JAX runs Python code only to trace it, so a logger sees each value once per trace. A
    `"sum"` inside `jax.lax.scan` does not add up the steps, and a number that a jitted step logs to
    a logger from outside is logged once, not once per call. To reduce across steps, return the
    values from the transformed function and log them outside.
    """

    def __init__(self) -> None:
        """Creates an empty logger."""
        self._root: dict[str, Any] = {}  # nested like the result, with a record for each key

    def log_value(
        self,
        key: Key,
        value: Any,
        *,
        reduce: Reduce | None = None,
        window: int | None = None,
        ema_coeff: float | None = None,
    ) -> None:
        """Logs one value.

        The first call with a key fixes `reduce`, `window` and `ema_coeff` for this key. Later calls
        may repeat or omit them, even after a `reduce()`. A key with default settings is forgotten
        if nothing is logged under it between two calls of `reduce()`.

        Args:
            key: A name, or a tuple of names that leads to the value in the nested result.
            value: A number or an array. All values of a key between two calls of `reduce()`, or
                all values of an `"ema"`, have one shape, framework and device. A number goes
                together with arrays of shape `()`. With `"item"` and `window=1`, any value does.
            reduce: How the values are combined: `"mean"` (the default), `"min"`, `"max"`, `"sum"`,
                `"ema"` (an exponential moving average) or `"item"` (the last value, of any shape).
            window: The number of most recent values to combine. By default, all values since the
                last `reduce()` are combined.
            ema_coeff: The weight of a new value in an `"ema"`, by default 0.01:
                `ema = (1 - ema_coeff) * ema + ema_coeff * value`. The average starts at the first
                value.

        Raises:
            TypeError: If `key` is not a string or a tuple of strings, or if `value` cannot be
                logged or does not fit the earlier values of the key.
            ValueError: If the settings are invalid or differ from those of the key, or if the key
                is already a dict in the result, or the other way round.
        """
        path = to_path(key)
        try:
            record = node_at(self._root, path)
            if record is None or isinstance(record, dict):
                record = new_record(Settings.create(reduce, window, ema_coeff))
                record.add(to_loggable(value))
                insert(self._root, path, record)
            else:
                if (reduce, window, ema_coeff) != (None, None, None):
                    record.settings.require_same(reduce, window, ema_coeff)
                record.add(to_loggable(value))
        except Exception as error:
            kind = ValueError if isinstance(error, ValueError) else TypeError
            raise kind(f"cannot log {as_key(path)!r}: {error}") from error

    def log_dict(
        self,
        value_dict: Mapping[str, Any],
        *,
        key: Key | None = None,
        reduce: Reduce | None = None,
        window: int | None = None,
        ema_coeff: float | None = None,
    ) -> None:
        """Logs each value of a dict, which may be nested, like `log_value`.

        If a value is rejected, the values before it have been logged.

        Args:
            value_dict: Values or further dicts, by name.
            key: The key of the dict in the nested result, often the module ID. By default the names
                are at the top.
            reduce: For all values, as in `log_value`.
            window: For all values, as in `log_value`.
            ema_coeff: For all values, as in `log_value`.

        Raises:
            TypeError: As in `log_value`.
            ValueError: As in `log_value`.
        """
        prefix = () if key is None else to_path(key)
        for name, value in value_dict.items():
            path = (*prefix, name)
            if isinstance(value, Mapping):
                self.log_dict(value, key=path, reduce=reduce, window=window, ema_coeff=ema_coeff)
            else:
                self.log_value(path, value, reduce=reduce, window=window, ema_coeff=ema_coeff)

    def peek(self, key: Key) -> Any:
        """Returns the current result of a key, or a dict of results, and changes nothing.

        Raises:
            KeyError: If the key has no result.
            TypeError: If `key` is not a string or a tuple of strings, or if the values of a key
                cannot be reduced.
        """
        path = to_path(key)
        records = records_below(node_at(self._root, path))
        if not records:
            known = [as_key(other) for other in records_below(self._root)]
            raise KeyError(f"nothing is logged as {key!r}, only as {known}")
        results = {below: _reduced((*path, *below), record) for below, record in records.items()}
        return results[()] if () in results else nested(results)

    def reduce(self, *, sep: str | None = None) -> dict[str, Any]:
        """Returns the result of each key and clears the logger. Moving averages are kept.

        Args:
            sep: Joins the names of each key, for a flat dict: `"/"` suits TensorBoard and W&B. By
                default, the result is nested.

        Raises:
            ValueError: If two joined keys are the same. Nothing is cleared then.
            TypeError: If the values of a key cannot be reduced. That key is cleared, and the next
                `reduce()` returns all others.
        """
        records = records_below(self._root)
        if sep is not None:
            _require_distinct([*records], sep)
        results = {}
        for path, record in records.items():
            try:
                results[path] = _reduced(path, record)
            except TypeError:
                record.clear()
                raise
        self._root = cleared(self._root)
        return nested(results) if sep is None else {sep.join(p): r for p, r in results.items()}


def _reduced(path: Path, record: Record) -> Any:
    try:
        return record.reduced()
    except Exception as error:
        raise TypeError(f"cannot reduce the values of {as_key(path)!r}: {error}") from error


def _require_distinct(paths: list[Path], sep: str) -> None:
    names = [sep.join(path) for path in paths]
    if len({*names}) < len(names):
        clashing = [path for path in paths if names.count(sep.join(path)) > 1]
        raise ValueError(f"these keys become one with sep={sep!r}: {clashing}")
