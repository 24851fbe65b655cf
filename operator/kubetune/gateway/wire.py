"""What goes over the wire (docs/gateway-api.md): bodies judged and read, answers written. Pure: bytes and JSON only.

A refusal says where in the body the fault is, what is there, and what to write instead.
"""

import dataclasses
import json
import math
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from kubetune.api import names, trial
from kubetune.api.spec import ParamValue
from kubetune.storage import base, rules

Json: TypeAlias = dict[str, Any]

MOST_REPORTS = 1000  # in one request
MOST_METRICS = 100  # in one report
MOST_SLOPES = 100  # parameters in the gradient of one report
NAME_LENGTH = 256
KEY_LENGTH = 128
MESSAGE_LENGTH = 4096  # of a finish; the rest is cut off
STATUSES = ("complete", "failed", "pruned")
MOST_TRIALS = 1000  # of one page
MOST_RECORDS = 200  # with all their reports
ADDRESS_LENGTH = 2048
_DIGEST = re.compile(r"[a-z0-9]{2,16}:[0-9a-f]{8,128}")
_PHASE = re.compile(r"[a-z][a-z0-9.-]{0,62}")
_NO_NUMBERS = {"nan": math.nan, "infinity": math.inf, "inf": math.inf, "-infinity": -math.inf, "-inf": -math.inf}


class BadRequest(ValueError):  # noqa: N818
    """The request cannot be understood; its text is the answer."""


@dataclasses.dataclass(frozen=True)
class Reported:
    """One report as a body says it."""

    key: str
    step: int | None
    metrics: Mapping[str, float]


# ---- bodies


