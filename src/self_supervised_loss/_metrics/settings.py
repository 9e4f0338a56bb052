"""The settings of a key: how its values are reduced."""

from typing import Any, Literal, NamedTuple, TypeAlias, get_args

Reduce: TypeAlias = Literal["mean", "min", "max", "sum", "ema", "item"]

REDUCTIONS = get_args(Reduce)


class Settings(NamedTuple):
    """The settings of a key. The call that creates the key fixes them."""

    reduce: Reduce = "mean"
    window: int | None = None
    ema_coeff: float | None = None

    @classmethod
    def create(cls, reduce: Any, window: Any, ema_coeff: Any) -> "Settings":
        """Returns the settings of a new key. None stands for the default.

        Raises:
            ValueError: If the settings are invalid.
        """
        reduce = "mean" if reduce is None else reduce
        if reduce == "ema" and ema_coeff is None:
            ema_coeff = 0.01
        settings = cls(reduce, window, ema_coeff)
        if not settings._are_valid():
            raise ValueError(_invalid_message(settings))
        return settings

    def require_same(self, reduce: Any, window: Any, ema_coeff: Any) -> None:
        """Checks the settings that a later call names. None stands for not named.

        Raises:
            ValueError: If one of them differs.
        """
        if (
            reduce not in (None, self.reduce)
            or window not in (None, self.window)
            or ema_coeff not in (None, self.ema_coeff)
        ):
            raise ValueError(_changed_message(self, Settings(reduce, window, ema_coeff)))

    def __str__(self) -> str:
        """Returns the settings as a call names them."""
        named = self._asdict().items()
        return ", ".join(f"{name}={value!r}" for name, value in named if value is not None)

    def _are_valid(self) -> bool:
        if self.reduce == "ema":
            return self.window is None and _is_coefficient(self.ema_coeff)
        has_valid_window = self.window is None or _is_size(self.window)
        return self.reduce in REDUCTIONS and has_valid_window and self.ema_coeff is None


DEFAULT = Settings()


def _is_coefficient(value: Any) -> bool:
    return hasattr(value, "__float__") and 0 < float(value) <= 1


def _is_size(value: Any) -> bool:
    return hasattr(value, "__index__") and int(value) > 0


def _invalid_message(settings: Settings) -> str:
    return (
        f"invalid settings {settings}: reduce must be one of {REDUCTIONS}, "
        "window at least 1, and ema_coeff, for reduce='ema' only, in (0, 1]"
    )


def _changed_message(settings: Settings, named: Settings) -> str:
    return f"expected {settings} as in the call that created the key, got {named}"
