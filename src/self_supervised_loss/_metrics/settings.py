"""How the values of one key are reduced: what can be said of it, and what is kept for it."""

from numbers import Integral, Real
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from self_supervised_loss._metrics.running import (
    Last,
    Maximum,
    Mean,
    Minimum,
    MovingAverage,
    Running,
    Sum,
    Window,
)

Reduce: TypeAlias = Literal["mean", "min", "max", "sum", "ema", "item"]
Kept: TypeAlias = Last | Running | Window

_KINDS: dict[str, type[Running]] = {"mean": Mean, "min": Minimum, "max": Maximum, "sum": Sum}
RULES = (
    f"reduce is one of {get_args(Reduce)}; 'ema' takes an ema_coeff in (0, 1], "
    "the others a window from 1 on"
)


class Settings(NamedTuple):
    """The settings of a key, by default those of a mean of all values."""

    reduce: Reduce = "mean"
    window: int | None = None
    ema_coeff: float | None = None

    def after_naming(
        self, reduce: Reduce | None, window: int | None, ema_coeff: float | None
    ) -> "Settings":
        """Returns what holds after a call that names these. `None` is what it does not name."""
        if reduce is None and window is None and ema_coeff is None:
            return self
        return Settings(self.reduce if reduce is None else reduce, window, ema_coeff)

    def are_possible(self) -> bool:
        """Tells whether they keep to the rules."""
        if self.reduce == "ema":
            return self.window is None and (self.ema_coeff is None or _is_weight(self.ema_coeff))
        return (
            self.reduce in get_args(Reduce)
            and self.ema_coeff is None
            and (self.window is None or _is_size(self.window))
        )

    def start(self, first: Any) -> Kept:
        """Returns what is kept of the values of a key, which starts with a copy of the first."""
        if self.reduce == "item" or self.window == 1:
            return Last(first)
        if self.reduce == "ema":
            return MovingAverage(first, 0.01 if self.ema_coeff is None else float(self.ema_coeff))
        kind = _KINDS[self.reduce]
        return kind(first) if self.window is None else Window(kind, self.window, first)

    def __str__(self) -> str:
        """Returns the settings as a call names them."""
        named = self._asdict().items()
        return ", ".join(f"{name}={value!r}" for name, value in named if value is not None)


DEFAULT = Settings()


def _is_weight(value: object) -> bool:
    return isinstance(value, Real) and 0 < float(value) <= 1


def _is_size(value: object) -> bool:
    return isinstance(value, Integral) and int(value) > 0
