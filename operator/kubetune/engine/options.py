"""Settings of samplers and pruners: what there is, its default, its bounds, and errors that say so.

The CRD takes any settings, because they differ by algorithm; here they are read, before anything is created.
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any, TypeAlias

from kubetune.api.spec import Algorithm, InvalidSpec


@dataclasses.dataclass(frozen=True)
class Whole:
    """A whole number of at least ``low``. ``default`` None: it has to be given or, if ``optional``, the algorithm
    decides."""

    default: int | None
    low: int
    optional: bool = False

    def read(self, field: str, value: Any) -> int:
        whole = isinstance(value, int) and not isinstance(value, bool)
        whole = whole or (isinstance(value, float) and value.is_integer())  # 20.0, as some clients write 20
        if not whole or value < self.low:
            raise InvalidSpec(field, f"needs a whole number of at least {self.low}, but is {value!r}")
        return int(value)


@dataclasses.dataclass(frozen=True)
class Real:
    """A number from ``low`` to ``high``, both included. ``default`` None: as with `Whole`."""

    default: float | None
    low: float = -math.inf
    high: float = math.inf
    optional: bool = False

    def read(self, field: str, value: Any) -> float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or not self.low <= value <= self.high:
            raise InvalidSpec(field, f"needs a number{self._bounds()}, but is {value!r}")
        return float(value)

    def _bounds(self) -> str:
        if math.isinf(self.low):
            return ""
        return f" of at least {self.low:g}" if math.isinf(self.high) else f" from {self.low:g} to {self.high:g}"


@dataclasses.dataclass(frozen=True)
class Factors:
    """A few different numbers above 0."""

    default: tuple[float, ...]

    def read(self, field: str, value: Any) -> tuple[float, ...]:
        numbers = [each for each in value if isinstance(each, int | float)] if isinstance(value, list | tuple) else []
        sound = all(not isinstance(each, bool) and 0 < each < math.inf for each in numbers)
        if not numbers or len(numbers) < len(value) or not sound or len(set(numbers)) < len(numbers):
            raise InvalidSpec(field, f"needs a list of different numbers above 0, such as [0.8, 1.2], but is {value!r}")
        return tuple(map(float, numbers))


@dataclasses.dataclass(frozen=True)
class Switch:
    """true or false. ``default`` None: the algorithm decides."""

    default: bool | None

    def read(self, field: str, value: Any) -> bool:
        if not isinstance(value, bool):
            raise InvalidSpec(field, f"needs true or false, but is {value!r}")
        return value


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of some words, the first by default."""

    words: tuple[str, ...]

    @property
    def default(self) -> str:
        return self.words[0]

    def read(self, field: str, value: Any) -> str:
        if value not in self.words:
            raise InvalidSpec(field, f"needs one of {', '.join(self.words)}, but is {value!r}")
        return str(value)


class Nested:
    """Another algorithm, {name, settings}, which is judged where it is made."""

    default: None = None

    def read(self, field: str, value: Any) -> Algorithm:
        settings = value.get("settings") or {} if isinstance(value, Mapping) else None
        known = isinstance(value, Mapping) and value.keys() <= {"name", "settings"}
        if not known or not isinstance(settings, Mapping) or not isinstance(value.get("name"), str):
            raise InvalidSpec(field, f"needs a name and maybe settings, such as {{name: median}}, but is {value!r}")
        return Algorithm(value["name"], dict(settings))


@dataclasses.dataclass(frozen=True)
class Text:
    """A word that a regular expression matches whole. ``what``: in words."""

    pattern: str
    what: str
    default: str | None = None

    def read(self, field: str, value: Any) -> str:
        if not isinstance(value, str) or not re.fullmatch(self.pattern, value):
            raise InvalidSpec(field, f"needs {self.what}, but is {value!r}")
        return value


Option: TypeAlias = Whole | Real | Factors | Switch | Choice | Nested | Text


def read(field: str, algorithm: Algorithm, known: Mapping[str, Option]) -> dict[str, Any]:
    """All known settings by name: the given value, or the default.

    Raises:
        InvalidSpec: for a setting that is not known (naming those that are), out of bounds, or needed and not given.
    """
    for name in algorithm.settings:
        if name not in known:
            choice = f"its settings are {', '.join(sorted(known))}" if known else "it has no settings"
            raise InvalidSpec(f"{field}.settings.{name}", f"{algorithm.name} has no such setting; {choice}")
    return {
        name: option.read(f"{field}.settings.{name}", algorithm.settings[name])
        if name in algorithm.settings
        else _default(field, algorithm, name, option)
        for name, option in known.items()
    }


def _default(field: str, algorithm: Algorithm, name: str, option: Option) -> Any:
    if option.default is None and isinstance(option, Whole | Real) and not option.optional:
        raise InvalidSpec(f"{field}.settings.{name}", f"{algorithm.name} needs it; it has no default")
    return option.default
