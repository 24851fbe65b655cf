"""Columns of kubetune's own tables, and the rows that the other layers know them as."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from kubetune.api.trial import (
    Exit,
    Finish,
    Lease,
    Leg,
    Placing,
    Reason,
    Report,
    TrialRow,
    TrialState,
    from_json_metrics,
    penalty,
    to_json_metrics,
)
from kubetune.storage import base, rules

STUDY_COLUMNS = (
    "e.uid, e.namespace, e.name, e.study_name, e.created, e.ended, e.end_reason, e.end_message, e.metrics, e.directions"
)
# Some experiment that is there has taken the checkpoint `c` of the study `e`;
HELD = (
    "EXISTS (SELECT FROM kubetune.init_checkpoints i JOIN kubetune.experiments h ON h.id = i.experiment_id"
    " WHERE h.deleted IS NULL AND i.source_uid = e.uid AND i.location = c.location)"
)
# one that is not purged, of the study `e` or of another study of the same experiment: once the one that has taken it is
# deleted, it is still to be removed.
HELD_ANY = (
    "EXISTS (SELECT FROM kubetune.init_checkpoints i"
    " WHERE split_part(i.source_uid, '/', 1) = split_part(e.uid, '/', 1))"
)
BARE_COLUMNS = (
    "t.number, t.state, t.params, t.attempt, t.created, t.job_uid, t.started, t.ended, t.objective_values, t.reason,"
    " t.message, t.last_seq, t.stop_requested, t.stop_reason, t.finish_status, t.finish_message, t.finish_time,"
    " t.last_step, t.last_metrics, t.losses, t.source, t.stop_message, t.rung, t.constraint_values, t.parent, t.member,"
    " t.leg, t.paused, t.legs, t.environment"
)
TRIAL_COLUMNS = f"{BARE_COLUMNS}, coalesce(l.done, false)"
NEWS_COLUMNS = (  # few, and no JSON: the engine looks at all running trials each time it is woken
    "t.number, t.id, t.last_seq, coalesce(l.done, false), t.attempt, t.finish_status, t.finish_message, t.finish_time,"
    " t.offered"
)
TRIAL_TABLES = (
    "kubetune.experiments e JOIN kubetune.experiment_trials t ON t.experiment_id = e.id"
    " LEFT JOIN kubetune.logs l ON l.trial_id = t.id AND l.attempt = t.attempt"
)
NEWS = f"""
    SELECT {NEWS_COLUMNS} FROM {TRIAL_TABLES}
        LEFT JOIN unnest(%s::integer[], %s::bigint[]) AS v (number, seen) ON v.number = t.number
    WHERE e.uid = %s AND t.state = 'RUNNING' AND NOT t.paused
        AND (t.last_seq > coalesce(v.seen, 0) OR t.finish_status IS NOT NULL OR l.done OR t.offered)
"""
LEASE_COLUMNS = (
    "s.job_uid, s.pod_uid, s.slot, s.until <= now() AND s.exit_time IS NULL, s.exit_time, s.exit_reason, s.exit_message"
)
REPORT_COLUMNS = "r.seq, r.attempt, r.step, r.metrics, r.time"

_STATES = {str(state): state for state in TrialState}
_REASONS = {str(reason): reason for reason in Reason}

# One query for all trials that ended; a table of 100,000 is read in order of its index, page by page.
ENDED_TRIALS = f"""
    SELECT t.number, t.state, t.reason, t.params::text, t.objective_values, t.ended, cardinality(t.series_steps),
        t.series_steps[cardinality(t.series_steps)], t.series_values[cardinality(t.series_steps)],
        t.constraint_values, t.member,
        CASE WHEN position('"{rules.GRADIENT}' in t.last_metrics::text) > 0 THEN t.last_metrics END
    FROM kubetune.experiment_trials t
    WHERE t.experiment_id = (SELECT id FROM kubetune.experiments WHERE uid = %s) AND t.number > %s
        AND t.state <> 'RUNNING'
    ORDER BY t.number LIMIT %s
