"""Settings of samplers and pruners: what there is, its default, its bounds, and errors that say so.

The CRD takes any settings, because they differ by algorithm; here they are read, before anything is created.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeAlias

from kubetune.api.spec import Algorithm, InvalidSpec


@dataclasses.dataclass(frozen=True)
class Whole:
    """A whole number of at least ``low``."""

    default: int
    low: int

    def read(self, field: str, value: Any) -> int:
        whole = isinstance(value, int) and not isinstance(value, bool)
        whole = whole or (isinstance(value, float) and value.is_integer())  # 20.0, as some clients write 20
        if not whole or value < self.low:
            raise InvalidSpec(field, f"needs a whole number of at least {self.low}, but is {value!r}")
        return int(value)


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


Option: TypeAlias = Whole | Switch | Choice


def read(field: str, algorithm: Algorithm, known: Mapping[str, Option]) -> dict[str, Any]:
    """All known settings by name: the given value, or the default.

    Raises:
        InvalidSpec: for a setting that is not known (naming those that are) or out of bounds.
    """
    for name in algorithm.settings:
        if name not in known:
            choice = f"its settings are {', '.join(sorted(known))}" if known else "it has no settings"
            raise InvalidSpec(f"{field}.settings.{name}", f"{algorithm.name} has no such setting; {choice}")
    return {
        name: option.read(f"{field}.settings.{name}", algorithm.settings[name])
        if name in algorithm.settings
        else option.default
        for name, option in known.items()
    }
