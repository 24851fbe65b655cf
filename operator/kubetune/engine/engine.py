"""One experiment's study in memory: loaded once, kept up with what is committed, asked for everything else.

Why not Optuna's own storage on the hot path: every ask there reads all unfinished trials again (FACTS.md). Here each
method that changes something commits first and returns then. After an exception the memory may be ahead of the
database or behind it: drop the engine and load a new one.
"""

import dataclasses
import functools
import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from kubetune.api.checkpoints import Taken
from kubetune.api.insight import Insight
from kubetune.api.spec import Algorithm, ExperimentSpec, Given, InvalidSpec
from kubetune.api.stages import Current
from kubetune.api.stop import Regret
from kubetune.api.trial import (
    AttemptEnd,
    Best,
    Counts,
    Ending,
    Finish,
    JobRecord,
    NextLeg,
    Placing,
    Reason,
    Report,
    TrialRow,
    TrialState,
    WorkerRow,
)
from kubetune.engine import (
    check,
    courses,
    pruners,
    regret,
    samplers,
    searching,
    stages,
    steering,
    value,
    warm,
    weights,
)
from kubetune.engine.beside import Beside, at_once
from kubetune.engine.given import Queue
from kubetune.engine.history import History, Past
from kubetune.engine.insight import Insights
from kubetune.engine.live import Live
from kubetune.engine.samplers.base import Suggestion
from kubetune.engine.sampling.asking import Asking
from kubetune.engine.sampling.pool import Pool
from kubetune.engine.tally import Tally
from kubetune.storage import rules
from kubetune.storage.base import EndedTrial, EngineStorage, Fenced, Mark, NewTrial, Steer, Stop, ToEnd, raised
from kubetune.storage.record import LOST, PROMOTED, RUNG, STOP, Judged
from kubetune.storage.series import Take

PAGE = 5000  # ended trials read at once


