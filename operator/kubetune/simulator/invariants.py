"""DESIGN.md's invariants, checked while a run goes on and at its end. A violation says which and how.

After each step only what it changed is looked at, so that a step of a large run costs no more than one of a small run;
everything is looked at now and then, and at the end.
"""

import collections
import dataclasses
from collections.abc import Mapping

from kubetune.api import names
from kubetune.api import spec as api
from kubetune.api.phases import FINALISTS, REFIT, TEST, kind
from kubetune.api.spec import Algorithm, ExperimentSpec, InvalidSpec, Json, Validation
from kubetune.api.trial import Reason, TrialRow, TrialState
from kubetune.controller.outcome import START_FAILURES
from kubetune.engine import phases
from kubetune.engine.check import check as engine_check
from kubetune.engine.stages import STAGE
from kubetune.simulator import legs, record, segments, trials
from kubetune.simulator.api import ApiServer
from kubetune.simulator.census import is_worker, number_of, trial_of
from kubetune.simulator.nodes import Cluster
from kubetune.simulator.operators import SETTINGS
from kubetune.simulator.scenario import REFUSED_IMAGE
from kubetune.simulator.trials import Behaviour, Ledger
from kubetune.simulator.violation import check
from kubetune.storage.base import EngineStorage, KeptSpec
from kubetune.storage.memory import Database, Study

FULL = 1000  # steps between two looks at everything
GRACE = SETTINGS.deletion_grace


