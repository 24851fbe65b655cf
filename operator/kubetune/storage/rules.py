"""Rules that hold whichever database answers: both storages call these, so that neither can differ from the other."""

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from kubetune.api import names, phases
from kubetune.api.checkpoints import S3, Start, Taken
from kubetune.api.trial import (
    NO_LOSS,
    Counts,
    Ending,
    Finish,
    JobRecord,
    Leg,
    NextLeg,
    Reason,
    Report,
    TrialRow,
    TrialState,
    WorkerRow,
    penalty,
)
from kubetune.storage import base

STEP_LIMIT = 2**63  # a step is a signed 64-bit number
GRADIENT = "gradient:"  # before a parameter's name: the metric that is the first objective's slope along it


def clean(text: str) -> str:
    """Text as PostgreSQL can hold it: a NUL or half a surrogate pair, as logs and JSON may bring, becomes U+FFFD."""
    return text.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def clean_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics with names that can be stored and values that are floats."""
    return {clean(name): float(value) for name, value in metrics.items()}


def metrics_of(row: TrialRow, metrics: Mapping[str, float]) -> dict[str, float]:
    """What a report of this trial is kept as.

    Raises ValueError for the slope along something that is no continuous parameter of the trial.
    """
    cleaned = clean_metrics(metrics)
    for name in cleaned:
        if name.startswith(GRADIENT) and not isinstance(row.params.get(name.removeprefix(GRADIENT)), float):
            has = ", ".join(each for each, value in sorted(row.params.items()) if isinstance(value, float))
            raise ValueError(
                f"gradient.{name.removeprefix(GRADIENT)[:80]}: trial {row.number} has no such continuous parameter; "
                f"it has {has or 'none'}"
            )
    return cleaned


def gradient(last_metrics: Mapping[str, float]) -> dict[str, float] | None:
    """The slope of the first objective along each parameter that it was last reported for."""
    found = {name.removeprefix(GRADIENT): slope for name, slope in last_metrics.items() if name.startswith(GRADIENT)}
    return found or None


def step_after(last_step: int | None, step: int | None) -> int:
    """The step of a report: as given, else one more than the highest of this attempt, from 0.

    Raises ValueError for one that is out of range.
    """
    chosen = step if step is not None else 0 if last_step is None else last_step + 1
    if not -STEP_LIMIT <= chosen < STEP_LIMIT:
        raise ValueError(f"step: {chosen} is out of range; steps are 64-bit numbers")
    return chosen


def with_report(row: TrialRow, report: Report) -> TrialRow:
    """The trial after one more accepted report: its highest step, and the last value of each metric."""
    return dataclasses.replace(
        row,
        last_seq=report.seq,
        last_step=report.step if row.last_step is None else max(row.last_step, report.step),
        last_metrics={**row.last_metrics, **report.metrics},
    )


def refusal(row: TrialRow | None, who: base.Identity) -> Exception | None:
    """Why what this pod sends is not accepted; None: it is. ``row`` None: there is no such trial."""
    if row is None:
        return base.NotCurrent(f"there is no trial {who.number} of experiment {who.experiment_uid}")
    if row.state is not TrialState.RUNNING:
        return base.NotCurrent(f"trial {who.number} has ended: {row.state}, {row.reason}")
    if row.attempt != who.attempt:
        return base.NotCurrent(f"attempt {who.attempt} of trial {who.number} is over; the current one is {row.attempt}")
    if row.job_uid is None:
        return base.NotRecorded(f"the Job of trial {who.number}, attempt {who.attempt}, is not recorded yet")
    if row.job_uid != who.job_uid:
        return base.NotCurrent(f"Job {who.job_uid} is not the one of trial {who.number}, attempt {who.attempt}")
    return None


def resumes_from(row: TrialRow) -> list[int]:
    """Numbers of the trials whose checkpoints a trial may go on from, the first one first."""
    return [row.number] if row.parent is None else [row.number, row.parent]


def start(taken: Taken | None, spec: Mapping[str, Any] | None) -> Start | None:
    """By what the spec as it is kept asks for (None: there is none that this pod may speak for), and what is
    recorded."""
    form = (spec or {}).get("initCheckpoint") or {}
    if form.get("s3"):
        return Start("", str(form["s3"]["key"]), str(form["s3"]["sha256"]))
    if taken is None or not form.get("from") or taken.checkpoint.store != S3:
        return None
    return Start(taken.uid, taken.checkpoint.location, taken.checkpoint.digest)


def anew(row: TrialRow) -> int:
    """The attempt after which the trial's current leg began with nothing: what was saved until then is none of its
    checkpoints. 0: it goes on from all there is."""
    return max((leg.attempt for leg in row.legs if not leg.resumes), default=0)


def resumed(row: TrialRow, step: int) -> TrialRow:
    """The trial goes on after this step: a report without a step is of the next one. One that the attempt has made
    says more."""
    return row if row.last_step != _begun(row) else dataclasses.replace(row, last_step=step)


def _begun(row: TrialRow) -> int | None:
    """``last_step`` of an attempt that has said nothing: neither reported, nor what it goes on from."""
    return row.legs[-1].last_step if row.legs and row.legs[-1].resumes else None


def worker_refusal(worker: WorkerRow | None, who: base.Worker) -> Exception | None:
    """Why nothing is leased to this pod; None: it may lease. ``worker`` None: no worker's Job has its Job's UID."""
    if worker is None:
        return base.NotRecorded(f"the Job of worker {who.number} is not recorded yet")
    if worker.ended is not None:
        return base.NotCurrent(f"worker {worker.number}, incarnation {worker.incarnation}, is over")
    return None


def holds(row: TrialRow | None, who: base.Worker, attempt: int) -> bool:
    """Whether the pod has the trial's current attempt on lease, and its process has not ended."""
    return (
        row is not None
        and row.state is TrialState.RUNNING
        and row.attempt == attempt
        and row.lease is not None
        and row.lease.exit is None
        and (row.lease.job_uid, row.lease.pod_uid) == (who.job_uid, who.pod_uid)
    )