class Engine:
    """Keeps `controller.ports.Engine`.

    Args:
        spec: what to tune, and how.
        storage: with the epoch acquired.
        clock: seconds since the epoch.
        pool: where suggestions are made that take their time; None: here.
        wake: called, from another thread, when `ask` has something after it had nothing.
        beside: while loading, how the next rows and the pruner's series are read.

    Raises:
        InvalidSpec: the spec cannot run, or the committed study was made for another one.
        StorageUnavailable, Fenced: as the storage does.
    """

    def __init__(
        self,
        spec: ExperimentSpec,
        storage: EngineStorage,
        clock: Callable[[], float],
        pool: Pool | None = None,
        wake: Callable[[], None] = lambda: None,
        beside: Beside = at_once,
    ) -> None:
        check.check(spec)
        self._steering = storage.steering(spec.uid)  # as recorded
        self._spec = spec = searching.begun(spec, self._steering)
        self._storage = storage
        self._clock = clock
        self._beside = beside
        self._order = storage.last_order(spec.uid)  # of what happened last
        self._judged: list[Judged] = []  # to be recorded
        self._searched: tuple[samplers.Pick, Algorithm] | None = None  # what of it is on record
        self._images: set[str] = set()  # digests that are recorded, as far as they were seen again
        self._begun = stages.latest(self._steering)  # the stage
        self._untold: list[Steer] = []  # what began since people were told
        self._picked = samplers.pick(stages.asked(spec, self._begun))
        self._sampler = samplers.build(self._picked.spec)
        self._asking = Asking(pool, wake)
        self._regret = regret.Watch(pool, wake, self._steering)
        begin = storage.warm_trials(spec.uid) if spec.warm_start else []
        found = warm.find(spec, storage) if begin is None else begin  # before there is a study that has to fit for ever
        self._taken = spec.init_checkpoint.taken if spec.init_checkpoint else None
        given = weights.wanted(spec)
        if given is not None:
            self._taken = storage.taken_checkpoint(spec.uid) or weights.find(spec, given, storage)
            weights.same(spec, self._taken)
        self._study = storage.open_study(
            spec.uid,
            spec.namespace,
            spec.name,
            [objective.metric for objective in spec.objectives],
            [objective.direction for objective in spec.objectives],
        )
        check.same_objectives(spec, self._study.metrics, self._study.directions)
        self._course = courses.build(spec)
        self._live: dict[int, Live] = {}
        self._paused: dict[int, Live] = {}
        self._paused_rows: dict[int, TrialRow] | None = None
        self._rows: dict[int, TrialRow] | None = None  # of ``_live``; None: one of them has changed since
        self._undecided: set[int] = set()  # trials whose latest report, read at loading, was not decided about
        self._asked: set[int] = set()  # trials that the pruner was asked about, its decisions not committed yet
        self._history = History(spec.objectives, spec.parameters, [each.name for each in spec.constraints])
        if given is not None and self._taken is not None:
            self._taken = weights.take(spec, self._taken, storage)
        if begin is None:
            storage.save_warm_trials(spec.uid, found)
        if found:
            self._history.begin_with(warm.view(spec, found))
        self._warm = len(found)
        self._steered_for: object = None  # what of the spec the record is complete for
        self._queue = Queue(spec, storage.sources(spec.uid))
        self._tally = Tally(spec.objectives, storage.count_lost_attempts(spec.uid))
        pruner = beside(functools.partial(self._loaded_pruner, spec))
        self._insights = Insights()
        self._workers: dict[int, WorkerRow] = {}
        self._read_workers()
        self._load()
        self._pruner = pruner()
        self._resume()

    # ---- loading

    def _load(self) -> None:
        """All trials in order of their numbers, as columns and counters: no objects of ended trials stay."""
        rows, pieces = self._storage.load_running(self._spec.uid)
        self._history.load(self._committed(rows))
        for piece in pieces:
            for number, steps, values in piece.each():
                live = self._live.get(number) or self._paused[number]
                live.resume(steps.tolist(), values.tolist())
                self._history.replace(live.past)
        self._undecided |= {number for number, live in self._live.items() if len(live.curve)}
        self._undecided |= self._take_news(None).keys()
        if not self._course.single:
            marks = {mark.number: mark for mark in self._storage.marks(self._spec.uid, TrialState.COMPLETE)}
            for number, legs in self._storage.ended_legs(self._spec.uid):
                self._course.take(number, legs, paused=False)
                if number in marks:
                    self._course.complete(marks[number], legs)
            for row in rows:
                self._course.take(row.number, row.legs, row.paused)

    def _committed(self, running: Sequence[TrialRow]) -> Iterator[Past]:
        both: list[Iterable[TrialRow | EndedTrial]] = [running, self._ended()]
        for trial in heapq.merge(*both, key=lambda trial: trial.number):
            check.same_parameters(self._spec.space, trial.number, trial.params)
            if isinstance(trial, TrialRow):
                yield self._begin(trial).past
            else:
                self._tally.ended(trial)
                yield _past(trial)

    def _ended(self) -> Iterator[EndedTrial]:
        read = functools.partial(self._storage.load_ended, self._spec.uid, limit=PAGE)
        coming = self._beside(functools.partial(read, after=-1))
        while page := coming():
            coming = self._beside(functools.partial(read, after=page[-1].number))
            yield from page

    def _begin(self, row: TrialRow) -> Live:
        objective = self._spec.objectives[0]
        live = Live(row, objective.metric, objective.direction == "maximize", self._course.one_series)
        self._place(live)
        return live

    def _place(self, live: Live) -> None:
        """Among those that run, or the paused ones."""
        there, elsewhere = (self._paused, self._live) if live.row.paused else (self._live, self._paused)
        elsewhere.pop(live.row.number, None)
        there[live.row.number] = live
        self._rows = self._paused_rows = None

    def _loaded_pruner(self, spec: ExperimentSpec) -> pruners.Pruner:
        pruner = pruners.build(spec)
        pruner.load(_Committed(self._storage, spec.uid))
        return pruner

    def _resume(self) -> None:
        for live in (*self._live.values(), *self._paused.values()):
            self._pruner.resume(live.curve)

    # ---- what there is

    @property
    def study(self) -> str:
        return self._study.study_name

    @property
    def running(self) -> Mapping[int, TrialRow]:
        if self._rows is None:
            self._rows = {number: live.row for number, live in self._live.items()}
        return self._rows

    @property
    def paused(self) -> Mapping[int, TrialRow]:
        if self._paused_rows is None:
            self._paused_rows = {number: live.row for number, live in self._paused.items()}
        return self._paused_rows

    @property
    def promotable(self) -> Sequence[int]:
        return self._course.promotable(self._spec.parallelism) if self._paused else ()

    @property
    def overtime(self) -> Sequence[int]:
        return self._course.overtime(self._tally.complete) if self._paused and not self._live else ()

    @property
    def order(self) -> int:
        return self._order

    @property
    def more_legs(self) -> bool:
        return not self._course.single

    def legs(self, number: int) -> int:
        return self._course.legs(number)

    @property
    def counts(self) -> Counts:
        return self._tally.counts(len(self._live), len(self._paused))

    @property
    def started(self) -> float:
        return self._study.created

    @property
    def ended(self) -> tuple[Reason, str] | None:
        reason = self._study.end_reason
        return None if self._study.ended is None or reason is None else (reason, self._study.end_message)

    @property
    def exhausted(self) -> bool:
        if stages.follows(self._spec, self._begun):
            return False
        if self._spec.stages:
            return len(self._history) >= self._until
        return self._sampler.over(self._history)

    @property
    def askable(self) -> int:
        """How many trials more there may be now: the next stage begins when the last one's trials have ended."""
        following = stages.follows(self._spec, self._begun)
        if following and len(self._history) >= self._until:
            return 0 if self._live else following.max_trials
        return self._room

    @property
    def stage(self) -> Current | None:
        return stages.current(self._spec, self._begun, self._picked.name)

    @property
    def _room(self) -> int:
        """How many more trials the stage has now."""
        left, beside = self._until - len(self._history), self._sampler.room(self._history)
        return max(0, left if beside is None else min(left, beside))

    @property
    def _until(self) -> int:
        """How many trials there are at the end of the stage."""
        return stages.end(self._spec, self._begun, self._sampler)

    @property
    def target_reached(self) -> bool:
        return self._tally.target_reached

    @property
    def stagnation(self) -> int:
        limit = self._spec.no_improvement
        return 0 if limit is None else self._tally.stagnation(limit.min_delta)

    @property
    def regret(self) -> Regret | None:
        return self._regret.state(self._spec)

    @property
    def recent_reasons(self) -> tuple[Reason, ...]:
        return self._tally.recent

    @property
    def best(self) -> Sequence[Best]:
        return [self._best(self._history[number]) for number in self._history.front.numbers]

    def top(self, count: int) -> Sequence[Best]:
        return [self._best(self._history[number]) for number in self._history.top(count)]

    def _best(self, trial: Past) -> Best:
        runs = tuple(self._course.runs(trial.number))
        return Best(trial.number, trial.values or (), trial.params, _broken(trial), runs)

    @property
    def warm_trials(self) -> int:
        return self._warm

    @property
    def taken(self) -> Taken | None:
        return self._taken

    @property
    def infeasible(self) -> int:
        return self._tally.infeasible

    @property
    def saved_steps(self) -> tuple[int, int]:
        return self._tally.saved_steps

    @property
    def sampler(self) -> tuple[str, str]:
        return self._picked.name, self._picked.reason

    @property
    def insight(self) -> Insight:
        return self._insights.of(self._spec, self._history, self.counts.complete, self._course, self._last_metrics)

    def _last_metrics(self, numbers: Sequence[int]) -> Mapping[int, Mapping[str, float]]:
        return self._storage.last_metrics(self._spec.uid, numbers)

    # ---- what happens

    def update(self, spec: ExperimentSpec) -> Sequence[Steer]:
        """Take over what may change while it runs; a sampler or a pruner that changed starts from the same history.

        Raises:
            InvalidSpec: the new spec cannot run; the old one stays in force.
        """
        spec = dataclasses.replace(spec, brackets=self._spec.brackets)
        if spec != self._spec:
            self._take_over(self._spec, spec)
        if len(self._history):
            self._keep_search()
        return self._record(spec)

    def _take_over(self, old: ExperimentSpec, spec: ExperimentSpec) -> None:
        check.check(spec)
        _same_experiment(old, spec)
        weights.same(spec, self._taken)
        self._search(spec)
        if spec.pruner != old.pruner:
            self._pruner = self._loaded_pruner(spec)
            for live in (*self._live.values(), *self._paused.values()):
                del live.curve.marks[:]
            self._resume()
        if spec.objectives != old.objectives:
            complete = [
                trial.values or ()
                for trial in self._history
                if trial.state is TrialState.COMPLETE and not _broken(trial)
            ]
            self._tally.look_again(spec.objectives, complete)
        self._queue.update(spec)
        self._spec = spec

    def _search(self, spec: ExperimentSpec) -> None:
        """Go on with the sampler that it says for the stage."""
        old, self._picked = self._picked.spec, samplers.pick(stages.asked(spec, self._begun))
        new = self._picked.spec
        if (new.sampler, new.seed, new.narrow, new.before) != (old.sampler, old.seed, old.narrow, old.before):
            self._sampler = samplers.build(new)
            self._asking.forget()

    def _next_stage(self) -> None:
        """Begin the next stage, or the first, if it is time."""
        over = len(self._history) >= self._until and not self._live
        if not stages.follows(self._spec, self._begun) or not (over or self._begun is None):
            return
        begins = stages.begin(self._spec, self._begun, self._history)
        self._keep([begins])
        self._untold.append(begins)
        self._begun = stages.latest(self._steering)
        self._search(self._spec)

    def _record(self, spec: ExperimentSpec) -> Sequence[Steer]:
        """Commit what people did since, if anything. Returns that, and the stages that began."""
        told, self._untold = self._untold, []
        asked = (spec.given, spec.stop_trials, spec.narrow, spec.after)
        if asked == self._steered_for:
            return told
        new = steering.changes(self._steering, spec, self._queue.taken)
        self._keep(new)
        self._steered_for = asked
        return [*told, *new]

    def _keep(self, new: Sequence[Steer]) -> None:
        """Record what people did, or what begins."""
        if new:
            trial = len(self._history)
            placed = [dataclasses.replace(each, trial=trial, order=self._happened()) for each in new]
            self._storage.record_steering(self._spec.uid, placed)
            self._steering += placed

    def _keep_search(self) -> None:
        """Record how it is searched, if that is not on record yet."""
        now = self._picked, self._spec.pruner
        if self._searched is None or any(one is not other for one, other in zip(now, self._searched, strict=True)):
            self._keep(searching.changed(self._steering, *now))
            self._searched = now

    def _happened(self) -> int:
        """The next place in the order of what happens."""
        self._order += 1
        return self._order

    def tail(self) -> Mapping[int, Reason]:
        due, self._undecided = self._undecided, set()
        self._asked |= due
        asked = {number: self._live[number] for number in sorted(due & self._live.keys())}
        said = {number: live.judge(self._pruner) for number, live in asked.items() if live.prunable}
        for live in asked.values():
            self._note(live)
        whys = {number: why for number, why in said.items() if why is not None}
        whys = self._take_news(self._pruner) | whys
        stops = {
            number: Stop(Reason.PRUNED, f"pruned by {self._spec.pruner.name} {why}")
            for number, why in sorted(whys.items())
            if self._live[number].prunable
        }
        self._decide(stops)
        self._watch_regret()
        return {number: stop.reason for number, stop in stops.items()}

    def _watch_regret(self) -> None:
        if self._spec.regret_bound is not None and self.ended is None:
            spec, complete = self._picked.spec, self._tally.complete
            found = self._regret.look(spec, self._history, self._course, complete, self._order)
            if found is not None:
                self._keep([found])

    def _decide(self, stops: Mapping[int, Stop]) -> None:
        """Commit what the pruner decided: whom to stop, and who was judged at another rung."""
        asked = [self._live[number] for number in sorted(self._asked & self._live.keys())]
        self._asked = set()
        rungs = {
            live.row.number: live.curve.rung
            for live in asked
            if live.curve.rung is not None and live.curve.rung != live.row.rung
        }
        if stops or rungs or self._judged:
            self._storage.decide(self._spec.uid, stops, rungs, self._judged)
            self._judged = []
            self._rows = self._paused_rows = None
        for number in stops.keys() | rungs.keys():
            live = self._live.get(number) or self._paused[number]
            live.row = rules.decided(live.row, stops.get(number), rungs.get(number), self._clock())

    def _note(self, live: Live) -> None:
        """What the pruner decided has its place in the order."""
        for seq, rung, why in live.judged:
            kind = RUNG if why is None else STOP
            number, attempt = live.row.number, live.row.attempt
            self._judged.append(Judged(self._happened(), number, attempt, kind, seq, rung, why or ""))
        live.judged = []

    def _take_news(self, pruner: pruners.Pruner | None) -> dict[int, str]:
        """Take in what was committed since; trials to stop and why or, without a pruner, all that reported."""
        if not self._live:
            return {}
        news = self._storage.news(self._spec.uid, {number: live.seen for number, live in self._live.items()})
        if news.finishes or news.logs_read or news.leases or news.reports:
            self._rows = None
        for number in (news.finishes.keys() | news.logs_read | news.leases.keys()) & self._live.keys():
            self._live[number].said(news.finishes.get(number), number in news.logs_read)
            self._live[number].held(news.leases.get(number), self._clock())
        found = {}
        unknown = news.reports.keys() - self._live.keys()
        if unknown:
            raise Fenced(f"trial {min(unknown)} was asked by another operator")
        for number, reports in news.reports.items():
            live = self._live[number]
            if pruner is not None:
                self._asked.add(number)
            why = live.take(reports, pruner)
            self._note(live)
            if why is not None or pruner is None:
                found[number] = why or ""
            self._history.replace(live.past)
        return found

    def ask(self, count: int, offered: bool = False) -> list[TrialRow]:
        self._next_stage()
        if count:
            self._keep_search()
        first, now = len(self._history), self._clock()
        rows: list[TrialRow] = []
        new: list[NewTrial] = []
        for number, (made, given) in enumerate(self._next(min(count, self._room)), first):
            parent, member = (made.segment.parent, made.segment.member) if made.segment else (None, None)
            environment, known = self._course.environment(number, 0), self._asking.known
            new.append(NewTrial(number, made.params, offered, given, parent, member, environment, known))
            rows.append(
                TrialRow(
                    number,
                    TrialState.RUNNING,
                    made.params,
                    1,
                    now,
                    offered=offered,
                    source=given.source if given else None,
                    parent=parent,
                    member=member,
                    environment=environment,
                )
            )
            self._history.add(self._begin(rows[-1]).past)  # the next one is asked with this one running
        if rows:
            self._storage.create_trials(self._spec.uid, self._spec.parameters, new)
        return rows

    def _next(self, count: int) -> Iterator[tuple[Suggestion, Given | None]]:
        """What the next trials are to be, each to be added to the history before the next is asked for: what people
        gave, as far as the sampler has filled it up by now, then the sampler's own."""
        while count and (given := self._queue.first) is not None:
            made = Suggestion(dict(given.params))
            self._asking.known = self._order
            if self._sampler.leads or not self._queue.is_whole(given):
                drawn = next(iter(self._suggest(1)), None)
                if drawn is None:
                    return
                filled = self._queue.filled(given, drawn.params, len(self._history))
                made = dataclasses.replace(drawn, params=filled)
            self._queue.take(given)
            count -= 1
            yield made, given
        for made in self._suggest(count):
            yield made, None

    def _suggest(self, count: int) -> Iterable[Suggestion]:
        return self._asking.suggest(self._picked.spec, self._sampler, self._history, count, self._order)

    def record_jobs(self, jobs: Sequence[JobRecord]) -> list[bool]:
        recorded = self._storage.record_jobs(self._spec.uid, jobs)
        for job, done in zip(jobs, recorded, strict=True):
            if done:
                self._change(job.number, job_uid=job.job_uid)
        return recorded

    def record_job(self, number: int, attempt: int, job_uid: str) -> bool:
        return self.record_jobs([JobRecord(number, attempt, job_uid)])[0]

    def record_start(self, starts: Mapping[int, float]) -> None:
        new = {n: time for n, time in starts.items() if n in self._live and self._live[n].row.started is None}
        if new:
            self._storage.record_start(self._spec.uid, new)
        for number, time in new.items():
            self._change(number, started=time)

    def record_images(self, seen: Mapping[str, tuple[str, int]]) -> None:
        if seen.keys() - self._images:
            self._keep(searching.images(self._steering, seen))
            self._images |= seen.keys()

    def new_attempt(self, number: int, lost: int, reason: Reason, message: str) -> bool:
        made = self._storage.new_attempt(self._spec.uid, number, lost, reason, message)
        if made:
            live = self._live[number]
            before = live.row.losses
            if self._course.one_series:  # else the pruner knows ended legs alone, and they stay
                if len(live.curve):
                    self._storage.decide(self._spec.uid, {}, {}, [Judged(self._happened(), number, lost, LOST)])
                self._pruner.withdraw(live.curve)
            live.start_again(reason)
            self._rows = None
            self._tally.lost_attempts += live.row.losses - before
            self._history.replace(live.past)
        return made

    def promote(self, numbers: Sequence[int], offered: bool, known: int) -> list[TrialRow]:
        rows = [self._paused[number].row for number in numbers if number in self._paused]
        attempts = {row.number: row.attempt for row in rows}
        judged = [
            Judged(self._happened(), row.number, row.attempt, PROMOTED, rung=row.leg - 1, known=known) for row in rows
        ]
        going = self._storage.promote(self._spec.uid, attempts, offered, judged) if attempts else {}
        for number, row in going.items():
            live = self._paused[number]
            live.row = dataclasses.replace(live.row, paused=False, offered=row.offered)
            self._place(live)
            self._course.take(number, row.legs, paused=False)
        return [self._live[number].row for number in going]

    def offer(self, attempts: Mapping[int, int]) -> set[int]:
        offered = self._storage.offer(self._spec.uid, attempts)
        for number in offered:
            self._change(number, offered=True)
        return offered

    def withdraw(self, attempts: Mapping[int, int]) -> set[int]:
        withdrawn = self._storage.withdraw(self._spec.uid, attempts)
        for number in withdrawn:
            self._change(number, offered=False)
        return withdrawn

    def leased_log(self, number: int) -> str | None:
        return self._storage.leased_log(self._spec.uid, number)

    @property
    def workers(self) -> Mapping[int, WorkerRow]:
        return self._workers

    def open_worker(self, number: int) -> WorkerRow:
        worker = self._storage.open_worker(self._spec.uid, number)
        self._workers = {**self._workers, number: worker}
        return worker

    def record_worker(self, number: int, incarnation: int, job_uid: str) -> bool:
        recorded = self._storage.record_worker(self._spec.uid, number, incarnation, job_uid)
        self._read_workers()
        return recorded

    def drain_workers(self, numbers: Collection[int]) -> None:
        self._storage.drain_workers(self._spec.uid, numbers)
        self._read_workers()

    def end_worker(self, number: int, incarnation: int, reason: Reason, message: str) -> None:
        self._storage.end_worker(self._spec.uid, number, incarnation, reason, message)
        self._read_workers()

    def _read_workers(self) -> None:
        self._workers = {worker.number: worker for worker in self._storage.workers(self._spec.uid)}

    def request_stop(self, stops: Mapping[int, Reason]) -> None:
        self._decide(
            {
                number: Stop(reason)
                for number, reason in stops.items()
                if (row := self.running.get(number) or self.paused.get(number)) and row.stop_requested is None
            }
        )

    def _change(self, number: int, **fields: object) -> None:
        live = self._live[number]
        live.row = dataclasses.replace(live.row, **fields)  # type: ignore[arg-type]
        self._rows = None

    def finish_trials(self, ends: Sequence[AttemptEnd]) -> list[TrialRow | Exception]:
        """End trials, or legs of them, each by its outcome and the reports that count. One answer for each: the trial
        as it is then (RUNNING: its leg has ended), or why nothing ended (NotCurrent: the attempt is not its current
        one); that of one says nothing of another."""
        known = self._order  # each is decided about as if it came alone
        settling = [self._settling(end, known) for end in ends]
        rows = self._storage.finish_trials(self._spec.uid, [ending for ending, _ in settling])
        over: list[Live] = []
        for row, (_, series) in zip(rows, settling, strict=True):
            live = self._find(row.number) if isinstance(row, TrialRow) else None
            if isinstance(row, TrialRow) and live is not None and not rules.is_running(row):
                self._end(row, series)
            elif isinstance(row, TrialRow) and live is not None and row.attempt != live.row.attempt:
                over.append(live)
                self._end_leg(live, row)
        if not self._course.one_series:
            self._judge_points(over)
        return rows

    def _find(self, number: int) -> Live | None:
        return self._live.get(number) or self._paused.get(number)

    def _end_leg(self, live: Live, row: TrialRow) -> None:
        live.end_leg(row)
        self._place(live)
        self._course.take(row.number, row.legs, row.paused)
        self._history.replace(live.past)

    def _judge_points(self, over: Sequence[Live]) -> None:
        """Ask the pruner about trials that have one point more. Those that it stops are stopped before they go on, or
        by a restarted operator, which asks it again."""
        self._asked |= {live.row.number for live in over if not live.row.paused}
        whys = {live.row.number: live.judge(self._pruner) for live in over if not live.row.paused}
        for live in over:
            self._note(live)
        self._decide(
            {
                number: Stop(Reason.PRUNED, f"pruned by {self._spec.pruner.name} {why}")
                for number, why in sorted(whys.items())
                if why is not None
            }
        )

    def finish(
        self, number: int, attempt: int, failure: Reason | None, message: str, log_tail: str | None = None
    ) -> TrialRow:
        """One alone, as `finish_trials`; raises what that answers."""
        return raised(self.finish_trials([AttemptEnd(number, attempt, failure, message, log_tail)])[0])

    def _settling(self, end: AttemptEnd, known: int) -> tuple[ToEnd, dict[int, float]]:
        """How an attempt is settled, by what had happened up to ``known``; and its series, which is whole once it
        is."""
        live = self._find(end.number)
        stop = (live.row.stop_reason, live.row.stop_message) if live else (None, "")
        outcome = value.Outcome(end.failure, end.message, *stop)
        metric = self._spec.objectives[0].metric
        series = live.curve.series() if live else {}
        order = self._happened()

        def settle(reports: Sequence[Report], finish: Finish | None) -> Ending | NextLeg:
            series.clear()
            series.update(rules.series(reports, metric))  # with what came after the last tail
            how = value.scored(outcome, reports, self._spec.objectives) if self._spec.once else outcome
            finish = finish if how is outcome else None  # nor does its own word undo a score
            if live is None:
                return value.settle(reports, finish, how, self._spec.objectives, self._spec.constraints)
            settled = self._course.settle(live.row, reports, finish, how)
            if not self._course.single:
                last = (max(series), series[max(series)]) if series and self._course.one_series else None
                settled = dataclasses.replace(settled, placing=Placing(order, known, last))
            if isinstance(settled, Ending) and settled.series is not None:
                series.clear()
                series.update(settled.series)
            return settled

        return ToEnd(end.number, end.attempt, settle, end.log_tail, order), series

    def _end(self, row: TrialRow, series: Mapping[int, float]) -> None:
        live = self._find(row.number)
        assert live is not None
        self._live.pop(row.number, None)
        self._paused.pop(row.number, None)
        self._rows = self._paused_rows = None
        if row.legs:
            self._course.take(row.number, row.legs, paused=False)
            if row.state is TrialState.COMPLETE:
                self._course.complete(rules.mark(row), row.legs)
        ended = rules.summary(row, series)
        self._history.replace(_past(ended))
        self._tally.ended(ended)
        self._pruner.ended(live.curve, row.state, series, rules.mark(row))

    def release_checkpoints(self) -> None:
        needed = {best.number for best in self.best}
        if self.ended is None:
            needed |= self._sampler.needed(self._history)
        self._storage.release_checkpoints(self._spec.uid, needed)

    def end(self, reason: Reason, message: str) -> None:
        self._study = self._storage.end_study(self._spec.uid, reason, message)