def read_object(body: bytes) -> Json:
    """The body as a JSON object. Raises BadRequest."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f'body: not JSON ({error}); send for example {{"metrics": {{"accuracy": 0.9}}}}') from None
    if not isinstance(parsed, dict):
        raise BadRequest(f"body: {_shown(parsed)} is not a JSON object")
    return parsed


def read_reports(body: bytes) -> list[Reported]:
    """The reports of `POST /v1/report`, in order. Raises BadRequest at the first fault."""
    parsed = read_object(body)
    if "reports" not in parsed:
        return [_report(parsed, "")]
    _only(parsed, ("reports",), "", "beside reports nothing else is read")
    reports = parsed["reports"]
    if not isinstance(reports, list) or not reports:
        raise BadRequest(f"reports: {_shown(reports)} is not a list of at least one report")
    if len(reports) > MOST_REPORTS:
        raise BadRequest(f"reports: {len(reports)} of them; send at most {MOST_REPORTS} at once")
    return [_report(report, f"reports[{index}].") for index, report in enumerate(reports)]


def read_finish(body: bytes) -> tuple[str, str]:
    """Status and message of `POST /v1/finish`. Raises BadRequest."""
    parsed = read_object(body)
    _only(parsed, ("status", "message"), "", "the fields are status and message")
    status, message = parsed.get("status"), parsed.get("message", "")
    if status not in STATUSES:
        raise BadRequest(f"status: {_shown(status)} is none of {', '.join(STATUSES)}")
    if not isinstance(message, str):
        raise BadRequest(f"message: {_shown(message)} is not a string")
    return status, message[:MESSAGE_LENGTH]


def read_model(body: bytes) -> tuple[str, str]:
    """Address and digest of `POST /v1/model`. Raises BadRequest."""
    parsed = read_object(body)
    _only(parsed, ("address", "digest"), "", "the fields are address and digest")
    address, digest = parsed.get("address"), parsed.get("digest", "")
    if not isinstance(address, str) or not 0 < len(address) <= ADDRESS_LENGTH:
        raise BadRequest(f"address: {_shown(address)} is not a string of 1 to {ADDRESS_LENGTH} characters")
    if not isinstance(digest, str) or (digest and not _DIGEST.fullmatch(digest)):
        raise BadRequest(f"digest: {_shown(digest)} is no digest such as sha256:9f86d081, in hexadecimal; leave it out")
    return address, digest


def _report(form: Any, where: str) -> Reported:
    if not isinstance(form, dict):
        raise BadRequest(f"{where.rstrip('.')}: {_shown(form)} is not a report such as {{'metrics': {{'loss': 0.1}}}}")
    _only(form, ("metrics", "step", "key", "gradient"), where, "the fields are metrics, step, key and gradient")
    metrics = form.get("metrics")
    if not isinstance(metrics, dict) or not metrics:
        raise BadRequest(f"{where}metrics: {_shown(metrics)} is not an object of at least one metric, name to number")
    if len(metrics) > MOST_METRICS:
        raise BadRequest(f"{where}metrics: {len(metrics)} of them; report at most {MOST_METRICS} at once")
    return Reported(
        key=_key(form.get("key"), f"{where}key"),
        step=_step(form.get("step"), f"{where}step"),
        metrics={
            _name(name, f"{where}metrics"): _number(value, f"{where}metrics.{name}") for name, value in metrics.items()
        }
        | _gradient(form.get("gradient", {}), f"{where}gradient"),
    )


def _gradient(form: Any, where: str) -> dict[str, float]:
    """As the metrics that it is kept as. Whether the trial has such parameters is judged with its row."""
    if not isinstance(form, dict):
        raise BadRequest(f"{where}: {_shown(form)} is not an object, parameter to number")
    if len(form) > MOST_SLOPES:
        raise BadRequest(f"{where}: {len(form)} parameters; report at most {MOST_SLOPES}")
    found = {name: _number(value, f"{where}.{name}") for name, value in form.items()}
    for name, value in found.items():
        if not math.isfinite(value):
            raise BadRequest(f"{_cut(where + '.' + name)}: {value} is no slope; leave it out, or let the trial fail")
    return {rules.GRADIENT + _name(name, where): value for name, value in found.items()}


def _only(form: Mapping[str, Any], fields: Sequence[str], where: str, hint: str) -> None:
    """A misspelt `step` would otherwise be lost without a word."""
    unknown = sorted(form.keys() - set(fields))
    if unknown:
        raise BadRequest(f"{where}{_cut(unknown[0])}: there is no such field; {hint}")


def _name(name: str, where: str) -> str:
    if not 0 < len(name) <= NAME_LENGTH:
        raise BadRequest(f"{where}: the name {_cut(name)!r} has {len(name)} characters; give it 1 to {NAME_LENGTH}")
    if name == names.MODEL_METRIC:  # a refit with it is complete: then there is a version
        raise BadRequest(f"{where}: {name} is kubetune's own; a refit tells of its model by POST /v1/model")
    return name


def _number(value: Any, where: str) -> float:
    if isinstance(value, str) and value.lower() in _NO_NUMBERS:
        return _NO_NUMBERS[value.lower()]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRequest(f"{_cut(where)}: {_shown(value)} is not a number")
    try:
        return float(value)
    except OverflowError:
        raise BadRequest(f"{_cut(where)}: a whole number of {len(str(value))} digits is too large") from None


def _step(value: Any, where: str) -> int | None:
    if value is None:
        return None
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not whole:
        raise BadRequest(f"{where}: {_shown(value)} is not a whole number; leave it out to count 0, 1, …")
    if not -rules.STEP_LIMIT <= value < rules.STEP_LIMIT:
        raise BadRequest(f"{where}: {_shown(value)} is out of range; steps are 64-bit numbers")
    return int(value)


def _key(value: Any, where: str) -> str:
    """Without a key of its own a report has one that no other has: sent twice, it counts twice."""
    if value is None:
        return uuid.uuid4().hex
    if not isinstance(value, str) or not 0 < len(value) <= KEY_LENGTH:
        raise BadRequest(f"{where}: {_shown(value)} is not a string of 1 to {KEY_LENGTH} characters")
    return value


def _shown(value: Any) -> str:
    return "nothing" if value is None else _cut(repr(value))


def _cut(text: str, length: int = 80) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


# ---- questions of people


def read_page(query: Mapping[str, str]) -> tuple[str | None, int, int]:
    """State (None: all), offset and limit of a page of trials. Raises BadRequest."""
    state = query.get("state", "").upper() or None
    if state is not None and state not in trial.TrialState.__members__:
        known = ", ".join(name.lower() for name in trial.TrialState.__members__)
        raise BadRequest(f"state: {_shown(query['state'])} is none of {known}")
    offset = _whole(query, "offset", 0, 2**31 - 1, default=0)
    return state, offset, _whole(query, "limit", 1, MOST_TRIALS, default=500)


def read_phase(query: Mapping[str, str]) -> str:
    """Which phase's trials are meant; "": the search's. Raises BadRequest."""
    phase = query.get("phase", "")
    if phase and not _PHASE.fullmatch(phase):
        raise BadRequest(f"phase: {_shown(phase)} is no phase such as finalists, refit or test")
    return phase


def read_number(text: str) -> int:
    """A trial's number in a path. Raises BadRequest."""
    return _whole({"trial": text}, "trial", 0, 2**31 - 1, default=0)