@dataclasses.dataclass
class Watchdog:
    """Watches one run from outside the operator: API server, database, and what trials were told."""

    server: ApiServer
    cluster: Cluster
    database: Database
    ledger: Ledger
    flaky: bool = False  # database and API server are away at times
    limit: int = 0  # trials in flight, of all experiments together; 0: none
    queued: float = 0.0  # seconds at most until a write that nobody waits for arrives
    ended: dict[tuple[str, int], TrialRow] = dataclasses.field(default_factory=dict)
    made: dict[str, str] = dataclasses.field(default_factory=dict)  # name of a Job ever created → UID of the last
    uids: set[str] = dataclasses.field(default_factory=set)
    maxima: dict[str, set[int]] = dataclasses.field(default_factory=lambda: collections.defaultdict(set))
    most: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)  # parallelism ever
    asked: dict[str, list[tuple[float, int]]] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(list)
    )  # by experiment: since when how many Jobs may be in flight, 0 while suspended
    suspended: set[str] = dataclasses.field(default_factory=set)  # experiments that ever were
    specs: dict[str, tuple[Json, KeptSpec | None, ExperimentSpec | None]] = dataclasses.field(default_factory=dict)
    steps: int = 0
    numbers: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)  # trials, by experiment
    leased: dict[str, set[int]] = dataclasses.field(default_factory=lambda: collections.defaultdict(set))

    def watch(self, plural: str, raw: Json, deleted: bool) -> None:
        """An API server's watcher without delay."""
        if plural == "jobs" and not deleted and raw["metadata"]["uid"] not in self.uids:
            self._job_made(raw)
        if plural == "experiments":
            self.maxima[raw["metadata"]["uid"]].add(raw["spec"]["maxTrials"])
            self._note(raw["metadata"]["uid"])

    def waited(self, seconds: float) -> None:
        """A look began so many seconds after it was due, with more hands than experiments to look at."""
        check(seconds < 1e-3, "I8", f"a look waited {seconds:g} s for a free hand")

    def _note(self, uid: str) -> None:
        spec = self._spec(uid)
        if spec is None:
            return
        allowed, past = 0 if spec.suspend else spec.parallelism, self.asked[uid]
        if not past or past[-1][1] != allowed:
            past.append((self.server.now, allowed))

    def _allowed(self, uid: str) -> int:
        """Jobs in flight that may be created now: what was asked for when the write was begun, or since."""
        begun = self.server.now - self.queued
        past = self.asked[uid]
        last = max((index for index, (since, _) in enumerate(past) if since <= begun), default=0)
        return max(number for _, number in past[last:])

    def _job_made(self, job: Json) -> None:
        self.uids.add(job["metadata"]["uid"])
        if is_worker(job):
            self._worker_made(job)
            return
        metadata, (uid, number, attempt) = job["metadata"], trial_of(job)
        before, self.made[metadata["name"]] = self.made.get(metadata["name"]), metadata["uid"]
        row = self._row(uid, number)
        check(row is not None, "I9", f"Job {metadata['name']} has no committed trial")
        check(
            row is not None and row.state is TrialState.RUNNING and row.attempt == attempt and not row.paused,
            "I1",
            f"Job {metadata['name']} is not of the current attempt: {row}",
        )
        again = before in self.cluster.disturbed and row is not None and row.job_uid is None
        check(before is None or again, "I9", f"Job {metadata['name']} was created a second time")
        self._in_flight(uid, number)

    def _in_flight(self, uid: str, number: int) -> None:
        """A Job was created for the trial: how many there are now."""
        census = self.cluster.census
        mine = census.count_of(uid, number, GRACE)
        check(mine == 1, "I1", f"trial {number} has {mine} live Jobs")
        uid = names.base_uid(uid)
        if self._spec(uid) is not None:
            self._note(uid)
            live, allowed = self._live(uid), self._allowed(uid)
            check(live <= allowed, "I2", f"{live} Jobs in flight, {allowed} asked for")
        if self.limit:
            total = sum(self._live(raw["metadata"]["uid"]) for raw in self.server.all("experiments"))
            check(total <= self.limit, "I2", f"{total} Jobs in flight, the limit is {self.limit}")

    def _live(self, uid: str) -> int:
        """Jobs in flight of an experiment, its phases' too."""
        family = [each for each in self.database.studies if names.base_uid(each) == uid]
        return sum(self.cluster.census.count(each, GRACE) for each in family)

    def _worker_made(self, job: Json) -> None:
        metadata, labels = job["metadata"], job["metadata"]["labels"]
        uid, number, incarnation = labels[names.LABEL_EXPERIMENT_UID], number_of(job), labels[names.LABEL_INCARNATION]
        workers = self.database.studies[uid].workers
        known = {(worker.number, str(worker.incarnation)) for worker in workers if worker.ended is None}
        check((number, incarnation) in known, "I9", f"Job {metadata['name']} is of no worker")
        live = self.cluster.census.count_of(uid, number, GRACE, worker=True)
        check(live == 1, "I1", f"worker {number} has {live} live Jobs")

    def step(self) -> None:
        """After everything that happens."""
        self.steps += 1
        for uid, study in self.database.studies.items():
            self._changes(uid, study)
            if self.steps % FULL == 0:
                self._everything(uid, study)

    def _changes(self, uid: str, study: Study) -> None:
        """What the step has written."""
        leased, there = self.leased[uid], len(study.trials)
        if there != self.numbers[uid]:
            new = range(self.numbers[uid], there)
            check(all(number in study.trials for number in new), "I3", "trial numbers have gaps")
            self.numbers[uid] = there
        if study.changed:
            for number in study.changed & study.trials.keys():
                row = study.trials[number].row
                (leased.add if _is_leased(row) else leased.discard)(number)
                self._stays(uid, row)
            study.changed.clear()
        spec = self._spec(uid)
        if spec is not None:
            most = self.most[uid] = max(self.most[uid], spec.parallelism)
            check(len(leased) <= most, "I2", f"{len(leased)} trials on lease, parallelism {most} at most")
            check(there <= spec.max_trials, "I3", f"{there} trials, maxTrials {spec.max_trials}")

    def _stays(self, uid: str, row: TrialRow) -> None:
        """A trial that has ended stays as it ended."""
        before = self.ended.get((uid, row.number))
        if before is not None and before is not row:  # to word what did not happen would take most of the time
            check(before == row, "I5", f"an ended trial changed: {before} became {row}")
        if row.state is not TrialState.RUNNING:
            self.ended[uid, row.number] = row

    def _everything(self, uid: str, study: Study) -> None:
        """All of a study, in case something was written that nobody told of."""
        check(study.trials.keys() == set(range(len(study.trials))), "I3", "trial numbers have gaps")
        for trial in study.trials.values():
            self._stays(uid, trial.row)
        ended = sum(owner == uid for owner, _ in self.ended)
        running = {number for number, trial in study.trials.items() if trial.row.state is TrialState.RUNNING}
        check(len(study.trials) == ended + len(running), "I5", "an ended trial is gone")
        leased = {number for number in running if _is_leased(study.trials[number].row)}
        check(leased == self.leased[uid], "I2", f"trials on lease: {sorted(leased)}, known {self.leased[uid]}")

    # ---- at the end

    def final(self, storage: EngineStorage, behave: "dict[str, dict[int, Behaviour]]") -> None:
        """When everything is over."""
        check(not self.server.all("jobs"), "I6", "a Job is left")
        check(not self.cluster.pods, "I6", "a pod is left")
        for uid, study in self.database.studies.items():
            self._everything(uid, study)
            rows = self._rows(uid)
            check(all(row.state is not TrialState.RUNNING for row in rows.values()), "I6", "a RUNNING trial is left")
            self._reports(uid)
            spec = self._spec(names.base_uid(uid))
            if spec is not None:
                if names.phase_of(uid):
                    self._phase(uid, spec, rows)
                    validation = Validation(spec.validation.folds if kind(names.phase_of(uid)) == FINALISTS else 1)
                    spec = dataclasses.replace(spec, pruner=Algorithm("none"), validation=validation)
                else:
                    self._ending(uid, spec, rows)
                    legs.all_trials(spec, study.row.end_reason, rows)
                    segments.all_trials(rows)
                for number, row in rows.items():
                    if spec.fidelity is not None and kind(names.phase_of(uid)) not in (REFIT, TEST):
                        legs.trial(spec, study, row, behave[uid][number], self.flaky)
                    else:
                        what = behave[uid][number]
                        self._trial(uid, row, legs.at_most(spec, what) if spec.fidelity else what)
                        legs.runs(spec, row)
                if not names.phase_of(uid):
                    after = [each for name, each in self.database.studies.items() if name.startswith(f"{uid}/")]
                    record.decides_the_same(spec, study, after)
        self._creates()

    def _reports(self, uid: str) -> None:
        """Every acknowledged report is there, as it was sent."""
        for (owner, number, attempt, seq), value in self.ledger.acknowledged.items():
            if owner != uid:
                continue
            reports = self.database.studies[uid].trials[number].reports
            found = next((report for report in reports if (report.seq, report.attempt) == (seq, attempt)), None)
            kept = None if found is None else found.metrics[trials.METRIC]
            same = kept is not None and (kept == value or (kept != kept and value != value))
            check(same, "I5", f"report {seq} of trial {number}, acknowledged as {value}, is {found}")

    def _phase(self, uid: str, spec: ExperimentSpec, rows: dict[int, TrialRow]) -> None:
        """What came after the search is over, ran what its plan says, each once, and gave the winner that is told."""
        study, resource = self.database.studies[uid], self.server.of_uid("experiments", names.base_uid(uid))
        status = (resource or {}).get("status") or {}
        check(study.row.end_reason is not None, "I7", f"{uid} has no end")
        check(study.kept is not None or not rows, "I9", f"{uid} has trials and no plan")
        if study.kept is None:
            return
        derived = phases.derive(spec, names.phase_of(uid), study.kept.spec)
        wanted = [(given.source, given.params) for given in derived.given]
        there = [(row.source, row.params) for _, row in sorted(rows.items())]
        check(there == wanted[: len(there)], "I9", f"{there} is not the plan's {wanted}")
        whole = study.row.end_reason is not Reason.MAX_TRIALS or len(rows) == len(wanted)
        check(whole, "I3", f"{uid} ended with {len(rows)} of {len(wanted)} runs")
        if names.phase_of(uid) not in spec.after:
            return  # asked for under another name since, or not any more
        failed = status.get("reason") == Reason.PHASE_FAILED
        if kind(names.phase_of(uid)) == FINALISTS:
            winner = phases.judge(spec, study.kept.spec, rows.values())
            told = (status.get("winner") or {}).get("trial")
            check(failed or (winner is not None and winner.trial == told), "I4", f"told of {told}, but it is {winner}")
        elif kind(names.phase_of(uid)) == TEST:
            self._scored_once(study, rows, status)
        elif not failed:
            known = study.version and study.version.address
            check(known == (status.get("model") or {}).get("address"), "I4", f"told of {status.get('model')}, {known}")

    def _scored_once(self, study: Study, rows: dict[int, TrialRow], status: Json) -> None:
        """No attempt followed one whose score was accepted, and that score is told, however its Job ended."""
        check(len(rows) <= 1, "I9", f"{len(rows)} runs on the test set")
        for number, row in rows.items():
            values = [(report.attempt, report.metrics[trials.METRIC]) for report in study.trials[number].reports]
            attempts = {attempt for attempt, _ in values}
            check(attempts <= {row.attempt}, "I9", f"scored by attempts {attempts}, the last one is {row.attempt}")
            if values and values[-1][1] == values[-1][1]:
                check(row.values == (values[-1][1],), "I4", f"scored {values}, and it is {row}")
                told = (status.get("test") or {}).get("value")
                check(told == values[-1][1], "I4", f"told of {told}, scored {values}")

    def _ending(self, uid: str, spec: ExperimentSpec, rows: dict[int, TrialRow]) -> None:
        resource = self.server.of_uid("experiments", uid)
        status = (resource or {}).get("status") or {}
        study = self.database.studies[uid].row
        counts = collections.Counter(row.state for row in rows.values())
        check(study.end_reason is not None, "I7", f"{uid} has no end")
        check(status.get("state") in ("Complete", "Failed"), "I7", f"status.state is {status.get('state')}")
        after = any(names.phase_of(each) and names.base_uid(each) == uid for each in self.database.studies)
        said = (Reason.PHASE_FAILED,) if after else ()
        check(status.get("reason") in (study.end_reason, *said), "I7", f"status says {status.get('reason')}")
        told = (status["counts"]["complete"], status["counts"]["pruned"], status["counts"]["failed"])
        there = (counts[TrialState.COMPLETE], counts[TrialState.PRUNED], counts[TrialState.FAIL])
        check(told == there, "I7", f"status counts {told}, the database {there}")
        check(status["counts"]["running"] == status["active"] == 0, "I7", "the status still counts running trials")
        failed = sum(row.state is TrialState.FAIL for row in rows.values())
        justified = {
            Reason.MAX_TRIALS: len(rows) in self.maxima[uid]  # it may have been raised after the end
            or (bool(spec.stages) and self._staged(uid, spec, rows)),
            Reason.SPACE_EXHAUSTED: len({tuple(row.params.values()) for row in rows.values()}) == len(rows) == 6,
            Reason.TARGET_REACHED: any(row.values and row.values[0] >= 0.9 for row in rows.values()),
            Reason.NO_IMPROVEMENT: spec.no_improvement is not None and len(rows) > spec.no_improvement.trials,
            Reason.REGRET_BOUND: spec.regret_bound is not None and len(rows) >= spec.regret_bound.min_trials,
            Reason.MAX_FAILED_TRIALS: failed > spec.max_failed_trials,
            Reason.START_FAILURES: sum(row.reason in START_FAILURES for row in rows.values()) >= 3,
            Reason.EXPERIMENT_DEADLINE: spec.experiment_deadline is not None,
        }
        check(bool(study.end_reason and justified[study.end_reason]), "I3", f"ended for {study.end_reason}: {rows}")

    def _staged(self, uid: str, spec: ExperimentSpec, rows: Mapping[int, TrialRow]) -> bool:
        """Whether all stages ran, each once, none longer than it may, and began after the one before had ended."""
        begun = [each.detail for each in self.database.studies[uid].steering if each.kind == STAGE]
        ends = [*(each["first"] for each in begun[1:]), len(rows)]
        for stage, each, end in zip(spec.stages, begun, ends, strict=False):
            check(end - each["first"] <= stage.max_trials, "I3", f"stage {stage.name} has too many trials")
            before = max((row.ended or 0.0 for number, row in rows.items() if number < each["first"]), default=0.0)
            later = [row.created for number, row in rows.items() if number >= each["first"]]
            check(all(before <= created for created in later), "I3", f"stage {stage.name} began too soon")
        return [each["stage"] for each in begun] == list(range(1, len(spec.stages) + 1))

    def _trial(self, uid: str, row: TrialRow, what: Behaviour) -> None:
        """Its end follows from what it did and reported, or from a stop."""
        which = kind(names.phase_of(uid))
        if which == TEST:
            return  # see `_scored_once`
        reports = [
            report.metrics[trials.METRIC]
            for report in self.database.studies[uid].trials[row.number].reports
            if report.attempt == row.attempt
        ]
        about = f"trial {row.number} ({what.kind}) ended {row.state} {row.reason} {row.values}, reports {reports}"
        if row.stop_requested is not None:
            check(row.state in (TrialState.PRUNED, TrialState.FAIL), "I4", about)
            return
        expected = {trials.ENDS[what.kind]}
        if which == REFIT and what.kind == "nan":
            expected = {Reason.COMPLETED}  # its model is what counts
        if what.kind == "gives up" and which != REFIT:
            expected.add(Reason.EXIT_CODE)  # where its log was read: by then, whatever an edit says now
        if self.flaky and row.reason is Reason.DEADLINE_EXCEEDED:
            return  # its reports were not taken for so long
        check(row.reason in expected, "I4", about)
        if row.state is TrialState.COMPLETE:
            told = 1.0 if which == REFIT else reports[-1]
            check(row.values == (told,) and len(reports) == what.steps, "I4", about)

    def _creates(self) -> None:
        """Each attempt but the last was lost to something that did happen, and none was created that was not needed."""
        for uid in self.database.studies:
            if self._spec(names.base_uid(uid)) is None or names.base_uid(uid) in self.suspended:
                continue
            rows = self._rows(uid)
            known = self.cluster.disturbed.keys() | self.cluster.waited
            mine = [job for job in self.cluster.jobs_made if not is_worker(job) and trial_of(job)[0] == uid]
            for job in mine:
                _, number, attempt = trial_of(job)
                lost = attempt < rows[number].attempt and all(leg.attempt != attempt for leg in rows[number].legs)
                why = job["metadata"]["uid"] in known
                check(not lost or why, "I9", f"{trial_of(job)} was lost")
            attempts = sum(row.attempt for row in rows.values())
            made = {job["metadata"]["name"] for job in mine}
            check(len(made) <= attempts, "I9", f"{len(made)} Jobs for {attempts} attempts")

    # ---- what there is

    def _rows(self, uid: str) -> dict[int, TrialRow]:
        return {number: trial.row for number, trial in self.database.studies[uid].trials.items()}

    def _row(self, uid: str, number: int) -> TrialRow | None:
        study = self.database.studies.get(uid)
        trial = study.trials.get(number) if study else None
        return trial.row if trial else None

    def _spec(self, uid: str) -> ExperimentSpec | None:
        """The one in force: an edit that cannot be run leaves the one before in force, but for `suspend`."""
        resource, study = self.server.of_uid("experiments", uid), self.database.studies.get(uid)
        if resource is None:
            return None
        kept = study.kept if study else None
        known = self.specs.get(uid)
        if known is None or known[0] is not resource["spec"] or known[1] is not kept:
            known = self.specs[uid] = (resource["spec"], kept, _in_force(resource, kept))
        return known[2]


def _is_leased(row: TrialRow) -> bool:
    return row.lease is not None and row.lease.exit is None


def _in_force(resource: Json, kept: KeptSpec | None) -> ExperimentSpec | None:
    if _can_run(resource):
        return api.parse(resource)
    if kept is None:
        return None
    return api.parse({**resource, "spec": {**kept.spec, "suspend": resource["spec"].get("suspend", False)}})


def _can_run(resource: Json) -> bool:
    """Whether neither kubetune nor the API server has anything against it."""
    try:
        engine_check(api.parse(resource))
    except InvalidSpec:
        return False
    return all(container["image"] != REFUSED_IMAGE for container in resource["spec"]["template"]["spec"]["containers"])
