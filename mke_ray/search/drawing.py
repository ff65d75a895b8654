"""What one key of a configuration may be, drawn from by Optuna."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


class Draws(Protocol):
    """What gives values; a trial of Optuna is one."""

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """Return one of some values."""
        ...

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Return a number between two."""
        ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1) -> int:
        """Return a whole number between two."""
        ...


@dataclass(frozen=True, slots=True)
class Numbers:
    """Numbers between two.

    Args:
        kind: ``uniform``, ``loguniform``, ``quniform`` or ``integer``.
        low: Least of them.
        high: Largest of them.
        step: Distance of two neighbours; None takes all.
        when: Values of other keys without which this one is not asked.
    """

    kind: str
    low: float
    high: float
    step: float | None = None
    when: Mapping[str, Any] = field(default_factory=dict)

    def in_words(self) -> str:
        """Return what is drawn, for people."""
        step = "" if self.step is None else f" in steps of {self.step:g}"
        return f"{self.kind}, {self.low:g} to {self.high:g}{step}{_condition(self.when)}"

    def draw(self, name: str, draws: Draws) -> float:
        """Return a number."""
        if self.kind == "integer":
            return draws.suggest_int(name, int(self.low), int(self.high), step=int(self.step or 1))
        is_log = self.kind == "loguniform"
        return draws.suggest_float(name, self.low, self.high, step=self.step, log=is_log)

    def params_of(self, name: str, value: Any) -> dict[str, Any] | None:
        """Return what draws a value, None where nothing does."""
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not self.low <= value <= self.high:
            return None
        if self.step is not None and not is_whole((value - self.low) / self.step):
            return None
        return {name: int(value) if self.kind == "integer" else float(value)}


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some values; one that is a mapping may hold further spaces.

    Args:
        values: The values, by the word that tells them apart.
        when: Values of other keys without which this one is not asked.
    """

    values: Mapping[Any, Any]
    when: Mapping[str, Any] = field(default_factory=dict)

    def in_words(self) -> str:
        """Return what is drawn, for people."""
        return f"one of {', '.join(map(str, self.values))}{_condition(self.when)}"

    def draw(self, name: str, draws: Draws) -> Any:
        """Return a value."""
        word = draws.suggest_categorical(name, list(self.values))
        return _drawn(self.values[word], f"{name}.{word}", draws)

    def params_of(self, name: str, value: Any) -> dict[str, Any] | None:
        """Return what draws a value, None where nothing does."""
        for word, one in self.values.items():
            inside = _params_inside(one, f"{name}.{word}", value)
            if inside is not None:
                return {name: word, **inside}
        return None


def ends_of(one: Numbers) -> tuple[float, float]:
    """Return both ends of a range, as they would be drawn."""
    kind = int if one.kind == "integer" else float
    return kind(one.low), kind(one.high)


def lowest_of(value: Any) -> Any:
    """Return a value with the lower end, or the first choice, of every space inside it."""
    if isinstance(value, Numbers):
        return ends_of(value)[0]
    if isinstance(value, Choice):
        return lowest_of(next(iter(value.values.values())))
    if isinstance(value, Mapping):
        return {name: lowest_of(one) for name, one in value.items()}
    return value


def _drawn(value: Any, name: str, draws: Draws) -> Any:
    """Return a value with everything inside it drawn."""
    if isinstance(value, Numbers | Choice):
        return value.draw(name, draws)
    if isinstance(value, Mapping):
        return {key: _drawn(one, f"{name}.{key}", draws) for key, one in value.items()}
    return value


def _params_inside(space: Any, name: str, value: Any) -> dict[str, Any] | None:
    """Return what draws the inside of a value, None where it cannot be drawn."""
    if isinstance(space, Numbers | Choice):
        return space.params_of(name, value)
    if not isinstance(space, Mapping):
        return {} if space == value and type(space) is type(value) else None
    if not isinstance(value, Mapping) or set(value) != set(space):
        return None
    params: dict[str, Any] = {}
    for key, one in space.items():
        found = _params_inside(one, f"{name}.{key}", value[key])
        if found is None:
            return None
        params |= found
    return params


def is_whole(number: float) -> bool:
    """Return whether a number is whole but for rounding."""
    return math.isclose(number, round(number), abs_tol=1e-6)


def _condition(when: Mapping[str, Any]) -> str:
    """Return under which condition something is drawn, "" where it always is."""
    asked = " and ".join(f"{key}={value}" for key, value in when.items())
    return f", where {asked}" if asked else ""