def _whole(query: Mapping[str, str], name: str, low: int, high: int, default: int) -> int:
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and low <= int(text) <= high):
        raise BadRequest(f"{name}: {_shown(text)} is not a whole number from {low} to {high}")
    return int(text)


# ---- answers


def write_answer(answer: base.Answer) -> Json:
    return {"seq": answer.seq, "stop": answer.stop, "reason": answer.reason}


def write_trial(who: base.Identity, parameters: Mapping[str, ParamValue], answer: base.Answer) -> Json:
    return {
        "namespace": who.namespace,
        "experiment": who.experiment,
        "trial": who.number,
        "attempt": who.attempt,
        "parameters": dict(parameters),
        "stop": answer.stop,
        "reason": answer.reason,
    }


def write_trials(study: base.StudyRow, counts: trial.Counts, rows: Sequence[trial.TrialRow]) -> Json:
    return {
        "study": study.study_name,
        "counts": {
            "running": counts.running,
            "complete": counts.complete,
            "pruned": counts.pruned,
            "failed": counts.failed,
            "lostAttempts": counts.lost_attempts,
            "paused": counts.paused,
        },
        "trials": [_row(row) for row in rows],
    }


def _row(row: trial.TrialRow) -> Json:
    values = None if row.values is None else [trial.to_json_metrics({"": value})[""] for value in row.values]
    return {
        "number": row.number,
        "state": row.state.value,
        "reason": row.reason.value if row.reason else None,
        "message": row.message,
        "parameters": dict(row.params),
        "values": values,
        "attempt": row.attempt,
        "created": row.created,
        "started": row.started,
        "ended": row.ended,
        "lastStep": row.last_step,
        "lastMetrics": trial.to_json_metrics(row.last_metrics),
        "constraints": None if row.constraints is None else trial.to_json_metrics(row.constraints),
        "source": row.source,
        "parent": row.parent,
        "member": row.member,
        "leg": row.leg,
        "paused": row.paused,
        "legs": [_leg(leg) for leg in row.legs],
    }


def _leg(leg: trial.Leg) -> Json:
    values = [trial.to_json_metrics({"": value})[""] for value in leg.values]
    return {"attempt": leg.attempt, "lastStep": leg.last_step, "values": values}


def write_models(models: Sequence[base.Model]) -> Json:
    return {"models": [_model(each) for each in models]}


def _model(model: base.Model) -> Json:
    version = model.version
    return {
        "experiment": model.experiment,
        "version": version.number,
        "address": version.address,
        "digest": version.digest,
        "image": version.image,
        "parameters": dict(version.params),
        "phase": version.phase,
        "time": version.time,
        "scores": [
            {"name": score.name, "value": trial.to_json_metrics({"": score.value})[""], "time": score.time}
            for score in model.scores
        ],
    }


def write_log(log: str | None, place: base.Place) -> Json:
    worker = None if place.worker is None else dict(zip(("number", "incarnation"), place.worker, strict=True))
    return {
        "log": log,
        "attempt": place.attempt,
        "running": place.running,
        "started": place.started,
        "worker": worker,
    }


def write_reports(reports: Sequence[trial.Report]) -> Json:
    return {
        "reports": [
            {
                "seq": report.seq,
                "attempt": report.attempt,
                "step": report.step,
                "metrics": trial.to_json_metrics(report.metrics),
                "time": report.time,
            }
            for report in reports
        ]
    }
