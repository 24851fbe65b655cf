"""The database in memory, for the simulator and for tests: the same rules as `storage.postgres`, and faults on demand.

A method's work is computed first and assigned last, so an exception leaves everything as it was.
"""

import collections
import dataclasses
import functools
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Concatenate, ParamSpec, TypeVar

from kubetune.api import checkpoints, names, phases
from kubetune.api.checkpoints import Checkpoint, Leftover, Resumed, Start, Taken
from kubetune.api.spec import Parameter, ParamValue
from kubetune.api.trial import Counts, Ending, JobRecord, Leg, Reason, Report, TrialRow, TrialState, WorkerRow
from kubetune.storage import base, memory_checkpoints, memory_leases, rules, series
from kubetune.storage.record import Judged, Point, TrialRecord
from kubetune.storage.series import Piece, Take

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@dataclasses.dataclass
class _Log:
    """Who follows one attempt's log, until when, and where they stand."""

    holder: str = ""
    until: float = 0.0
    since: str = ""
    done: bool = False


class _Trial:
    """One trial; its study knows of each change of its row."""

    def __init__(self, study: "Study", row: TrialRow) -> None:
        self._study = study
        self.row = row
        self.reports: list[Report] = []
        self.keys: dict[tuple[int, str], int] = {}  # (attempt, key) → seq
        self.logs: dict[int, _Log] = collections.defaultdict(_Log)  # by attempt
        self.log_tail: str | None = None
        self.lease_until = 0.0
        self.lease_log: str | None = None
        self.known: int | None = None
        self.order: int | None = None
        self.removed = False  # its reports
        self.kept: dict[int, float] | None = None  # the series of a trial whose reports were removed

    @property
    def row(self) -> TrialRow:
        return self._row

    @row.setter
    def row(self, row: TrialRow) -> None:
        self._row = row
        self._study.changed.add(row.number)
        if row.state is TrialState.RUNNING:
            self._study.running[row.number] = self
        else:
            self._study.running.pop(row.number, None)

    def series(self, metric: str) -> dict[int, float]:
        """By the reports that count, or as it was kept."""
        return rules.series(self.chain, metric) if self.kept is None else self.kept

    @property
    def chain(self) -> Sequence[Report]:
        return rules.chain(self.row, self.reports)

    def record(self, metric: str, judged: Sequence[Judged]) -> TrialRecord:
        row, points = self.row, []
        series = self.series(metric) if row.ended is not None else {}
        if self.removed:
            points = [Point(row.attempt, at, step, value) for at, (step, value) in enumerate(series.items(), 1)]
        for each in self.reports:
            if metric in each.metrics:
                points.append(Point(each.attempt, each.seq, each.step, each.metrics[metric]))
        return TrialRecord(row, self.known, self.order, points, not self.removed, judged, series, len(row.legs))


@dataclasses.dataclass
class Study:
    row: base.StudyRow
    trials: dict[int, _Trial] = dataclasses.field(default_factory=dict)
    running: dict[int, _Trial] = dataclasses.field(default_factory=dict)
    changed: set[int] = dataclasses.field(default_factory=set)  # trials written since somebody cleared this
    deleted: float | None = None
    kept: base.KeptSpec | None = None
    steering: list[base.Steer] = dataclasses.field(default_factory=list)
    judged: list[Judged] = dataclasses.field(default_factory=list)
    warm: list[base.WarmTrial] | None = None
    workers: list[WorkerRow] = dataclasses.field(default_factory=list)  # all incarnations, as they were begun
    taken: Taken | None = None
    uploaded: float | None = None  # as the columns of these names
    swept: float | None = None
    version: base.Version | None = None  # of a refit
    checkpoints: memory_checkpoints.Store = dataclasses.field(default_factory=memory_checkpoints.Store)


def _settled(study: Study) -> bool:
    """Nothing can be among its objects that nobody has looked at."""
    if study.uploaded is None:
        return True
    return study.swept is not None and study.swept >= study.uploaded + base.SETTLED


@dataclasses.dataclass
class Database:
    """What several `MemoryStorage` share, as operators and gateways share one PostgreSQL."""

    epoch: int = 0
    studies: dict[str, Study] = dataclasses.field(default_factory=dict)  # by uid, in order of creation
    lock: threading.RLock = dataclasses.field(default_factory=threading.RLock)
    listeners: list[tuple[Callable[[str], None], threading.Event]] = dataclasses.field(default_factory=list)  # offers


Method = Callable[Concatenate["MemoryStorage", Arguments], Result]


