"""Whatever happened in a run, its record decides the same again."""

import collections
import json
from collections.abc import Sequence

from kubetune.api import names
from kubetune.api.spec import ExperimentSpec, Json
from kubetune.engine import again
from kubetune.simulator.violation import check
from kubetune.storage import record_json
from kubetune.storage.base import StudyHistory
from kubetune.storage.memory import Study
from kubetune.storage.record import Judged


def decides_the_same(spec: ExperimentSpec, search: Study, after: Sequence[Study]) -> None:
    """``spec``: in force at the end. ``after``: the studies of its phases, as they were begun."""
    whole = _read(spec, search)
    _check(search.row.uid, again.replay(whole))
    before: list[again.Phase] = []
    models = [each.version for each in after if each.version is not None]
    for study in after:
        if study.kept is None:
            continue  # nothing was decided
        phase = again.Phase(names.phase_of(study.row.uid), study.kept.spec, _read(spec, study))
        _check(study.row.uid, again.replay_phase(whole, before, phase, models))
        before.append(phase)


def _check(uid: str, verdict: again.Verdict) -> None:
    check(not verdict.different, "I4", f"{uid} is decided otherwise by its record: {verdict.differences}")
    check(not verdict.notes, "I4", f"{uid} has decisions that its record does not tell of: {verdict.notes}")


def _read(spec: ExperimentSpec, study: Study) -> again.Study:
    """As it is exported, and read again."""
    judged: dict[int, list[Judged]] = collections.defaultdict(list)
    for each in study.judged:
        judged[each.number].append(each)
    metric = study.row.metrics[0]
    trials = [record_json.trial(each.record(metric, judged[number])) for number, each in sorted(study.trials.items())]
    history = record_json.history(StudyHistory(study.row, study.kept, study.steering, study.warm or ()))
    exported: Json = json.loads(json.dumps({"history": history, "trials": trials}, allow_nan=False))
    return again.Study(
        spec,
        record_json.read_steering(exported["history"]["steering"]),
        record_json.read_warm(exported["history"]["warm"]),
        [record_json.read_trial(each) for each in exported["trials"]],
    )
