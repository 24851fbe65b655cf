"""Pruners, one file each: pure policies in memory. A new one is a file and a line here."""

from collections.abc import Callable, Mapping

from kubetune.api.spec import ExperimentSpec, InvalidSpec
from kubetune.engine.pruners import (
    bandit,
    halving,
    hyperband,
    none,
    patience,
    percentile,
    promotion,
    threshold,
    truncation,
    wilcoxon,
)
from kubetune.engine.pruners.base import Committed as Committed
from kubetune.engine.pruners.base import Pruner as Pruner


def _patience(spec: ExperimentSpec) -> Pruner:
    return patience.build(spec, build)


PRUNERS: Mapping[str, Callable[[ExperimentSpec], Pruner]] = {
    "asha": halving.asha,
    "bandit": bandit.build,
    "hyperband": hyperband.build,
    "median": percentile.median,
    "none": none.build,
    "patience": _patience,
    "percentile": percentile.build,
    "plateau": patience.plateau,
    "successiveHalving": halving.build,
    "threshold": threshold.build,
    "truncation": truncation.build,
    "wilcoxon": wilcoxon.build,
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
    if promotion.asks_for(spec):
        promotion.settings(spec)
        return none.NonePruner()
    return PRUNERS[name](spec)