@dataclasses.dataclass(frozen=True)
class _Committed:
    """One study's ended trials, as `pruners.Committed`."""

    storage: EngineStorage
    uid: str

    def series(self, state: TrialState, take: Take) -> None:
        self.storage.each_series(self.uid, state, take)

    def marks(self, state: TrialState) -> list[Mark]:
        return self.storage.marks(self.uid, state)


def _past(trial: EndedTrial) -> Past:
    """An ended trial as samplers see it."""
    return Past(
        trial.number,
        trial.state,
        trial.params,
        trial.values,
        trial.last,
        trial.ended,
        trial.constraints,
        trial.gradient,
        trial.member,
    )


def _broken(trial: Past) -> dict[str, float]:
    """The constraints that it breaks, and by how much."""
    return {name: excess for name, excess in (trial.constraints or {}).items() if excess > 0}


def _same_experiment(old: ExperimentSpec, new: ExperimentSpec) -> None:
    """What may not change under an engine. Raises InvalidSpec."""
    if new.uid != old.uid:
        raise ValueError(f"the engine of experiment {old.uid} was given the spec of {new.uid}")
    check.same_objectives(
        new,
        [objective.metric for objective in old.objectives],
        [objective.direction for objective in old.objectives],
    )
    changed = sorted(
        name
        for name in old.parameters.keys() | new.parameters.keys()
        if old.parameters.get(name) != new.parameters.get(name)
    )
    if changed:
        raise InvalidSpec(
            f"parameters.{changed[0]}", "the search space cannot change once started; create a new experiment"
        )
    course = courses.changed(old, new)
    if course is not None:
        raise InvalidSpec(course, f"{course} cannot change once started; create a new experiment")
    if new.warm_start != old.warm_start:
        raise InvalidSpec("warmStart", "warmStart cannot change once started; create a new experiment")
    if new.stages != old.stages:
        raise InvalidSpec("stages", "stages cannot change once started; create a new experiment with warmStart")
    if new.constraints != old.constraints:
        raise InvalidSpec("constraints", "constraints cannot change once started; create a new experiment")
