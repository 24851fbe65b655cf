"""Courses, one file each: of which legs a trial consists. Built from the spec, as samplers and pruners are."""

from kubetune.api.spec import ExperimentSpec, InvalidSpec
from kubetune.engine.courses import fidelity, none, runs
from kubetune.engine.courses.base import Course as Course
from kubetune.engine.pruners import promotion


def build(spec: ExperimentSpec) -> Course:
    """The experiment's course, as it is before any trial.

    Raises:
        InvalidSpec: for what cannot be run so.
    """
    if spec.validation.runs:
        return runs.build(spec)
    if promotion.asks_for(spec) and spec.stages:
        raise InvalidSpec(
            "stages", "a stage begins when all trials before it have ended, and paused ones do not; leave stages out"
        )
    if promotion.asks_for(spec) and spec.sampler.name in ("pbt", "schedule"):
        raise InvalidSpec("pruner", f"{spec.sampler.name} trains all members alike; write pruner: {{name: none}}")
    if spec.fidelity is not None:
        return fidelity.build(spec, spec.fidelity)
    if promotion.asks_for(spec):
        raise InvalidSpec(
            "fidelity",
            f"{spec.pruner.name} with type: promotion needs to know of what trials get more; write for example "
            "fidelity: {name: epochs, min: 1, max: 81}",
        )
    return none.build(spec)


def changed(old: ExperimentSpec, new: ExperimentSpec) -> str | None:
    """The field that has trials take another course, which cannot be while some are under way; None: there is none."""
    if old.fidelity != new.fidelity:
        return "fidelity"
    if old.validation.folds != new.validation.folds:
        return "validation.folds"
    if old.validation.replicates != new.validation.replicates:
        return "replicates"
    if old.pruner != new.pruner and (promotion.asks_for(old) or promotion.asks_for(new)):
        return "pruner"
    return None
