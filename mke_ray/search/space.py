"""A space of configurations written as YAML, drawn from by Optuna one key after the other."""

from collections.abc import Iterator, Mapping
from typing import Any

from mke_ray.errors import ConfigError
from mke_ray.search.drawing import Choice, Draws, Numbers, ends_of, is_whole, lowest_of

KINDS = ("choice", "uniform", "loguniform", "quniform", "integer")
_FIELDS = {
    "choice": ("values",),
    "uniform": ("low", "high"),
    "loguniform": ("low", "high"),
    "quniform": ("low", "high", "step"),
    "integer": ("low", "high", "step"),
}
_OPTIONAL = ("step", "when")
_SCALARS = (str, int, float, bool, type(None))


class Space:
    """Keys of a configuration and what each may be.

    Args:
        keys: A space for each dotted key, in the order in which they are drawn.
    """

    def __init__(self, keys: Mapping[str, Numbers | Choice]) -> None:
        self.keys = dict(keys)

    @classmethod
    def parse(cls, plain: Mapping[str, Any]) -> "Space":
        """Read a space.

        Args:
            plain: ``search.space``: dotted keys, or sections of them.

        Raises:
            ConfigError: It names what cannot be read.
        """
        keys = {key: _parse(one, f"search.space.{key}") for key, one in _flat(plain, "")}
        if not keys:
            raise ConfigError(
                "search.space is empty; choose search=fusion_and_loss, noise or engine, or give a "
                "space of your own"
            )
        _check_conditions(keys)
        return cls(keys)

    def draw(self, draws: Draws) -> dict[str, Any]:
        """Return a value for every key that is asked.

        Args:
            draws: What gives values.
        """
        values: dict[str, Any] = {}
        for key, one in self.keys.items():
            if all(values.get(other, _NEVER) == wanted for other, wanted in one.when.items()):
                values[key] = one.draw(key, draws)
        return values

    def params_of(self, values: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return what draws some values, None where one of them is outside the space.

        Args:
            values: A value for every key.
        """
        params: dict[str, Any] = {}
        for key, one in self.keys.items():
            if any(values.get(other, _NEVER) != wanted for other, wanted in one.when.items()):
                continue
            found = one.params_of(key, values[key]) if key in values else None
            if found is None:
                return None
            params |= found
        return params

    def alternatives(self) -> Iterator[tuple[str, Any]]:
        """Yield keys with the values that a check should try: all choices, and ends of ranges."""
        for key, one in self.keys.items():
            if isinstance(one, Choice):
                yield from ((key, lowest_of(value)) for value in one.values.values())
            else:
                yield from ((key, end) for end in ends_of(one))


_NEVER = object()


def _flat(plain: Mapping[str, Any], above: str) -> Iterator[tuple[str, Any]]:
    """Yield dotted keys with what stands for their space."""
    for name, one in plain.items():
        key = f"{above}.{name}" if above else str(name)
        if isinstance(one, Mapping) and not isinstance(one.get("type"), str):
            yield from _flat(one, key)
        else:
            yield key, one


def _parse(plain: Any, key: str) -> Numbers | Choice:
    """Read the space of one key."""
    kind = plain.get("type") if isinstance(plain, Mapping) else None
    if kind not in KINDS:
        raise ConfigError(
            f"{key}={plain!r}: expected {{type: ..., ...}} with a type of {list(KINDS)}"
        )
    _check_fields(plain, kind, key)
    when = dict(plain.get("when") or {})
    if kind == "choice":
        return Choice(_parse_values(plain["values"], key), when)
    return _parse_numbers(plain, kind, key, when)


def _check_fields(plain: Mapping[str, Any], kind: str, key: str) -> None:
    """Refuse fields that a kind of space lacks, and missing ones."""
    known = {*_FIELDS[kind], "type", "when"}
    if unknown := sorted(set(plain) - known):
        raise ConfigError(f"{key}: {kind} has no {unknown}; it takes {sorted(known - {'type'})}")
    needed = [name for name in _FIELDS[kind] if name not in _OPTIONAL or kind == "quniform"]
    if missing := [name for name in needed if name not in plain]:
        raise ConfigError(f"{key}: {kind} needs {missing}")


def _parse_numbers(
    plain: Mapping[str, Any], kind: str, key: str, when: Mapping[str, Any]
) -> Numbers:
    """Read a range."""
    numbers = {name: plain[name] for name in ("low", "high", "step") if plain.get(name) is not None}
    for name, value in numbers.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or (kind == "integer" and not is_whole(value)):
            wanted = "a whole number" if kind == "integer" else "a number"
            raise ConfigError(f"{key}.{name}={value!r}; give {wanted}")
    low, high, step = numbers["low"], numbers["high"], numbers.get("step")
    if low >= high or (kind == "loguniform" and low <= 0):
        above = "0 < " if kind == "loguniform" else ""
        raise ConfigError(f"{key}: low={low} and high={high}; needs {above}low < high")
    if step is not None and (step <= 0 or not is_whole((high - low) / step)):
        raise ConfigError(f"{key}.step={step}; give a number above 0 that divides high - low")
    return Numbers(kind, low, high, step, when)


def _parse_values(values: Any, key: str) -> dict[Any, Any]:
    """Read the values of a choice."""
    if not isinstance(values, list | tuple) or len(values) < 2:
        raise ConfigError(f"{key}.values={values!r}; give a list of at least two values")
    named: dict[Any, Any] = {}
    for number, value in enumerate(values):
        word = value if isinstance(value, _SCALARS) else _word_of(value, number)
        if word in named:
            raise ConfigError(f"{key}.values: {word!r} is there twice; leave one out")
        named[word] = _parse_inside(value, f"{key}.values[{number}]")
    return named


def _word_of(value: Any, number: int) -> str:
    """Return a word for a value that is a mapping or a list."""
    if not isinstance(value, Mapping):
        return str(value)
    kind = value.get("type")
    return kind if isinstance(kind, str) else f"value {number + 1}"


def _parse_inside(value: Any, key: str) -> Any:
    """Read a value of a choice; a mapping whose type is a kind of space is one."""
    if not isinstance(value, Mapping):
        return value
    if _is_space(value):
        return _parse(value, key)
    if "type" not in value and "_target_" not in value:
        raise ConfigError(
            f"{key}={dict(value)}: a mapping needs a type (or a _target_), by which it replaces "
            "what is there; search single keys of it instead"
        )
    return {
        name: _parse(one, f"{key}.{name}") if _is_space(one) else one for name, one in value.items()
    }


def _is_space(value: Any) -> bool:
    """Return whether a value is a space."""
    return isinstance(value, Mapping) and value.get("type") in KINDS


def _check_conditions(keys: Mapping[str, Numbers | Choice]) -> None:
    """Refuse conditions on keys that are not drawn before."""
    before: list[str] = []
    for key, one in keys.items():
        for other in one.when:
            if other not in before:
                raise ConfigError(
                    f"search.space.{key}.when names {other!r}; name one of the keys above it: "
                    f"{before}"
                )
            space, wanted = keys[other], one.when[other]
            if isinstance(space, Choice) and wanted not in list(space.values.values()):
                raise ConfigError(
                    f"search.space.{key}.when: {other} is never {wanted!r}; give one of its values "
                    f"{list(space.values)}"
                )
        before.append(key)