"""
# Steps are distinct and ascend: consecutive ones, the usual case, are known from the first one.
ENDED_SERIES = """
    SELECT t.number, CASE WHEN t.series_steps[cardinality(t.series_steps)] - t.series_steps[1] + 1
        = cardinality(t.series_steps) THEN t.series_steps[1:1] ELSE t.series_steps END, t.series_values
    FROM kubetune.experiments e JOIN kubetune.experiment_trials t ON t.experiment_id = e.id
    WHERE e.uid = %s AND t.state = %s AND t.series_steps IS NOT NULL
"""
MARKS = """
    SELECT t.number, t.reason, t.objective_values[1], t.rung, t.constraint_values
    FROM kubetune.experiment_trials t
    WHERE t.experiment_id = (SELECT id FROM kubetune.experiments WHERE uid = %s) AND t.state = %s ORDER BY t.number
"""
# Of trials in their first attempt, all of whose reports count.
RUNNING_SERIES = """
    SELECT t.number, array_agg(r.step ORDER BY r.seq), array_agg((r.metrics ->> e.metrics[1])::double precision
        ORDER BY r.seq)
    FROM kubetune.experiments e CROSS JOIN LATERAL (SELECT id, number, attempt FROM kubetune.experiment_trials
            WHERE experiment_id = e.id AND state = 'RUNNING' AND attempt = 1 OFFSET 0) AS t
        JOIN kubetune.reports r ON r.trial_id = t.id
    WHERE e.uid = %s AND r.metrics ->> e.metrics[1] IS NOT NULL
    GROUP BY t.number
"""
LATER_REPORTS = f"""
    SELECT {REPORT_COLUMNS}, t.number
    FROM kubetune.experiments e CROSS JOIN LATERAL (SELECT id, number FROM kubetune.experiment_trials
            WHERE experiment_id = e.id AND state = 'RUNNING' AND attempt > 1 OFFSET 0) AS t
        JOIN kubetune.reports r ON r.trial_id = t.id
    WHERE e.uid = %s ORDER BY t.number, r.seq
"""
ENDED_LEGS = """
    SELECT t.number, t.legs FROM kubetune.experiment_trials t
    WHERE t.experiment_id = (SELECT id FROM kubetune.experiments WHERE uid = %s) AND t.state <> 'RUNNING'
        AND t.legs IS NOT NULL
    ORDER BY t.number