def answer(row: TrialRow, seq: int, attempt: int) -> base.Answer:
    """What a trial is told. One that is over, or whose attempt is, has nothing to go on for."""
    over = row.state is not TrialState.RUNNING or row.attempt != attempt
    stop = over or row.stop_requested is not None
    reason = row.stop_reason or (row.reason if over else None)
    return base.Answer(seq, stop, str(reason or ""))


def with_finish(row: TrialRow, status: str, message: str, now: float) -> TrialRow:
    """The trial has said that it ended; what it said first stands."""
    if row.finish is not None:
        return row
    return dataclasses.replace(row, finish=Finish(row.attempt, status, clean(message), now))


def may_tell_a_model(who: base.Identity) -> None:
    """Raises ValueError: it is no refit's run."""
    if phases.kind(names.phase_of(who.experiment_uid)) != phases.REFIT:
        raise ValueError("only a refit's run has a model to tell of; this one is none (KUBETUNE_PHASE says what it is)")


def has_scored(uid: str, metrics: Collection[str], row: TrialRow) -> bool:
    """It is a test's run, and its score was accepted: there is no other attempt at it. ``uid``: of its study."""
    return phases.kind(names.phase_of(uid)) == phases.TEST and all(metric in row.last_metrics for metric in metrics)


def next_attempt(row: TrialRow, reason: Reason) -> TrialRow:
    """The trial with its next attempt current, the one before given up for this reason: nothing of that one counts, but
    a stop that the user asked for."""
    kept = row.stop_reason is Reason.STOPPED
    last = row.legs[-1] if row.legs and row.legs[-1].resumes else None
    return dataclasses.replace(
        row,
        attempt=row.attempt + 1,
        losses=row.losses + (reason not in NO_LOSS),
        job_uid=None,
        offered=False,
        lease=None,
        finish=None,
        log_read=False,
        last_step=last.last_step if last else None,
        last_metrics={},
        stop_requested=row.stop_requested if kept else None,
        stop_reason=row.stop_reason if kept else None,
        stop_message=row.stop_message if kept else "",
        rung=row.rung if row.legs else None,  # legs that ended stay, and what was judged by them
    )


def next_leg(row: TrialRow, over: NextLeg) -> TrialRow:
    """The trial with its current leg ended by its current attempt, and the next of both to come."""
    return dataclasses.replace(
        row,
        attempt=row.attempt + 1,
        leg=row.leg + 1,
        paused=over.paused,
        legs=(*row.legs, Leg(row.attempt, row.last_step, over.values, over.resumes, over.broken, over.placing)),
        environment=dict(over.environment),
        job_uid=None,
        offered=False,
        lease=None,
        finish=None,
        log_read=False,
        last_step=row.last_step if over.resumes else None,
    )


def promoted(row: TrialRow | None, attempt: int, offered: bool) -> TrialRow | None:
    """The trial, to go on if it was paused; None: this is not its attempt, or it has ended."""
    if row is None or not is_running(row) or row.attempt != attempt:
        return None
    return dataclasses.replace(row, paused=False, offered=offered) if row.paused else row


def decided(row: TrialRow, stop: base.Stop | None, rung: int | None, now: float) -> TrialRow:
    """The trial with what was decided about it: the first stop stands."""
    if rung is not None:
        row = dataclasses.replace(row, rung=rung)
    if stop is None or row.stop_requested is not None:
        return row
    return dataclasses.replace(row, stop_requested=now, stop_reason=stop.reason, stop_message=clean(stop.message))


def mark(row: TrialRow) -> base.Mark:
    """Of an ended trial."""
    feasible = penalty(row.constraints) == 0
    return base.Mark(row.number, row.reason, row.values[0] if row.values and feasible else None, row.rung)


def is_running(row: TrialRow) -> bool:
    return row.state is TrialState.RUNNING


def takes_job(row: TrialRow, job: JobRecord) -> bool:
    """Whether this is, or may become, the recorded Job of the trial."""
    free = is_running(row) and not row.offered and not row.paused
    return free and row.attempt == job.attempt and row.job_uid in (None, job.job_uid)


