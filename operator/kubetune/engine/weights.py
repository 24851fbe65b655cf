"""Which checkpoint of another experiment every trial starts from (`spec.initCheckpoint.from`).

Found once, before the first trial, and recorded: a restart takes the same, whatever became of the other experiment, and
what is recorded is not removed. The rules:
- A trial that is named: its latest good checkpoint, once it has ended.
- None is named: once the other experiment is over, with its refit if it has one, the refit's checkpoint; where there
  is none, that of the best trial of the search.
- A test's checkpoints, and finalists', are never taken.
"""

from collections.abc import Iterator, Mapping, Sequence

from kubetune.api import checkpoints, names, phases
from kubetune.api.checkpoints import CLAIM, Checkpoint, InitCheckpoint, Taken
from kubetune.api.spec import ExperimentSpec, InvalidSpec, NotYet
from kubetune.api.trial import TrialState, penalty
from kubetune.engine.front import Front
from kubetune.storage.base import EngineStorage, NotCurrent, StudyRow

FIELD = "initCheckpoint.from"
NAMED = 10  # trials listed in a message
PAGE = 5000  # trials read at once


def check(spec: ExperimentSpec) -> None:
    """Raises InvalidSpec."""
    given = spec.init_checkpoint
    if given is not None and given.source == spec.name:
        raise InvalidSpec(f"{FIELD}.experiment", f"{spec.name} is this experiment itself; name another one")


def wanted(spec: ExperimentSpec) -> InitCheckpoint | None:
    """What is to be found; None: nothing of another experiment's, or it is found already."""
    given = spec.init_checkpoint
    return given if given is not None and given.source and given.taken is None else None


def find(spec: ExperimentSpec, given: InitCheckpoint, storage: EngineStorage) -> Taken:
    """What there is to start from now.

    Raises:
        NotYet: the other experiment is not there, or not over.
        InvalidSpec: it has kept no checkpoint, or several trials are the best.
        StorageUnavailable: as the storage does.
    """
    there = [each for each in storage.studies() if (each.namespace, each.name) == (spec.namespace, given.source)]
    searches = [each for each in there if not names.phase_of(each.uid)]
    if not searches:
        message = f"there is no experiment {given.source} in this namespace; this one begins when it has come and ended"
        raise NotYet(f"{FIELD}.experiment", f"{message} (is the name right?)")
    source = searches[-1]  # the newest
    kept = storage.load_spec(source.uid)
    form: Mapping[str, object] = kept.spec if kept else {}
    place = checkpoints.parse_place(form)
    if place is None:
        raise InvalidSpec(f"{FIELD}.experiment", f"{source.name} has no spec.checkpoints, so there is none to take")
    refits = [each for each in there if names.base_uid(each.uid) == source.uid and _is_refit(each)]
    if given.trial is None:
        uid, found = _best(source, refits, bool(form.get(phases.REFIT)), storage)
    else:
        uid, found = source.uid, _of(source, given.trial, storage)
    if found.store != CLAIM and spec.metrics.source != "push":
        message = f"{source.name} keeps its checkpoints in object storage, which takes metrics.from: push"
        raise InvalidSpec(FIELD, message)
    return Taken(source.name, uid, place.claim, place.folder(uid) if place.claim else "", found)


def same(spec: ExperimentSpec, taken: Taken | None) -> None:
    """Raises InvalidSpec: what was recorded when the experiment began (None: nothing was) is not what is asked for."""
    given = spec.init_checkpoint
    if given is None or not given.source:
        return
    if taken is None:
        raise InvalidSpec(FIELD, "it cannot be given once started; create a new experiment")
    phase = names.phase_of(taken.uid)
    if given.source != taken.source or given.trial not in (None, None if phase else taken.checkpoint.trial):
        which = phase or f"trial {taken.checkpoint.trial}"
        message = f"this experiment has begun with the checkpoint of {which} of {taken.source}"
        raise InvalidSpec(FIELD, f"{message}; create a new experiment to start from another one")


def take(spec: ExperimentSpec, found: Taken, storage: EngineStorage) -> Taken:
    """Record it; what is recorded stays. Raises NotYet: it was removed meanwhile."""
    try:
        return storage.take_checkpoint(spec.uid, found)
    except NotCurrent as error:
        raise NotYet(FIELD, f"{error}; the next look finds what there is then") from error


def _is_refit(study: StudyRow) -> bool:
    return phases.kind(names.phase_of(study.uid)) == phases.REFIT


def _best(
    source: StudyRow, refits: Sequence[StudyRow], refitted: bool, storage: EngineStorage
) -> tuple[str, Checkpoint]:
    """Of the experiment as a whole."""
    if source.ended is None:
        message = f"{source.name} is still running; this experiment begins once that one has ended"
        raise NotYet(f"{FIELD}.experiment", f"{message}, or name a trial that has (from.trial)")
    if any(each.ended is None for each in refits) or (refitted and not refits):
        message = f"the refit of {source.name} is not done; this experiment begins once it is"
        raise NotYet(f"{FIELD}.experiment", f"{message}, or name a trial to take (from.trial)")
    best = _front(source, storage)
    if len(best) > 1:
        several = ", ".join(map(str, best[:NAMED]))
        message = f"{source.name} has {len(best)} best trials, on a Pareto front; name one of them: {several}"
        raise InvalidSpec(f"{FIELD}.trial", message)
    for study in reversed(refits):
        number = next(iter(_front(study, storage)), None)
        found = None if number is None else storage.latest_checkpoint(study.uid, number)
        if found is not None:
            return study.uid, found
    if not best:
        raise InvalidSpec(f"{FIELD}.experiment", f"{source.name} has no complete trial; take another experiment")
    return source.uid, _kept(source, best[0], storage)


def _of(source: StudyRow, number: int, storage: EngineStorage) -> Checkpoint:
    """Of one trial that is named."""
    if any(row.number == number for row in storage.load_running(source.uid)[0]):
        message = f"trial {number} of {source.name} is still running; this experiment begins once it has ended"
        raise NotYet(f"{FIELD}.trial", message)
    return _kept(source, number, storage)


def _kept(source: StudyRow, number: int, storage: EngineStorage) -> Checkpoint:
    found = storage.latest_checkpoint(source.uid, number)
    if found is None:
        raise InvalidSpec(
            f"{FIELD}.trial" if source.ended is None else FIELD,
            f"no checkpoint of trial {number} of {source.name} is there (any more): trials save them with "
            "kubetune_trial.save_checkpoint, and once a trial has ended only the best one's last stays",
        )
    return found


def _front(study: StudyRow, storage: EngineStorage) -> list[int]:
    """The best complete trials, as `Engine.best` has them."""
    front = Front([direction == "maximize" for direction in study.directions])
    for number, values, broken in _complete(study.uid, storage):
        front.add(number, values, broken)
    return front.numbers


def _complete(uid: str, storage: EngineStorage) -> Iterator[tuple[int, Sequence[float], float]]:
    after = -1
    while page := storage.load_ended(uid, after, PAGE):
        after = page[-1].number
        for trial in page:
            if trial.state is TrialState.COMPLETE and trial.values:
                yield trial.number, trial.values, penalty(trial.constraints)
