"""Hyperband: several brackets of asynchronous successive halving, from the one that stops early and often to the one
that stops never; each trial belongs to one of them.

Li et al., "Hyperband", JMLR 18 (2018); decision for decision as Optuna's HyperbandPruner, its choice of brackets by a
hash of the study's name and the trial's number included. `maxResource: auto` (a guess from whichever trial completes
first) is not offered. Samplers see the trials of all brackets, as Optuna's do (docs/decisions/0110-pruners.md).
"""

import binascii
import collections
import math
from collections.abc import Mapping

from kubetune.api import names
from kubetune.api.spec import ExperimentSpec, InvalidSpec
from kubetune.api.trial import TrialState
from kubetune.engine import options
from kubetune.engine.curve import Curve
from kubetune.engine.pruners import promotion
from kubetune.engine.pruners.base import Committed, Pruner
from kubetune.engine.pruners.competing import ENDED
from kubetune.engine.pruners.halving import HalvingPruner
from kubetune.storage.base import Mark
from kubetune.storage.series import Maker, Piece

OPTIONS: Mapping[str, options.Option] = {
    "type": promotion.TYPE,
    "minResource": options.Whole(1, low=1),  # r: the least that a trial runs for, in steps
    "maxResource": options.Whole(None, low=1),  # R: the last step of a whole trial
    "reductionFactor": options.Whole(3, low=2),  # η
    "bootstrapCount": options.Whole(0, low=0),  # the first so many at a rung all stop there
}


class Brackets:
    """Which bracket a trial belongs to: the earlier ones stop, the more trials they get."""

    def __init__(self, study: str, least: float, most: float, factor: int) -> None:
        self._study = study
        count = math.floor(math.log(most / least, factor)) + 1
        self.shares = [
            math.ceil(count * factor ** (count - 1 - bracket) / (count - bracket)) for bracket in range(count)
        ]

    def of(self, number: int) -> int:
        place = binascii.crc32(f"{self._study}_{number}".encode()) % sum(self.shares)
        for bracket, share in enumerate(self.shares):
            place -= share
            if place < 0:
                return bracket
        raise AssertionError(number)


class HyperbandPruner(Pruner):
    def __init__(self, brackets: Brackets, resource: int, factor: int, bootstrap: int) -> None:
        self._brackets = brackets
        self._pruners = [HalvingPruner(resource, factor, rate, bootstrap) for rate in range(len(brackets.shares))]

    def _of(self, curve: Curve) -> HalvingPruner:
        return self._pruners[self._brackets.of(curve.number)]

    def load(self, committed: Committed) -> None:
        for state in ENDED:
            known = {mark.number: mark for mark in committed.marks(state)}
            committed.series(state, lambda piece, known=known: self._take(piece, known))  # type: ignore[misc]
        for pruner in self._pruners:
            pruner.sort()

    def _take(self, piece: Piece, known: Mapping[int, Mark]) -> None:
        parts: dict[int, Maker] = collections.defaultdict(Maker)
        for number, steps, values in piece.each():
            parts[self._brackets.of(number)].add(number, steps, values)
        for bracket, part in parts.items():
            self._pruners[bracket].take(part.piece(), known)

    def resume(self, curve: Curve) -> None:
        self._of(curve).resume(curve)

    def withdraw(self, curve: Curve) -> None:
        self._of(curve).withdraw(curve)

    def ended(self, curve: Curve, state: TrialState, series: Mapping[int, float], mark: Mark) -> None:
        self._of(curve).ended(curve, state, series, mark)

    def prune(self, curve: Curve) -> str | None:
        bracket = self._brackets.of(curve.number)
        why = self._pruners[bracket].prune(curve)
        return None if why is None else f"{why} in bracket {bracket}"


def build(spec: ExperimentSpec) -> HyperbandPruner:
    given = options.read("pruner", spec.pruner, OPTIONS)
    least, most, factor = given["minResource"], given["maxResource"], given["reductionFactor"]
    if most < least:
        raise InvalidSpec("pruner.settings.maxResource", f"must not be below minResource, {least}")
    study = spec.brackets or names.study_name(spec.namespace, spec.name, spec.uid)
    return HyperbandPruner(Brackets(study, least, most, factor), least, factor, given["bootstrapCount"])
