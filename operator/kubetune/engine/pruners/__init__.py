"""Pruners, one file each: pure policies in memory. A new one is a file and a line here."""

from collections.abc import Callable, Mapping

from kubetune.api.spec import ExperimentSpec, InvalidSpec
from kubetune.engine.pruners import median, none
from kubetune.engine.pruners.base import Pruner as Pruner
from kubetune.engine.pruners.base import Read as Read

PRUNERS: Mapping[str, Callable[[ExperimentSpec], Pruner]] = {
    "median": median.build,
    "none": none.build,
}


def build(spec: ExperimentSpec) -> Pruner:
    """The experiment's pruner, as it is before any trial.

    Raises:
        InvalidSpec: for a name or a setting that is not known, or a pruner that has no one series to judge by.
    """
    name = spec.pruner.name
    if name not in PRUNERS:
        raise InvalidSpec("pruner.name", f"there is no pruner {name!r}; there are {', '.join(PRUNERS)}")
    if name != "none" and len(spec.objectives) > 1:
        raise InvalidSpec(
            "pruner",
            f"{name} stops trials by one metric, but there are {len(spec.objectives)} objectives; "
            "write pruner: {name: none}, or keep one objective",
        )
    return PRUNERS[name](spec)
