"""Trials whose value is the mean of several runs: folds of a cross-validation, replicates with other seeds, or both.

A leg is one run. With both, all folds of one seed come first, then those of the next (repeated cross-validation), and
whether another seed is worth it is decided after each round of folds.
"""

import dataclasses
import hashlib
import math
import statistics
from collections.abc import Mapping, Sequence

from kubetune.api import names
from kubetune.api.spec import ExperimentSpec, InvalidSpec
from kubetune.api.trial import Ending, Leg, NextLeg, Reason, TrialRow, TrialState
from kubetune.engine.courses import noise
from kubetune.engine.courses.base import Course
from kubetune.engine.courses.race import Race
from kubetune.storage.base import Mark


class RunsCourse(Course):
    """Each leg is a point of the trial's series: its number the step, its value the value. No trial is ever paused: one
    that waits for more runs would be RUNNING for the sampler, which learns from trials that have ended."""

    one_series = False
    resumes = False
    single = False

    def __init__(self, spec: ExperimentSpec) -> None:
        super().__init__(spec)
        self._folds = spec.validation.folds
        self._most = spec.validation.replicates.most if spec.validation.replicates else 1
        least = spec.validation.replicates.least if spec.validation.replicates else 1
        races = least < self._most
        self._race = Race(spec.objectives[0].direction == "maximize", least, self._most) if races else None
        self._noise = noise.Runs(self._folds)
        self._values: dict[int, tuple[float, ...]] = {}  # of COMPLETE trials, about 100 bytes and 32 a run each

    # ---- one trial

    def legs(self, number: int) -> int:
        return self._folds * self._most

    def environment(self, number: int, leg: int) -> Mapping[str, str]:
        found: dict[str, str] = {}
        replicate, fold = divmod(leg, self._folds)
        if self._folds > 1:
            found |= {names.ENV_FOLD: str(fold), names.ENV_FOLDS: str(self._folds)}
        if self.spec.validation.replicates:
            found[names.ENV_REPLICATE] = str(replicate)
            found[names.ENV_SEED] = str(seed(self.spec, number, replicate))
        return found

    def follow(self, row: TrialRow, ending: Ending) -> Ending | NextLeg:
        values = [leg.values[0] for leg in row.legs] + [(ending.values or (math.nan,))[0]]
        if self._race is not None and len(values) % self._folds == 0:
            rounds = [statistics.fmean(each) for each in _in_rounds(values, self._folds)]
            behind = self._race.behind(rounds)
            if behind is not None:
                why = f"{len(rounds)} of {self._most} seeds: behind the best by {behind:.3g}, which is no chance"
                return self.whole(row, dataclasses.replace(ending, message=ending.message or why))
        return super().follow(row, ending)

    def whole(self, row: TrialRow, ending: Ending) -> Ending:
        """COMPLETE: the mean of all runs. PRUNED: what `optuna.Study.tell` makes of the runs so far, the value of the
        last. A run that fails fails the trial: the mean of the others would be one of easier folds."""
        runs = [leg.values for leg in row.legs]
        if ending.state is TrialState.COMPLETE:
            runs.append(ending.values or ())
        series = {place: values[0] for place, values in enumerate(runs)}
        if ending.state is TrialState.PRUNED:
            return dataclasses.replace(ending, values=runs[-1] if runs else None, series=series)
        if ending.state is TrialState.FAIL:
            return dataclasses.replace(ending, message=f"{self._name(row.leg)}: {ending.message}", series=series)
        means = tuple(float(statistics.mean(column)) for column in zip(*runs, strict=True))
        if any(map(math.isnan, means)):  # infinities cancel out
            told = f"the mean of the runs of {self.spec.objectives[0].metric} is not a number"
            return Ending(TrialState.FAIL, Reason.NOT_A_NUMBER, told, None, series=series)
        return dataclasses.replace(ending, values=means, series=series, leg=ending.values)

    def _name(self, leg: int) -> str:
        replicate, fold = divmod(leg, self._folds)
        told = [f"replicate {replicate}"] if self.spec.validation.replicates else []
        return ", ".join([*told, f"fold {fold}"] if self._folds > 1 else told)

    # ---- all trials

    def complete(self, mark: Mark, legs: Sequence[Leg]) -> None:
        if mark.number in self._values:
            return
        values = tuple(leg.values[0] for leg in legs)
        self._values[mark.number] = values
        self._noise.add(values)
        if self._race is not None:
            rounds = [statistics.fmean(each) for each in _in_rounds(values, self._folds)]
            self._race.ended(rounds, feasible=mark.value is not None)

    def runs(self, number: int) -> Sequence[float]:
        return self._values.get(number, ())

    @property
    def noise(self) -> noise.Noise | None:
        return self._noise.noise


def seed(spec: ExperimentSpec, number: int, replicate: int) -> int:
    """What the run is to draw its randomness from: another one for each trial and replicate, the same whenever the
    experiment's seed is. The first is that of a trial without replicates."""
    if spec.seed is not None and replicate == 0:
        return spec.seed + number
    text = f"{spec.uid if spec.seed is None else spec.seed}/{number}/{replicate}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def _in_rounds(values: Sequence[float], folds: int) -> list[Sequence[float]]:
    return [values[first : first + folds] for first in range(0, len(values) - folds + 1, folds)]


def build(spec: ExperimentSpec) -> RunsCourse:
    replicates = spec.validation.replicates
    if spec.fidelity is not None:
        raise InvalidSpec(
            "fidelity", "its rungs and the runs of validation.folds or replicates are not made of one another; drop one"
        )
    if spec.sampler.name in ("pbt", "schedule"):
        raise InvalidSpec(
            "sampler.name",
            f"a trial of {spec.sampler.name} goes on from another's checkpoint, and its runs have none in common; "
            "leave out validation.folds and replicates",
        )
    if replicates and replicates.least < replicates.most and len(spec.objectives) > 1:
        raise InvalidSpec(
            "replicates.min", f"trials race by one objective, and there are several; write min: {replicates.most}"
        )
    if replicates and spec.validation.folds == 1 and spec.pruner.name != "none":
        raise InvalidSpec(
            "pruner",
            "with replicates a trial's steps are runs with seeds of their own, and a race decides whether there is "
            "another one; leave it out",
        )
    return RunsCourse(spec)
