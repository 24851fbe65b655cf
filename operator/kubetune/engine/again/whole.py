"""All of one study."""

import dataclasses
from collections.abc import Sequence

from kubetune.api.spec import ExperimentSpec
from kubetune.engine import courses, searching
from kubetune.engine.again import regrets
from kubetune.engine.again.asks import Asks
from kubetune.engine.again.judgements import Judgements
from kubetune.engine.again.legs import Legs
from kubetune.engine.again.study import Study, Verdict, in_force
from kubetune.storage.base import Steer


def replay(study: Study) -> Verdict:
    """Raises InvalidSpec: the spec, or a sampler or pruner that was recorded, cannot be run here."""
    verdict = Verdict()
    study = dataclasses.replace(study, spec=searching.begun(study.spec, study.steering))
    _bounds(study, verdict)
    course = courses.build(study.spec)
    Asks(study, verdict, course.one_series).run()
    Judgements(study, verdict, course.one_series).run()
    if not course.single:
        Legs(study, verdict, course).run()
    return verdict


def _bounds(study: Study, verdict: Verdict) -> None:
    def then(known: Sequence[Steer], trial: int) -> ExperimentSpec | None:
        return in_force(dataclasses.replace(study, steering=known), trial)

    found = regrets.again(study.spec, study.steering, study.trials, then)
    verdict.bounds = found.same
    verdict.notes += found.notes
    for each in found.differences:
        verdict.differs(each)
