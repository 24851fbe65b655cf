"""What a trial may have more or less of: epochs, steps, a fraction of the data, the size of a model."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, Literal

from kubetune.api import names
from kubetune.api.parameters import InvalidSpec


@dataclasses.dataclass(frozen=True)
class Fidelity:
    """A resource from ``min`` to ``max``, in its own unit; trials get it as a variable of this name.

    ``resume``: a trial that gets more of it later goes on from its checkpoint, or restarts with nothing.
    """

    name: str
    min: float
    max: float
    resume: Literal["checkpoint", "restart"] = "checkpoint"

    @property
    def is_whole(self) -> bool:
        """Whether it comes in whole numbers: both ends are."""
        return float(self.min).is_integer() and float(self.max).is_integer()

    def text(self, resource: float) -> str:
        """As trials see it."""
        return str(int(resource)) if self.is_whole else repr(float(resource))


def parse(form: Mapping[str, Any] | None, parameters: Collection[str]) -> Fidelity | None:
    """The custom resource's `spec.fidelity`. Raises InvalidSpec."""
    if not form:
        return None
    name = str(form.get("name", ""))
    if not names.PARAMETER_NAME.fullmatch(name) or names.RESERVED_ENV.match(name):
        raise InvalidSpec("fidelity.name", f"{name!r} cannot be a variable of trials; write for example epochs")
    if name in parameters:
        raise InvalidSpec("fidelity.name", f"{name} is a parameter too; a trial gets it once: rename one of them")
    low, high = float(form.get("min", 1)), float(form.get("max", 0))
    if not 0 < low <= high < float("inf"):
        raise InvalidSpec("fidelity", f"min is to be above 0 and not above max, but they are {low:g} and {high:g}")
    return Fidelity(name, low, high, form.get("resume", "checkpoint"))
