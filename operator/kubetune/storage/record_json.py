"""The record of a study as JSON, both ways: what the gateway answers, what `kubectl tune export` keeps, what is read to
decide again. Numbers that JSON has not (nan, ±inf) are strings."""

from collections.abc import Mapping, Sequence
from typing import Any

from kubetune.api.checkpoints import Taken
from kubetune.api.trial import Reason, TrialRow, TrialState, from_json_metrics, to_json_metrics
from kubetune.storage import rows
from kubetune.storage.base import Steer, StudyHistory, Version, WarmTrial
from kubetune.storage.record import Judged, Point, TrialRecord

Json = dict[str, Any]


def history(found: StudyHistory) -> Json:
    """How a study is searched, what people did, and what it began with."""
    study = found.study
    return {
        "uid": study.uid,
        "study": study.study_name,
        "created": study.created,
        "ended": study.ended,
        "endReason": None if study.end_reason is None else str(study.end_reason),
        "endMessage": study.end_message,
        "generation": None if found.spec is None else found.spec.generation,
        "spec": None if found.spec is None else found.spec.spec,
        "steering": [
            {
                "time": each.time,
                "kind": each.kind,
                "subject": each.subject,
                "detail": each.detail,
                "trial": each.trial,
                "order": each.order,
            }
            for each in found.steering
        ],
        "warm": [_warm(each) for each in found.warm],
        "initCheckpoint": None if found.taken is None else _taken(found.taken),
        "phases": list(found.phases),
        "versions": [
            {
                "number": each.number,
                "phase": each.phase,
                "address": each.address,
                "digest": each.digest,
                "image": each.image,
                "parameters": dict(each.params),
                "time": each.time,
            }
            for each in found.versions
        ],
    }


def _taken(taken: Taken) -> Json:
    one = taken.checkpoint
    return {
        "experiment": taken.source,
        "uid": taken.uid,
        "trial": one.trial,
        "attempt": one.attempt,
        "step": one.step,
        "store": one.store,
        "claim": taken.claim,
        "folder": taken.folder,
        "location": one.location,
        "digest": one.digest,
    }


def _warm(trial: WarmTrial) -> Json:
    return {
        "source": trial.source,
        "sourceUid": trial.source_uid,
        "number": trial.number,
        "state": str(trial.state),
        "parameters": dict(trial.params),
        "values": _values(trial.values),
        "last": None if trial.last is None else [trial.last[0], *_numbers([trial.last[1]])],
        "constraints": None if trial.constraints is None else to_json_metrics(trial.constraints),
    }


def trial(record: TrialRecord) -> Json:
    """A trial, and what was decided about it."""
    row = record.row
    return {
        "number": row.number,
        "state": str(row.state),
        "reason": None if row.reason is None else str(row.reason),
        "message": row.message,
        "parameters": dict(row.params),
        "values": _values(row.values),
        "attempt": row.attempt,
        "created": row.created,
        "started": row.started,
        "ended": row.ended,
        "lastStep": row.last_step,
        "lastMetrics": to_json_metrics(row.last_metrics),
        "constraints": None if row.constraints is None else to_json_metrics(row.constraints),
        "source": row.source,
        "parent": row.parent,
        "member": row.member,
        "losses": row.losses,
        "rung": row.rung,
        "stopRequested": row.stop_requested,
        "stopReason": None if row.stop_reason is None else str(row.stop_reason),
        "stopMessage": row.stop_message,
        "known": record.known,
        "order": record.order,
        "points": [[*point[:3], *_numbers([point.value])] for point in record.points],
        "whole": record.whole,
        "series": [[step, *_numbers([value])] for step, value in record.series.items()],
        "legsEnded": record.legs,
        "legs": rows.leg_forms(row.legs),
        "judged": [
            [each.order, each.attempt, each.kind, each.seq, each.rung, each.why, each.time, each.known]
            for each in record.judged
        ],
    }


def read_steering(forms: Sequence[Json]) -> list[Steer]:
    return [
        Steer(each["kind"], each["subject"], each["detail"], each["time"], each["trial"], each["order"])
        for each in forms
    ]


def read_warm(forms: Sequence[Json]) -> list[WarmTrial]:
    return [
        WarmTrial(
            each["source"],
            each["sourceUid"],
            each["number"],
            TrialState(each["state"]),
            each["parameters"],
            _read_values(each["values"]),
            None if each["last"] is None else (int(each["last"][0]), float(each["last"][1])),
            _read_constraints(each["constraints"]),
        )
        for each in forms
    ]


def read_versions(forms: Sequence[Json]) -> list[Version]:
    return [
        Version(
            each["number"],
            each["phase"],
            each["address"],
            each["digest"],
            each["image"],
            each["parameters"],
            each["time"],
        )
        for each in forms
    ]


def read_trial(form: Json) -> TrialRecord:
    """As far as it takes to decide again."""
    number = int(form["number"])
    row = TrialRow(
        number,
        TrialState(form["state"]),
        form["parameters"],
        int(form["attempt"]),
        form["created"],
        started=form["started"],
        ended=form["ended"],
        values=_read_values(form["values"]),
        reason=None if form["reason"] is None else Reason(form["reason"]),
        message=form["message"],
        stop_requested=form["stopRequested"],
        stop_reason=None if form["stopReason"] is None else Reason(form["stopReason"]),
        stop_message=form["stopMessage"],
        rung=form["rung"],
        last_metrics=from_json_metrics(form["lastMetrics"]),
        parent=form["parent"],
        member=form["member"],
        losses=form["losses"],
        constraints=_read_constraints(form["constraints"]),
        source=form["source"],
        legs=rows.legs(form.get("legs")),
    )
    points = [Point(attempt, seq, step, float(value)) for attempt, seq, step, value in form["points"]]
    judged = [
        Judged(order, number, attempt, kind, seq, rung, why, time, *known)
        for order, attempt, kind, seq, rung, why, time, *known in form["judged"]
    ]
    series = {int(step): float(value) for step, value in form["series"]}
    return TrialRecord(
        row, form["known"], form["order"], points, bool(form["whole"]), judged, series, form["legsEnded"]
    )


def _numbers(values: Sequence[float]) -> list[Any]:
    return [to_json_metrics({"": value})[""] for value in values]


def _values(values: Sequence[float] | None) -> list[Any] | None:
    return None if values is None else _numbers(values)


def _read_values(values: Sequence[Any] | None) -> tuple[float, ...] | None:
    return None if values is None else tuple(map(float, values))


def _read_constraints(constraints: Mapping[str, Any] | None) -> dict[str, float] | None:
    return None if constraints is None else from_json_metrics(constraints)
