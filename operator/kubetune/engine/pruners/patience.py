"""Lets another pruner stop a trial only once the trial has got worse for a while: Optuna's PatientPruner.

And `plateau`, which needs no other pruner: a trial stops when its own curve is flat, as Keras' EarlyStopping has it.
"""

import dataclasses
from collections.abc import Callable, Mapping

from kubetune.api.spec import Algorithm, ExperimentSpec, InvalidSpec
from kubetune.api.trial import TrialState
from kubetune.engine import options
from kubetune.engine.curve import Curve
from kubetune.engine.pruners.base import Committed, Pruner, number
from kubetune.storage.base import Mark

PATIENCE: Mapping[str, options.Option] = {
    "patience": options.Whole(None, low=0),  # reports in which the trial may be worse than before them
    "minDelta": options.Real(0.0, low=0.0),  # and by how much
    "pruner": options.Nested(),  # the one that stops it then; without: it stops at once
}
PLATEAU: Mapping[str, options.Option] = {
    "patience": options.Whole(None, low=1),  # reports without an improvement that are borne
    "minDelta": options.Real(0.0, low=0.0),  # an improvement is more than this
    "nWarmupSteps": options.Whole(0, low=0),  # no pruning below this step
}


class PatiencePruner(Pruner):
    """Asks ``inner`` (None: one that stops everything) about a trial whose best in the last ``patience`` + 1 reports is
    worse than its best before them by more than ``delta``. O(patience) per report."""

    def __init__(self, patience: int, delta: float, inner: Pruner | None) -> None:
        self._patience = patience
        self._delta = delta
        self._inner = inner

    def load(self, committed: Committed) -> None:
        if self._inner:
            self._inner.load(committed)

    def resume(self, curve: Curve) -> None:
        if self._inner:
            self._inner.resume(curve)

    def withdraw(self, curve: Curve) -> None:
        if self._inner:
            self._inner.withdraw(curve)

    def ended(self, curve: Curve, state: TrialState, series: Mapping[int, float], mark: Mark) -> None:
        if self._inner:
            self._inner.ended(curve, state, series, mark)

    def prune(self, curve: Curve) -> str | None:
        earlier = len(curve) - self._patience - 1
        if earlier <= 0:
            return None
        before, since = curve.best_of_first(earlier), curve.best_since(earlier)
        worse = before - self._delta > since if curve.maximize else before + self._delta < since
        if not worse:  # NaN compares false: go on
            return None
        told = f"{number(since)} at best in the last {self._patience + 1} reports, {number(before)} before"
        if self._inner is None:
            return f"at step {curve.last_step}: {told}"
        why = self._inner.prune(curve)
        return None if why is None else f"{why}; {told}"


class PlateauPruner(Pruner):
    """Stops a trial whose best in the last ``patience`` reports is no improvement on its best before them."""

    def __init__(self, patience: int, delta: float, warmup: int) -> None:
        self._patience = patience
        self._delta = delta
        self._warmup = warmup

    def prune(self, curve: Curve) -> str | None:
        earlier = len(curve) - self._patience
        if earlier <= 0 or curve.last_step < self._warmup:
            return None
        before, since = curve.best_of_first(earlier), curve.best_since(earlier)
        better = since > before + self._delta if curve.maximize else since < before - self._delta
        if better or (before != before and since == since):  # a first number is better than none
            return None
        return (
            f"at step {curve.last_step}: {number(before)} was its best {self._patience} reports ago, "
            f"{number(since)} since then"
        )


def build(spec: ExperimentSpec, build_inner: Callable[[ExperimentSpec], Pruner]) -> PatiencePruner:
    given = options.read("pruner", spec.pruner, PATIENCE)
    inner: Algorithm | None = given["pruner"]
    if inner is None:
        return PatiencePruner(given["patience"], given["minDelta"], None)
    try:
        made = build_inner(dataclasses.replace(spec, pruner=inner))
    except InvalidSpec as error:
        raise InvalidSpec(error.field.replace("pruner", "pruner.settings.pruner", 1), error.message) from None
    return PatiencePruner(given["patience"], given["minDelta"], made)


def plateau(spec: ExperimentSpec) -> PlateauPruner:
    given = options.read("pruner", spec.pruner, PLATEAU)
    return PlateauPruner(given["patience"], given["minDelta"], given["nWarmupSteps"])
