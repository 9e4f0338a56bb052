"""The metrics logger: what modules log while their losses are computed, reduced key by key."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from self_supervised_loss._metrics.arrays import detached, widened
from self_supervised_loss._metrics.running import MovingAverage
from self_supervised_loss._metrics.settings import DEFAULT, RULES, Kept, Reduce, Settings

Key: TypeAlias = str | tuple[str, ...]
_Path: TypeAlias = tuple[str, ...]


class MetricsLogger:
    """Collects the values that modules log, and reduces the values of each key to one.

    Values are Python numbers, or arrays of NumPy, torch, JAX and what behaves like them; those of
    MLX are refused. They stay on their device, and nothing waits for them. Tensors are detached,
    and what is done to them in place later does not show. Arrays are reduced element by element,
    where RLlib takes the mean of each. NaN is not skipped, and stays in a moving average. Integers
    and half precision are reduced in larger types, so that sums neither overflow nor stop growing;
    but JAX sums in 32 bits unless the program has set `jax_enable_x64`. A key takes the memory of
    one value, or of `window` values. Several threads must not write to one logger at once.

    Under `jax.jit`, `jax.vmap`, `torch.func.vmap` and `torch.export`, make the logger inside the
    transformed function and return what `reduce` returns. `torch.compile` also takes one from
    outside. The names are RLlib's (Ray 2.60).
    """

    def __init__(self) -> None:
        """Makes an empty logger."""
        self._kept: dict[_Path, Kept] = {}
        self._settings: dict[_Path, Settings] = {}  # those last named, which outlive a reduce()
        self._logged: set[_Path] = set()  # since the last reduce(); a moving average may be older
        self._parents: dict[_Path, _Path] = {}  # the dicts of the result, each with a key in it

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

        The settings of a key hold until a call names others, also across a `reduce()`. Others can
        be named only between a `reduce()` and the next value, with which the key starts afresh. A
        call that names a `window` or an `ema_coeff` alone leaves `reduce` as it was.

        Args:
            key: The name of the value, or a tuple of names that leads to it in the nested result.
            value: A number or an array. All of one key have one shape, unless only the last counts.
            reduce: What becomes of the values of a key: their `"mean"`, `"min"`, `"max"` or
                `"sum"`, their exponential moving average (`"ema"`), or the last one (`"item"`). A
                key for which none was ever named has the mean.
            window: How many of the last values are reduced. If a call names only other settings,
                all since the last `reduce()`. A step under `torch.compile` is recompiled until the
                window is full, so keep it small there.
            ema_coeff: The weight of a new value, for `"ema"` only:
                `ema = (1 - ema_coeff) * ema + ema_coeff * value`, starting at the first value. If
                a call names only other settings, 0.01.

        Raises:
            TypeError: If `key` or `value` is of another type, or if `value` does not go with those
                before it.
            ValueError: If the settings are impossible or not those of before, or the key both a
                value and a dict.
        """
        path = _path(key)
        settings = self._settings_of(path, reduce, window, ema_coeff)
        self._require_place(path)
        try:
            self._add(path, detached(value), settings)
        except Exception as error:
            raise TypeError(_refused(path, value, error, later=path in self._kept)) from error
        self._settings[path] = settings
        self._logged.add(path)

    def log_dict(
        self,
        value_dict: Mapping[str, Any],
        *,
        key: Key | None = None,
        reduce: Reduce | None = None,
        window: int | None = None,
        ema_coeff: float | None = None,
    ) -> None:
        """Logs every value of a dict, which may be nested, as `log_value` does.

        If a value is refused, those before it have been logged, and those after it have not.

        Args:
            value_dict: The names and their values, or further dicts.
            key: Where the dict goes in the nested result, often the ID of the module. By default
                its names are at the top.
            reduce: As in `log_value`, for all values.
            window: As in `log_value`, for all values.
            ema_coeff: As in `log_value`, for all values.

        Raises:
            TypeError: As in `log_value`.
            ValueError: As in `log_value`.
        """
        above = () if key is None else _path(key)
        for name, value in value_dict.items():
            path = (*above, name)
            if isinstance(value, Mapping):
                self.log_dict(value, key=path, reduce=reduce, window=window, ema_coeff=ema_coeff)
            else:
                self.log_value(path, value, reduce=reduce, window=window, ema_coeff=ema_coeff)

    def peek(self, key: Key) -> Any:
        """Returns a copy of what the values of a key come to by now, and changes nothing.

        Where the key is that of a dict in the nested result, it returns that dict.

        Raises:
            KeyError: If there is no such key in the result.
            TypeError: If the values of the key cannot be reduced.
        """
        path = _path(key)
        if path in self._kept:
            return self._reduced(path)
        below = [other for other in self._kept if other[: len(path)] == path]
        if not below:
            raise KeyError(
                f"nothing was logged under {path} since the last reduce(), "
                f"only under {[*self._kept]}"
            )
        return _nested({other[len(path) :]: self._reduced(other) for other in below})

    def reduce(self, *, sep: str | None = None) -> dict[str, Any]:
        """Takes out what the values of each key come to. Only moving averages go on after that.

        Args:
            sep: What joins the names of a key in a flat dict: `"/"` is what TensorBoard and W&B
                take. By default the result is nested dicts.

        Raises:
            ValueError: If two keys are the same when they are joined. Nothing is taken out then.
            TypeError: If the values of a key cannot be reduced, as those in a window that come from
                two devices. That key is taken out, and the next `reduce()` returns all others.
        """
        names = {path: path if sep is None else (sep.join(path),) for path in self._kept}
        if len({*names.values()}) < len(names):
            raise ValueError(f"two of these keys are the same with sep={sep!r}: {[*names]}")
        values = {}
        for path, name in names.items():
            try:
                values[name] = self._reduced(path)
            except TypeError:
                del self._kept[path]
                raise
        self._start_afresh()
        return _nested(values)

    def _settings_of(
        self, path: _Path, reduce: Reduce | None, window: int | None, ema_coeff: float | None
    ) -> Settings:
        before = self._settings.get(path, DEFAULT)
        settings = before.after_naming(reduce, window, ema_coeff)
        if settings == before:
            return before
        if not settings.are_possible():
            raise ValueError(f"{path} cannot be logged with {settings}: {RULES}")
        if path in self._logged:
            raise ValueError(
                f"{path} was logged with {before}, and cannot be logged with {settings} "
                "before the next reduce()"
            )
        return settings

    def _require_place(self, path: _Path) -> None:
        if path in self._kept:
            return
        above = [path[:n] for n in range(1, len(path)) if path[:n] in self._kept]
        beside = [self._parents[path]] if path in self._parents else above
        if beside:
            raise ValueError(
                f"cannot log {path} beside {beside[0]}: a key is either a value or a dict"
            )

    def _add(self, path: _Path, value: Any, settings: Settings) -> None:
        if path in self._kept and settings == self._settings[path]:
            self._kept[path].add(value)
        else:
            # A copy already here, since Dynamo returns from its graph what a constructor is given.
            self._kept[path] = settings.start(widened(value))
            self._add_parents(path)

    def _add_parents(self, path: _Path) -> None:
        for length in range(1, len(path)):
            self._parents[path[:length]] = path

    def _reduced(self, path: _Path) -> Any:
        try:
            return self._kept[path].reduced()
        except Exception as error:
            raise TypeError(f"the values of {path} cannot be reduced: {error}") from error

    def _start_afresh(self) -> None:
        self._kept = {
            path: kept for path, kept in self._kept.items() if isinstance(kept, MovingAverage)
        }
        self._logged = set()
        self._parents = {}
        for path in self._kept:
            self._add_parents(path)


def _path(key: Key) -> _Path:
    if isinstance(key, str):
        return (key,)
    if isinstance(key, tuple) and key and all(isinstance(name, str) for name in key):
        return key
    raise TypeError(f"the key of a metric is a string or a tuple of strings, not {key!r}")


def _nested(values: Mapping[_Path, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for path, value in values.items():
        node = nested
        for name in path[:-1]:
            node = node.setdefault(name, {})
        node[path[-1]] = value
    return nested


def _refused(path: _Path, value: Any, error: Exception, *, later: bool) -> str:
    fault = "does not go with those before it" if later else "is not a number, an array or a tensor"
    return f"the value {value!r} of {path} {fault}: {error}"