def to_end(row: TrialRow | None, number: int, attempt: int) -> TrialRow:
    """The trial, if this attempt may end it, or a leg of it, or if that has happened already (`is_over`). Raises
    NotCurrent."""
    if row is None:
        raise base.NotCurrent(f"there is no trial {number}")
    if not is_over(row, attempt) and row.attempt != attempt:
        raise base.NotCurrent(f"attempt {attempt} of trial {number} is over; the current one is {row.attempt}")
    return row


def is_over(row: TrialRow, attempt: int) -> bool:
    """Whether the trial has ended, or this attempt has ended a leg of it."""
    return not is_running(row) or any(leg.attempt == attempt for leg in row.legs)


def settled(row: TrialRow, settling: Ending | NextLeg, objectives: int, now: float) -> TrialRow:
    """The trial with its final state, or with its leg ended. Raises ValueError as `ended` does."""
    if isinstance(settling, Ending):
        return ended(row, settling, objectives, now)
    if len(settling.values) != objectives or any(map(math.isnan, settling.values)):
        raise ValueError(f"{objectives} objectives need as many values, but got {settling.values}")
    return next_leg(row, settling)


def ended(row: TrialRow, ending: Ending, objectives: int, now: float) -> TrialRow:
    """The trial with its final state.

    Raises ValueError for an ending that no Optuna trial can have: COMPLETE without a number for each objective,
    FAIL with values, RUNNING.
    """
    values = ending.values
    if ending.state is TrialState.RUNNING:
        raise ValueError("RUNNING is not an ending")
    if ending.state is TrialState.FAIL and values is not None:
        raise ValueError(f"a trial that failed has no values, but got {values}")
    if ending.state is TrialState.COMPLETE and (values is None or any(math.isnan(value) for value in values)):
        raise ValueError(f"a COMPLETE trial needs values that are numbers, but got {values}")
    if values is not None and len(values) != objectives:
        raise ValueError(f"{objectives} objectives need as many values, but got {values}")
    return dataclasses.replace(
        row,
        state=ending.state,
        reason=ending.reason,
        message=clean(ending.message),
        values=values,
        constraints=ending.constraints,
        legs=_legs(row, ending),
        ended=now,
        offered=False,
        lease=None,
        paused=False,
    )


def _legs(row: TrialRow, ending: Ending) -> tuple[Leg, ...]:
    """With the last one, if it is one more point of the trial's value."""
    if ending.leg is None:
        return row.legs
    last = Leg(row.attempt, row.last_step, ending.leg, False, penalty(ending.constraints), ending.placing)
    return (*row.legs, last)


def chain(row: TrialRow, reports: Sequence[Report]) -> Sequence[Report]:
    """Those of a trial's reports (all attempts, ascending seq) that count, in order.

    An attempt goes on where its first report's step says: what was reported before it counts for the steps below; and
    if it has reported nothing, after the step of the checkpoint that it has taken up. Of attempts that were lost
    nothing counts until the current one has said so.
    """
    if row.attempt == 1 or not reports or reports[0].attempt == row.attempt:
        return reports
    done = row.legs[-1].attempt if row.legs else 0
    silent = reports[-1].attempt != row.attempt
    taken_up = row.last_step if silent and row.last_step != _begun(row) else None
    kept: list[Report] = []
    attempt = 0
    for report in reports:
        if silent and taken_up is None and report.attempt > done:
            break
        if report.attempt != attempt:
            attempt = report.attempt
            kept = [each for each in kept if each.step < report.step]
        kept.append(report)
    return kept if taken_up is None else [each for each in kept if each.step <= taken_up]


def series(reports: Iterable[Report], metric: str) -> dict[int, float]:
    """A metric by step, ascending; the latest report of a step counts."""
    latest = {report.step: report.metrics[metric] for report in reports if metric in report.metrics}
    return dict(sorted(latest.items()))


def attributes(trial: base.NewTrial) -> dict[str, int]:
    """User attributes that tell Optuna's tools whose segment a trial is, and what it goes on from."""
    both = {"kubetune:parent": trial.parent, "kubetune:member": trial.member}
    return {key: value for key, value in both.items() if value is not None}


def summary(row: TrialRow, curve: Mapping[int, float]) -> base.EndedTrial:
    """An ended trial with its `series`."""
    last = max(curve) if curve else None
    return base.EndedTrial(
        row.number,
        row.state,
        row.reason,
        row.params,
        row.values,
        row.ended or 0.0,
        len(curve),
        None if last is None else (last, curve[last]),
        row.constraints,
        gradient(row.last_metrics),
        row.member,
    )


def counts(rows: Sequence[TrialRow]) -> Counts:
    """Trials by state, and the attempts lost on the way."""
    states = [row.state for row in rows]
    paused = sum(row.paused for row in rows)
    return Counts(
        running=states.count(TrialState.RUNNING) - paused,
        paused=paused,
        complete=states.count(TrialState.COMPLETE),
        pruned=states.count(TrialState.PRUNED),
        failed=states.count(TrialState.FAIL),
        lost_attempts=sum(row.losses for row in rows),
    )