"""


Row: TypeAlias = tuple[Any, ...]


class NewsOf(NamedTuple):
    """A row of `NEWS_COLUMNS`."""

    number: int
    id: int
    last_seq: int
    log_read: bool
    attempt: int
    finish_status: str | None
    finish_message: str
    finish_time: float
    offered: bool

    @property
    def finish(self) -> Finish | None:
        if self.finish_status is None:
            return None
        return Finish(self.attempt, self.finish_status, self.finish_message, self.finish_time)


def study(row: tuple[Any, ...]) -> base.StudyRow:
    """A row of `STUDY_COLUMNS`."""
    uid, namespace, name, study_name, created, ended, end_reason, end_message, metrics, directions = row
    return base.StudyRow(
        uid,
        namespace,
        name,
        study_name,
        created,
        ended,
        _reason(end_reason),
        end_message,
        tuple(metrics),
        tuple(directions),
    )


def trial(row: tuple[Any, ...]) -> TrialRow:
    """A row that begins with `TRIAL_COLUMNS`."""
    attempt, finish_status, finish_message, finish_time = row[3], row[14], row[15], row[16]
    finish = None if finish_status is None else Finish(attempt, finish_status, finish_message, finish_time)
    return TrialRow(
        number=row[0],
        state=TrialState(row[1]),
        params=row[2],
        attempt=attempt,
        created=row[4],
        job_uid=row[5],
        started=row[6],
        ended=row[7],
        values=None if row[8] is None else tuple(row[8]),
        reason=_reason(row[9]),
        message=row[10],
        last_seq=row[11],
        stop_requested=row[12],
        stop_reason=_reason(row[13]),
        finish=finish,
        last_step=row[17],
        last_metrics=from_json_metrics(row[18]),
        losses=row[19],
        source=row[20],
        stop_message=row[21],
        rung=row[22],
        constraints=None if row[23] is None else from_json_metrics(row[23]),
        parent=row[24],
        member=row[25],
        leg=row[26],
        paused=row[27],
        legs=legs(row[28]),
        environment=row[29] or {},
        log_read=row[30],
    )


def legs(found: Sequence[Mapping[str, Any]] | None) -> tuple[Leg, ...]:
    """What `leg_forms` made of them."""
    return tuple(
        Leg(
            each["attempt"],
            each["lastStep"],
            tuple(map(float, each["values"])),
            each["resumes"],
            float(each["broken"]),
            _placing(each.get("placing")),
        )
        for each in found or ()
    )


def _placing(form: Mapping[str, Any] | None) -> Placing | None:
    if form is None:
        return None
    last = form["last"]
    return Placing(form["order"], form["known"], None if last is None else (last[0], float(last[1])))


def leg_forms(ended: Sequence[Leg]) -> list[dict[str, Any]]:
    """Ended legs as JSON has them; what is no finite number as text."""
    return [
        {
            "attempt": leg.attempt,
            "lastStep": leg.last_step,
            "values": [_number(value) for value in leg.values],
            "resumes": leg.resumes,
            "broken": _number(leg.broken),
            **({} if leg.placing is None else {"placing": _placing_form(leg.placing)}),
        }
        for leg in ended
    ]


def _placing_form(placing: Placing) -> dict[str, Any]:
    last = None if placing.last is None else [placing.last[0], _number(placing.last[1])]
    return {"order": placing.order, "known": placing.known, "last": last}


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def legs_json(ended: Sequence[Leg]) -> str | None:
    """Ended legs as their column holds them."""
    return json.dumps(leg_forms(ended), allow_nan=False) if ended else None


def environment_json(environment: Mapping[str, str]) -> str | None:
    """What a leg gets, as its column holds it."""
    return json.dumps(dict(environment)) if environment else None


def mark(row: Row) -> base.Mark:
    """A row of `MARKS`."""
    number, reason, value, rung, constraints = row
    broken = constraints is not None and penalty(from_json_metrics(constraints)) > 0
    return base.Mark(number, None if reason is None else _REASONS[reason], None if broken else value, rung)


def lease(row: Row) -> Lease:
    """A row that begins with `LEASE_COLUMNS`."""
    job_uid, pod_uid, slot, expired, exit_time, exit_reason, exit_message = row[:7]
    exit_ = None if exit_time is None else Exit(_reason(exit_reason), exit_message, exit_time)
    return Lease(job_uid, pod_uid, slot, expired, exit_)


def with_lease(row: TrialRow, lease: Lease | None) -> TrialRow:
    """A trial that is offered, and maybe leased."""
    return dataclasses.replace(row, offered=True, lease=lease)


def ended(found: Sequence[Row]) -> list[base.EndedTrial]:
    """Rows of `ENDED_TRIALS`. Their parameters are read as one JSON text: a hundred thousand times is often."""
    params = json.loads(f"[{','.join(row[3] for row in found)}]")
    return [
        base.EndedTrial(
            number,
            _STATES[state],
            None if reason is None else _REASONS[reason],
            given,
            None if values is None else tuple(values),
            ended,
            steps or 0,
            None if step is None else (step, value),
            None if constraints is None else from_json_metrics(constraints),
            None if last_metrics is None else rules.gradient(from_json_metrics(last_metrics)),
            member,
        )
        for row, given in zip(found, params, strict=True)
        for number, state, reason, _, values, ended, steps, step, value, constraints, member, last_metrics in [row]
    ]


def report(row: tuple[Any, ...]) -> Report:
    """A row that begins with `REPORT_COLUMNS`."""
    seq, attempt, step, metrics, time = row[:5]
    return Report(seq, attempt, step, from_json_metrics(metrics), time)


def metrics_json(metrics: Mapping[str, float]) -> str:
    """Metrics as their column holds them."""
    return json.dumps(to_json_metrics(metrics), allow_nan=False)


def _reason(text: str | None) -> Reason | None:
    return None if text is None else Reason(text)
