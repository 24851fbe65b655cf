"""What comes after the search, as the spec asks for it: the finalists' runs."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from kubetune.api.parameters import InvalidSpec

FINALISTS = "finalists"
POPULATIONS = ("pbt", "schedule")  # samplers whose trials are segments of longer lives


@dataclasses.dataclass(frozen=True)
class Finalists:
    """The best ``top`` trials are run again, ``replicates`` times each."""

    top: int
    replicates: int


def finalists(spec: Mapping[str, Any], objectives: int) -> Finalists | None:
    """Raises InvalidSpec."""
    form = spec.get(FINALISTS)
    if form is None:
        return None
    _one_objective(FINALISTS, objectives)
    if (spec.get("sampler") or {}).get("name") in POPULATIONS:
        raise InvalidSpec(FINALISTS, "a population's result is a schedule, which no one trial has run; leave it out")
    found = Finalists(int(form.get("top", 3)), int(form.get("replicates", 5)))
    for name, value in (("top", found.top), ("replicates", found.replicates)):
        if value < 1:
            raise InvalidSpec(f"{FINALISTS}.{name}", f"needs a whole number of at least 1, but is {value}")
    return found


def _one_objective(field: str, objectives: int) -> None:
    if objectives > 1:
        raise InvalidSpec(field, "several objectives have no one winner; leave it out, or keep one objective")