def _transaction(method: Method[Arguments, Result]) -> Method[Arguments, Result]:
    """One method is one transaction, with a fault before it and another after its commit."""

    @functools.wraps(method)
    def run(self: "MemoryStorage", /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        self._fail(f"before:{method.__name__}")
        with self.database.lock:
            result = method(self, *args, **kwargs)
        self._fail(f"after:{method.__name__}")
        return result

    return run


def _write(method: Method[Arguments, Result]) -> Method[Arguments, Result]:
    """A transaction of the single writer: it checks its epoch first."""

    @functools.wraps(method)
    def checked(self: "MemoryStorage", /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        if self.epoch is None or self.epoch != self.database.epoch:
            raise base.Fenced(f"epoch {self.database.epoch} is in force, this writer has {self.epoch}")
        return method(self, *args, **kwargs)

    return _transaction(checked)


class MemoryStorage(base.EngineStorage, base.GatewayStorage):
    """Both sides of the storage. Give a second one the first one's ``database`` to have two operators.

    Args:
        clock: seconds since the epoch.
        database: shared with other storages; None: its own.
        fault: called with ``before:METHOD`` (nothing is written if it raises) and ``after:METHOD`` (all is written).
    """

    def __init__(
        self, clock: Callable[[], float], database: Database | None = None, fault: Callable[[str], None] | None = None
    ) -> None:
        self.clock = clock
        self.database = database or Database()
        self.fault = fault
        self.epoch: int | None = None

    def _fail(self, where: str) -> None:
        if self.fault:
            self.fault(where)

    def _study(self, uid: str) -> Study:
        return self.database.studies[uid]

    def _trials(self, uid: str) -> dict[int, _Trial]:
        study = self.database.studies.get(uid)
        return study.trials if study else {}

    def _running(self, uid: str) -> dict[int, _Trial]:
        study = self.database.studies.get(uid)
        return study.running if study else {}

    def _live(self, uid: str, number: int, attempt: int) -> _Trial | None:
        """The trial, if it is RUNNING and this its current attempt."""
        trial = self._trials(uid).get(number)
        current = trial is not None and trial.row.state is TrialState.RUNNING and trial.row.attempt == attempt
        return trial if current else None

    # ---- the operator's side

    @_transaction
    def acquire(self, holder: str) -> int:
        self.database.epoch += 1
        self.epoch = self.database.epoch
        return self.epoch

    @_write
    def confirm(self) -> None:
        pass

    @_write
    def open_study(
        self, uid: str, namespace: str, name: str, metrics: Sequence[str], directions: Sequence[str]
    ) -> base.StudyRow:
        if uid not in self.database.studies:
            study_name = names.study_name(namespace, name, uid)
            row = base.StudyRow(
                uid, namespace, name, study_name, self.clock(), metrics=tuple(metrics), directions=tuple(directions)
            )
            self.database.studies[uid] = Study(row)
        return self._study(uid).row

    @_write
    def save_spec(self, uid: str, kept: base.KeptSpec) -> None:
        self._study(uid).kept = kept

    @_transaction
    def load_spec(self, uid: str) -> base.KeptSpec | None:
        study = self.database.studies.get(uid)
        return study.kept if study else None

    @_transaction
    def steering(self, uid: str) -> list[base.Steer]:
        study = self.database.studies.get(uid)
        return list(study.steering) if study else []

    @_write
    def record_steering(self, uid: str, steers: Sequence[base.Steer]) -> None:
        now = self.clock()
        self._study(uid).steering += [dataclasses.replace(each, time=now) for each in steers]

    @_transaction
    def last_order(self, uid: str) -> int:
        study = self.database.studies.get(uid)
        if study is None:
            return 0
        those = [each.order for each in study.steering] + [each.order for each in study.trials.values()]
        those += [each.known for each in study.trials.values()]  # of what is not kept it may have known too
        legs = (leg for each in study.trials.values() for leg in each.row.legs[-1:])
        those += [leg.placing.order for leg in legs if leg.placing is not None]
        return max(
            (order for order in [*those, *(each.order for each in study.judged)] if order is not None), default=0
        )

    @_transaction
    def warm_trials(self, uid: str) -> list[base.WarmTrial] | None:
        study = self.database.studies.get(uid)
        return study.warm if study else None

    @_write
    def save_warm_trials(self, uid: str, trials: Sequence[base.WarmTrial]) -> None:
        study = self._study(uid)
        if study.warm is not None:
            raise KeyError(uid)
        study.warm = list(trials)

    @_transaction
    def taken_checkpoint(self, uid: str) -> Taken | None:
        study = self.database.studies.get(uid)
        return study.taken if study else None

    @_transaction
    def latest_checkpoint(self, uid: str, number: int) -> Checkpoint | None:
        study = self.database.studies.get(uid)
        there = study is not None and number in study.trials and number not in study.running
        return next(iter(checkpoints.candidates(study.checkpoints.of(number))), None) if study and there else None

    @_write
    def take_checkpoint(self, uid: str, taken: Taken) -> Taken:
        study, source = self._study(uid), self.database.studies.get(taken.uid)
        if study.taken is not None:
            return study.taken
        if source is None or source.deleted is not None:
            raise base.NotCurrent(f"{taken.source} was deleted")
        stored = source.checkpoints.stored.get(taken.checkpoint.location)
        if stored is None or not stored.kept.good:
            raise base.NotCurrent(f"the checkpoint {taken.checkpoint.location} of {taken.source} was removed")
        study.taken = taken
        return taken

    def _held(self, uid: str) -> set[str]:
        """Locations of a study's checkpoints that other experiments have taken."""
        there = [each.taken for each in self.database.studies.values() if each.deleted is None]
        return {each.checkpoint.location for each in there if each is not None and each.uid == uid}

    @_transaction
    def load_trials(self, uid: str) -> list[TrialRow]:
        return [memory_leases.seen(trial, self.clock()) for _, trial in sorted(self._trials(uid).items())]

    @_transaction
    def load_running(self, uid: str) -> tuple[list[TrialRow], list[Piece]]:
        running = [trial for _, trial in sorted(self._running(uid).items())]
        if not running:
            return [], []
        metric = self._study(uid).row.metrics[0]
        reports = {trial.row.number: trial.chain for trial in running}
        return [memory_leases.seen(trial, self.clock()) for trial in running], [series.of_reports(reports, metric)]

    @_transaction
    def load_ended(self, uid: str, after: int, limit: int) -> list[base.EndedTrial]:
        ended = sorted(number for number in self._ended(uid) if number > after)[:limit]
        return [rules.summary(self._trials(uid)[number].row, self._curve(uid, number)) for number in ended]

    @_transaction
    def each_series(self, uid: str, state: TrialState, take: Take) -> None:
        for number in sorted(self._ended(uid)):
            if self._trials(uid)[number].row.state is state:
                take(series.piece({number: self._curve(uid, number).items()}))

    @_transaction
    def marks(self, uid: str, state: TrialState) -> list[base.Mark]:
        rows = (self._trials(uid)[number].row for number in sorted(self._ended(uid)))
        return [rules.mark(row) for row in rows if row.state is state]

    @_transaction
    def last_metrics(self, uid: str, numbers: Sequence[int]) -> dict[int, Mapping[str, float]]:
        trials = self._trials(uid)
        return {number: dict(trials[number].row.last_metrics) for number in numbers if number in trials}

    def _ended(self, uid: str) -> set[int]:
        return self._trials(uid).keys() - self._running(uid).keys()

    def _curve(self, uid: str, number: int) -> dict[int, float]:
        return self._trials(uid)[number].series(self._study(uid).row.metrics[0])

    @_transaction
    def ended_legs(self, uid: str) -> list[tuple[int, tuple[Leg, ...]]]:
        rows = (self._trials(uid)[number].row for number in sorted(self._ended(uid)))
        return [(row.number, row.legs) for row in rows if row.legs]

    @_transaction
    def count_lost_attempts(self, uid: str) -> int:
        return sum(trial.row.losses for trial in self._trials(uid).values())

    @_write
    def create_trials(self, uid: str, space: Mapping[str, Parameter], trials: Sequence[base.NewTrial]) -> None:
        study, now = self._study(uid), self.clock()
        if study.deleted is not None:
            raise base.NotCurrent(f"study {study.row.study_name} is deleted")
        numbers = [trial.number for trial in trials]
        if len(set(numbers)) < len(numbers) or study.trials.keys() & set(numbers):
            raise ValueError(f"a trial number of {numbers} is given already")
        sources = [trial.given.source for trial in trials if trial.given]
        if len(set(sources)) < len(sources) or self._sources(uid) & set(sources):
            raise ValueError(f"one of {sources} is given already")
        study.trials |= {
            trial.number: _Trial(
                study,
                TrialRow(
                    trial.number,
                    TrialState.RUNNING,
                    dict(trial.params),
                    1,
                    now,
                    offered=trial.offered,
                    source=trial.given.source if trial.given else None,
                    parent=trial.parent,
                    member=trial.member,
                    environment=dict(trial.environment),
                ),
            )
            for trial in trials
        }
        for trial in trials:
            study.trials[trial.number].known = trial.known
        self._tell_workers(uid, any(trial.offered for trial in trials))

    @_transaction
    def sources(self, uid: str) -> frozenset[str]:
        return self._sources(uid)

    def _sources(self, uid: str) -> frozenset[str]:
        return frozenset(trial.row.source for trial in self._trials(uid).values() if trial.row.source is not None)

    @_write
    def record_jobs(self, uid: str, jobs: Sequence[JobRecord]) -> list[bool]:
        return [self._record(self._trials(uid).get(job.number), job) for job in jobs]

    def _record(self, trial: _Trial | None, job: JobRecord) -> bool:
        if trial is None or not rules.takes_job(trial.row, job):
            return False
        trial.row = dataclasses.replace(trial.row, job_uid=job.job_uid)
        return True

    @_write
    def record_start(self, uid: str, starts: Mapping[int, float]) -> None:
        running = self._running(uid)
        for number in starts.keys() & running.keys():
            trial = running[number]
            if trial.row.started is None:
                trial.row = dataclasses.replace(trial.row, started=starts[number])

    @_write
    def new_attempt(self, uid: str, number: int, lost: int, reason: Reason, message: str) -> bool:
        trial = self._live(uid, number, lost)
        if trial is None or rules.has_scored(uid, self._study(uid).row.metrics, trial.row):
            return False
        trial.row = rules.next_attempt(trial.row, reason)
        return True

    @_write
    def promote(
        self, uid: str, attempts: Mapping[int, int], offered: bool = False, judged: Sequence[Judged] = ()
    ) -> dict[int, TrialRow]:
        trials = {number: trial for number in attempts if (trial := self._trials(uid).get(number)) is not None}
        found = {number: rules.promoted(each.row, attempts[number], offered) for number, each in trials.items()}
        going = {number: row for number, row in found.items() if row is not None}
        new = [number for number in going if trials[number].row.paused]
        for number in new:
            trials[number].row = going[number]
        self._judge(uid, [each for each in judged if each.number in new])
        self._tell_workers(uid, bool(new) and offered)
        return going

    @_write
    def decide(
        self, uid: str, stops: Mapping[int, base.Stop], rungs: Mapping[int, int], judged: Sequence[Judged] = ()
    ) -> None:
        running, now = self._running(uid), self.clock()
        self._judge(uid, judged)
        for number in (stops.keys() | rungs.keys()) & running.keys():
            trial = running[number]
            trial.row = rules.decided(trial.row, stops.get(number), rungs.get(number), now)

    def _judge(self, uid: str, judged: Sequence[Judged]) -> None:
        if judged:
            now = self.clock()
            self._study(uid).judged += [dataclasses.replace(each, time=now) for each in judged]

    @_write
    def finish_trials(self, uid: str, endings: Sequence[base.ToEnd]) -> list[TrialRow | Exception]:
        return [self._finish(uid, ending) for ending in endings]

    def _finish(self, uid: str, ending: base.ToEnd) -> TrialRow | Exception:
        trial = self._trials(uid).get(ending.number)
        try:
            row = rules.to_end(trial.row if trial else None, ending.number, ending.attempt)
            if trial is None or rules.is_over(row, ending.attempt):
                return row
            settled = ending.settle(trial.chain, row.finish)
            row = rules.settled(row, settled, len(self._study(uid).row.metrics), self.clock())
        except Exception as error:  # noqa: BLE001  as PostgreSQL's: one is no reason against the others
            return error
        trial.row = row
        if not isinstance(settled, Ending):
            return row
        trial.order = ending.order
        trial.kept = None if settled.series is None else dict(settled.series)
        trial.log_tail = None if ending.log_tail is None else rules.clean(ending.log_tail)
        return row

    @_transaction
    def news(self, uid: str, seen: Mapping[int, int]) -> base.News:
        reports, finishes, logs_read, leases = {}, {}, set(), {}
        for number, trial in self._running(uid).items():
            row, after = trial.row, seen.get(number, 0)
            if row.paused:
                continue
            if row.last_seq > after:
                reports[number] = tuple(trial.reports[after:])  # seq counts from 1 without gaps
            if row.finish is not None:
                finishes[number] = row.finish
            if row.log_read:
                logs_read.add(number)
            lease = memory_leases.seen(trial, self.clock()).lease if row.lease else None
            if lease is not None:
                leases[number] = lease
        return base.News(reports, finishes, frozenset(logs_read), leases)

    @_write
    def offer(self, uid: str, attempts: Mapping[int, int]) -> set[int]:
        current = [trial for number, attempt in attempts.items() if (trial := self._live(uid, number, attempt))]
        new = [trial for trial in current if not (trial.row.offered or trial.row.paused or trial.row.job_uid)]
        for trial in new:
            trial.row = dataclasses.replace(trial.row, offered=True)
        self._tell_workers(uid, bool(new))
        return {trial.row.number for trial in current if trial.row.offered}

    @_write
    def withdraw(self, uid: str, attempts: Mapping[int, int]) -> set[int]:
        current = [trial for number, attempt in attempts.items() if (trial := self._live(uid, number, attempt))]
        for trial in current:
            if trial.row.job_uid is None:
                trial.row = dataclasses.replace(trial.row, offered=False)
        return {trial.row.number for trial in current if not trial.row.offered}

    @_transaction
    def leased_log(self, uid: str, number: int) -> str | None:
        trial = self._trials(uid).get(number)
        return trial.lease_log if trial is not None and trial.row.lease is not None else None

    def _tell_workers(self, uid: str, anything: bool) -> None:
        for callback, stop in self.database.listeners if anything else ():
            if not stop.is_set():
                callback(uid)

    @_transaction
    def workers(self, uid: str) -> list[WorkerRow]:
        study = self.database.studies.get(uid)
        latest = {worker.number: worker for worker in study.workers} if study else {}
        return [worker for _, worker in sorted(latest.items())]

    @_write
    def open_worker(self, uid: str, number: int) -> WorkerRow:
        workers = self._study(uid).workers
        last = next((worker for worker in reversed(workers) if worker.number == number), None)
        if last is not None and last.ended is None:
            return last
        workers.append(WorkerRow(number, last.incarnation + 1 if last else 1, self.clock()))
        return workers[-1]

    def _change_workers(self, uid: str, which: Callable[[WorkerRow], bool], **fields: object) -> bool:
        workers = self.database.studies[uid].workers if uid in self.database.studies else []
        chosen = [index for index, each in enumerate(workers) if each.ended is None and which(each)]
        for index in chosen:
            workers[index] = dataclasses.replace(workers[index], **fields)  # type: ignore[arg-type]
        return bool(chosen)

    @_write
    def record_worker(self, uid: str, number: int, incarnation: int, job_uid: str) -> bool:
        return self._change_workers(
            uid,
            lambda worker: (
                (worker.number, worker.incarnation) == (number, incarnation) and worker.job_uid in (None, job_uid)
            ),
            job_uid=job_uid,
        )

    @_write
    def drain_workers(self, uid: str, numbers: Collection[int]) -> None:
        told = self._change_workers(uid, lambda each: each.number in numbers and not each.draining, draining=True)
        self._tell_workers(uid, told)

    @_write
    def end_worker(self, uid: str, number: int, incarnation: int, reason: Reason, message: str) -> None:
        self._change_workers(
            uid,
            lambda worker: (worker.number, worker.incarnation) == (number, incarnation),
            ended=self.clock(),
            reason=reason,
            message=rules.clean(message),
        )

    @_transaction
    def resumes(self, uid: str) -> list[Resumed]:
        study = self.database.studies.get(uid)
        return [each for _, each in sorted(study.checkpoints.resumed.items())] if study else []

    @_write
    def release_checkpoints(self, uid: str, keep: Collection[int]) -> int:
        study, running = self._study(uid), self._running(uid)
        needed = {number for trial in running.values() for number in rules.resumes_from(trial.row)}.union(keep)
        if study.row.ended is None:
            rows = [trial.row for _, trial in sorted(study.trials.items())]
            complete = {row.member: row.number for row in rows if row.state is TrialState.COMPLETE}
            needed.update(number for member, number in complete.items() if member is not None)
        ended = [number for number in study.checkpoints.trials if number not in running]
        held = self._held(uid)
        return sum(study.checkpoints.release(number, number in needed, held) for number in ended)

    @_write
    def leftovers(self) -> list[Leftover]:
        found = []
        for study in self.database.studies.values():
            store, row = study.checkpoints, study.row
            for number in store.trials if study.deleted is not None else ():
                store.release(number, False, self._held(row.uid))
            kept = self._study(row.uid.partition("/")[0]).kept  # a phase has no spec of its own
            if row.ended is not None and kept is not None and store.garbage:
                over = study.deleted is not None
                found.append(Leftover(row.uid, row.namespace, row.name, kept.spec, over, store.staying))
        return found

    @_transaction
    def released_objects(self, limit: int) -> list[tuple[str, str]]:
        found = [
            (uid, location)
            for uid, study in self.database.studies.items()
            for location in study.checkpoints.garbage
            if study.checkpoints.stored[location].kept.checkpoint.store == checkpoints.S3
        ]
        return found[:limit]

    @_write
    def removed_objects(self, objects: Sequence[tuple[str, str]]) -> None:
        for uid, location in objects:
            self._study(uid).checkpoints.remove([location], self.clock())

    @_transaction
    def unswept(self, limit: int) -> list[str]:
        before = self.clock() - base.SWEEP_EVERY
        waiting = {uid: each for uid, each in self.database.studies.items() if not _settled(each)}
        since = {uid: each.row.created if each.swept is None else each.swept for uid, each in waiting.items()}
        return sorted((uid for uid, time in since.items() if time < before), key=lambda uid: since[uid])[:limit]

    @_write
    def swept(self, uid: str, begun: float) -> None:
        self._study(uid).swept = begun

    @_transaction
    def unrecorded(self, uid: str, locations: Sequence[str]) -> list[str]:
        stored = self._study(uid).checkpoints.stored
        return [each for each in locations if each not in stored or stored[each].removed is not None]

    @_write
    def cleared(self, left: Leftover) -> None:
        study = self.database.studies.get(left.uid)
        if study is not None:
            gone = [location for location in study.checkpoints.garbage if location not in left.keep]
            study.checkpoints.remove(gone, self.clock())

    @_write
    def end_study(self, uid: str, reason: Reason, message: str) -> base.StudyRow:
        return self._end(self._study(uid), reason, message)

    def _end(self, study: Study, reason: Reason, message: str) -> base.StudyRow:
        if study.row.ended is None:
            study.row = dataclasses.replace(
                study.row, ended=self.clock(), end_reason=reason, end_message=rules.clean(message)
            )
        return study.row

    @_transaction
    def studies(self) -> list[base.StudyRow]:
        return [study.row for study in self.database.studies.values() if study.deleted is None]

    @_transaction
    def phases(self, uid: str) -> list[base.StudyRow]:
        return [study.row for study in self._phases(uid) if study.deleted is None]

    def _phases(self, uid: str) -> list[Study]:
        prefix = names.phase_uid(uid, " ").rstrip()
        return [study for each, study in self.database.studies.items() if each.startswith(prefix)]

    @_write
    def delete_study(self, uid: str) -> None:
        study = self.database.studies.get(uid)
        if study is None or study.deleted is not None:
            return
        for each in (study, *self._phases(uid)):
            self._delete(each)

    def _delete(self, study: Study) -> None:
        for trial in list(study.running.values()):
            ending = Ending(TrialState.FAIL, Reason.EXPERIMENT_DELETED, "", None)
            trial.row = rules.ended(trial.row, ending, len(study.row.metrics), self.clock())
        self._end(study, Reason.EXPERIMENT_DELETED, "")
        study.deleted = self.clock()

    @_write
    def remove_reports(self, retention: float) -> bool:
        before = self.clock() - retention
        for study in self.database.studies.values():
            for trial in study.trials.values():
                if trial.row.ended is not None and trial.row.ended < before:
                    trial.kept, trial.removed = trial.series(study.row.metrics[0]), True
                    trial.reports, trial.keys = [], {}
        return False

    @_write
    def purge(self, retention: float) -> int:
        before = self.clock() - retention
        studies = self.database.studies
        held = {names.base_uid(each.taken.uid) for each in studies.values() if each.taken is not None}
        over = {
            uid
            for uid, study in studies.items()
            if study.deleted is not None
            and study.deleted < before
            and (_settled(study) or study.deleted < before - base.SWEEP_PATIENCE)
        }
        gone = [uid for uid in over if names.base_uid(uid) not in held]
        for uid in gone:
            del studies[uid]
        return len(gone)

    def healthy(self) -> bool:
        try:
            self._fail("before:healthy")
        except base.StorageUnavailable:
            return False
        return True

    # ---- the gateway's side

    def _heard(self, who: base.Identity | base.Worker) -> dict[int, _Trial]:
        """The trials of the experiment that a pod says it runs for: none if that is in another namespace."""
        study = self.database.studies.get(who.experiment_uid)
        return study.trials if study and study.row.namespace == who.namespace else {}

    def _trial(self, who: base.Identity) -> _Trial:
        """The pod's trial, if what it sends is accepted now. Raises NotCurrent or NotRecorded."""
        trial = self._heard(who).get(who.number)
        refusal = rules.refusal(trial.row if trial else None, who)
        if refusal or trial is None:
            raise refusal or base.NotCurrent(f"there is no trial {who.number}")
        return trial

    @_transaction
    def accept(self, reports: Sequence[base.Incoming]) -> list[base.Answer | Exception]:
        return [self._accept(incoming) for incoming in reports]

    def _accept(self, incoming: base.Incoming) -> base.Answer | Exception:
        who, key = incoming.who, (incoming.who.attempt, rules.clean(incoming.key))
        known = self._heard(who).get(who.number)
        if known and key in known.keys:
            return rules.answer(known.row, known.keys[key], who.attempt)
        try:
            trial = self._trial(who)
            step = rules.step_after(trial.row.last_step, incoming.step)
            metrics = rules.metrics_of(trial.row, incoming.metrics)
        except (base.NotCurrent, base.NotRecorded, ValueError) as refusal:
            return refusal
        report = Report(trial.row.last_seq + 1, who.attempt, step, metrics, self.clock())
        trial.row = rules.with_report(trial.row, report)
        trial.reports.append(report)
        trial.keys[key] = report.seq
        return rules.answer(trial.row, report.seq, who.attempt)

    @_transaction
    def finish(self, who: base.Identity, status: str, message: str) -> base.Answer:
        trial = self._trial(who)
        trial.row = rules.with_finish(trial.row, status, message, self.clock())
        return rules.answer(trial.row, trial.row.last_seq, who.attempt)

    @_transaction
    def look(self, who: base.Identity) -> base.Answer:
        row = self._trial(who).row
        return rules.answer(row, row.last_seq, who.attempt)

    @_transaction
    def parameters(self, who: base.Identity) -> Mapping[str, ParamValue]:
        trial = self._heard(who).get(who.number)
        if trial is None:
            raise base.NotCurrent(f"there is no trial {who.number} of experiment {who.experiment_uid}")
        return trial.row.params

    # ---- models

    @_transaction
    def model(self, who: base.Identity, address: str, digest: str) -> tuple[base.Answer, int]:
        row = self._trial(who).row
        rules.may_tell_a_model(who)
        study, known = self._study(who.experiment_uid), self._versions(who.experiment_uid)
        mine = next((each for each in known if each.phase == names.phase_of(who.experiment_uid)), None)
        image = str((study.kept.spec if study.kept else {}).get("image", ""))
        number = mine.number if mine else 1 + max((each.number for each in known), default=0)
        phase = names.phase_of(who.experiment_uid)
        study.version = base.Version(number, phase, address, digest, image, row.params, self.clock())
        return rules.answer(row, row.last_seq, who.attempt), number

    @_transaction
    def versions(self, uid: str) -> list[base.Version]:
        return self._versions(uid)

    def _versions(self, uid: str) -> list[base.Version]:
        found = [study.version for study in self._phases(names.base_uid(uid)) if study.version is not None]
        return sorted(found, key=lambda each: each.number)

    @_transaction
    def models(self, namespace: str, name: str | None = None) -> list[base.Model]:
        found = []
        for uid, search in self.database.studies.items():
            row = search.row
            mine = row.namespace == namespace and name in (None, row.name) and not names.phase_of(uid)
            for study in self._phases(uid) if mine and search.deleted is None else ():
                if study.version is not None and any(_completed(study)):
                    found.append(base.Model(row.name, study.version, self._scores(uid, study.version.number)))
        return sorted(found, key=lambda model: (model.experiment, model.version.number))

    def _scores(self, uid: str, version: int) -> tuple[base.Score, ...]:
        """What that version came to on the test set."""
        tests = [each for each in self._phases(uid) if phases.kind(names.phase_of(each.row.uid)) == phases.TEST]
        mine = [each for each in tests if each.kept and (each.kept.spec.get("model") or {}).get("version") == version]
        return tuple(
            base.Score(names.phase_of(each.row.uid), (row.values or ())[0], row.ended or 0.0)
            for each in mine
            for row in _completed(each)
        )

    # ---- checkpoints

    @_transaction
    def uploading(self, who: base.Identity) -> base.Answer:
        row, study, now = self._trial(who).row, self._study(who.experiment_uid), self.clock()
        if study.uploaded is None or study.uploaded < now - base.UPLOADING:
            study.uploaded = now
        return rules.answer(row, row.last_seq, who.attempt)

    @_transaction
    def commit_checkpoint(self, who: base.Identity, new: Checkpoint) -> tuple[base.Answer, list[str]]:
        row, study = self._trial(who).row, self._study(who.experiment_uid)
        now = self.clock()
        made = dataclasses.replace(new, trial=who.number, attempt=who.attempt, time=now)
        kept = self._study(names.base_uid(who.experiment_uid)).kept  # a phase has no spec of its own
        keep = checkpoints.keep_of(kept.spec if kept else None)
        remove = study.checkpoints.commit(made, keep, now)
        return rules.answer(row, row.last_seq, who.attempt), remove

    @_transaction
    def resumable(self, who: base.Identity) -> list[Checkpoint]:
        row, store = self._trial(who).row, self._study(who.experiment_uid).checkpoints
        found = [each for number in rules.resumes_from(row) for each in checkpoints.candidates(store.of(number))]
        return [each for each in found if each.trial != row.number or each.attempt > rules.anew(row)]

    @_transaction
    def start(self, who: base.Identity) -> Start | None:
        self._trial(who)
        study = self._study(names.base_uid(who.experiment_uid))
        own = study.kept is not None and study.row.namespace == who.namespace
        return rules.start(study.taken, study.kept.spec if study.kept and own else None)

    @_transaction
    def resume(self, who: base.Identity, location: str | None, damaged: Collection[str]) -> base.Answer:
        trial = self._trial(who)
        found = self._study(who.experiment_uid).checkpoints.resume(who, location, damaged, self.clock())
        if found is not None:
            trial.row = rules.resumed(trial.row, found.step)
        return rules.answer(trial.row, trial.row.last_seq, who.attempt)

    @_transaction
    def removed(self, who: base.Identity, locations: Sequence[str]) -> base.Answer:
        row = self._trial(who).row
        self._study(who.experiment_uid).checkpoints.remove(locations, self.clock())
        return rules.answer(row, row.last_seq, who.attempt)

    # ---- workers

    def _worker(self, who: base.Worker) -> WorkerRow | None:
        study = self.database.studies.get(who.experiment_uid)
        if study is None or study.row.namespace != who.namespace:
            return None
        return next((worker for worker in study.workers if worker.job_uid == who.job_uid), None)

    @_transaction
    def lease(
        self, who: base.Worker, slot: int | None, seconds: float, ended: base.Ended | None = None
    ) -> base.Granted:
        now = self.clock()
        if ended is not None:
            memory_leases.take_end(self._heard(who), who, ended, now)
        worker = self._worker(who)
        refusal = rules.worker_refusal(worker, who)
        if refusal or worker is None:
            raise refusal or base.NotCurrent(f"there is no worker {who.number}")
        if slot is None:
            return base.Granted(drain=worker.draining)
        return memory_leases.grant(self._running(who.experiment_uid), who, slot, seconds, worker.draining, now)

    @_transaction
    def renew(
        self, who: base.Worker, held: Sequence[tuple[int, int]], seconds: float
    ) -> tuple[list[base.Answer | None], bool]:
        worker = self._worker(who)
        refusal = rules.worker_refusal(worker, who)
        if worker is None:
            raise refusal or base.NotRecorded("")
        if refusal:
            return [None] * len(held), True
        answers: list[base.Answer | None] = []
        for number, attempt in held:
            trial = self._heard(who).get(number)
            if trial is None or not rules.holds(trial.row, who, attempt):
                answers.append(None)
                continue
            trial.lease_until = self.clock() + seconds
            answers.append(rules.answer(trial.row, trial.row.last_seq, attempt))
        return answers, worker.draining

    def listen_for_offers(self, callback: Callable[[str], None], stop: threading.Event) -> None:
        self.database.listeners.append((callback, stop))

    @_transaction
    def claim_log(self, who: base.Identity, holder: str, seconds: float) -> base.LogPosition | None:
        try:
            log = self._trial(who).logs[who.attempt]
        except (base.NotCurrent, base.NotRecorded):
            return None
        now = self.clock()
        if log.holder != holder and log.until > now:
            return None
        log.holder, log.until = holder, now + seconds
        return base.LogPosition(log.since, log.done)

    @_transaction
    def save_log(self, who: base.Identity, holder: str, since: str, done: bool) -> None:
        try:
            trial = self._trial(who)
        except (base.NotCurrent, base.NotRecorded):
            return
        log = trial.logs[who.attempt]
        if log.holder != holder:
            return
        log.since, log.done = since, log.done or done
        trial.row = dataclasses.replace(trial.row, log_read=log.done)

    # ---- what people read

    def _newest(self, namespace: str, name: str, phase: str = "") -> Study:
        found = [
            study
            for study in self.database.studies.values()
            if (study.row.namespace, study.row.name) == (namespace, name)
            and study.deleted is None
            and names.phase_of(study.row.uid) == phase
        ]
        if not found:
            raise KeyError(f"there is no {f'{phase} of ' if phase else ''}experiment {namespace}/{name}")
        return found[-1]

    def _named(self, namespace: str, name: str, number: int, phase: str) -> _Trial:
        trials = self._newest(namespace, name, phase).trials
        if number not in trials:
            raise KeyError(f"experiment {namespace}/{name} has no trial {number}")
        return trials[number]

    @_transaction
    def trials(
        self, namespace: str, name: str, state: str | None, offset: int, limit: int, phase: str = ""
    ) -> tuple[base.StudyRow, Counts, list[TrialRow]]:
        study = self._newest(namespace, name, phase)
        rows = [trial.row for _, trial in sorted(study.trials.items())]
        wanted = [row for row in rows if state is None or row.state == state]
        return study.row, rules.counts(rows), wanted[offset : offset + limit]

    @_transaction
    def history(self, namespace: str, name: str, phase: str = "") -> base.StudyHistory:
        study = self._newest(namespace, name, phase)
        after = [] if phase else [names.phase_of(each.row.uid) for each in self._phases(study.row.uid)]
        versions = [] if phase else self._versions(study.row.uid)
        warm = tuple(study.warm or ())
        return base.StudyHistory(study.row, study.kept, tuple(study.steering), warm, after, versions, study.taken)

    @_transaction
    def record(self, namespace: str, name: str, offset: int, limit: int, phase: str = "") -> list[TrialRecord]:
        study = self._newest(namespace, name, phase)
        numbers, metric = sorted(study.trials)[offset : offset + limit], study.row.metrics[0]
        judged: dict[int, list[Judged]] = collections.defaultdict(list)
        for each in study.judged:
            judged[each.number].append(each)
        return [study.trials[number].record(metric, judged[number]) for number in numbers]

    @_transaction
    def trial_reports(self, namespace: str, name: str, number: int, phase: str = "") -> list[Report]:
        return list(self._named(namespace, name, number, phase).reports)

    @_transaction
    def log_tail(self, namespace: str, name: str, number: int, phase: str = "") -> str | None:
        return self._named(namespace, name, number, phase).log_tail

    @_transaction
    def place(self, namespace: str, name: str, number: int, phase: str = "") -> base.Place:
        row, workers = self._named(namespace, name, number, phase).row, self._newest(namespace, name, phase).workers
        found = next((each for each in workers if each.job_uid and each.job_uid == row.job_uid), None)
        worker = None if found is None else (found.number, found.incarnation)
        return base.Place(row.attempt, rules.is_running(row), row.started, worker)


def _completed(study: Study) -> list[TrialRow]:
    return [trial.row for trial in study.trials.values() if trial.row.state is TrialState.COMPLETE]
