"""ASHA and Hyperband in their promotion form: as pruners they stop nobody, their course pauses and promotes trials
(`engine.courses.fidelity`)."""

from collections.abc import Mapping
from typing import Any

from kubetune.api.spec import ExperimentSpec, InvalidSpec
from kubetune.engine import options

TYPE = options.Choice(("stopping", "promotion"))  # as Syne Tune has it
OPTIONS: Mapping[str, Mapping[str, options.Option]] = {
    "asha": {
        "type": TYPE,
        "reductionFactor": options.Whole(4, low=2),  # η: one in so many is promoted, to so many times the resource
        "minEarlyStoppingRate": options.Whole(0, low=0),  # s: the first rung is min · η^s
    },
    "hyperband": {"type": TYPE, "reductionFactor": options.Whole(3, low=2)},
}


def asks_for(spec: ExperimentSpec) -> bool:
    """Whether the spec has the promotion form."""
    return spec.pruner.name in OPTIONS and spec.pruner.settings.get("type") == "promotion"


def settings(spec: ExperimentSpec) -> dict[str, Any]:
    """Raises InvalidSpec."""
    for name, bound in (("minResource", "min"), ("maxResource", "max")):
        if name in spec.pruner.settings:
            raise InvalidSpec(
                f"pruner.settings.{name}", f"with type: promotion it is fidelity.{bound} that says it; leave this out"
            )
    return options.read("pruner", spec.pruner, OPTIONS[spec.pruner.name])
