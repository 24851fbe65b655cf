"""What workers and gateway say to each other (docs/gateway-api.md): bodies judged and read, answers written. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from kubetune.api.trial import Exit, Reason
from kubetune.gateway import wire
from kubetune.gateway.wire import BadRequest, Json
from kubetune.storage import base

LONGEST_WAIT = 20.0  # seconds
MOST_SLOTS = 64
LOG_LENGTH = 16384  # characters; of what is longer, the end is kept
_EXITS = {
    str(reason): reason
    for reason in (Reason.EXIT_CODE, Reason.OOM_KILLED, Reason.DEADLINE_EXCEEDED, Reason.CONFIG, Reason.RETURNED)
}


def read_lease(body: bytes) -> tuple[int | None, float, base.Ended | None]:
    """Slot (None: no trial is wanted), seconds to wait for one, and the end of the slot's last. Raises BadRequest."""
    form = wire.read_object(body)
    _only(form, ("slot", "wait", "ended"), "")
    idle = "slot" in form and form["slot"] is None
    slot, wait = None if idle else _whole(form, "slot", "", MOST_SLOTS - 1), form.get("wait", 0)
    if isinstance(wait, bool) or not isinstance(wait, int | float) or not wait >= 0:
        raise BadRequest("wait: send a number of seconds from 0")
    return slot, min(float(wait), LONGEST_WAIT), None if form.get("ended") is None else _ended(form["ended"])


def read_heartbeat(body: bytes) -> list[tuple[int, int]]:
    """(number, attempt) of the trials that run. Raises BadRequest."""
    form = wire.read_object(body)
    _only(form, ("running",), "")
    running = form.get("running")
    if not isinstance(running, list) or len(running) > MOST_SLOTS:
        raise BadRequest(f"running: send a list of at most {MOST_SLOTS}, such as [{{'trial': 17, 'attempt': 1}}]")
    return [_trial(each, f"running[{index}]") for index, each in enumerate(running)]


def _ended(form: Any) -> base.Ended:
    number, attempt = _trial(form, "ended", ("reason", "message", "log"))
    reason, message, log = form.get("reason"), form.get("message", ""), form.get("log")
    if reason is not None and reason not in _EXITS:
        raise BadRequest(f"ended.reason: send null for a good end, or one of {', '.join(sorted(_EXITS))}")
    if not isinstance(message, str) or not isinstance(log, str | None):
        raise BadRequest("ended: message and log are text")
    exit_ = Exit(None if reason is None else _EXITS[reason], message[: wire.MESSAGE_LENGTH])
    return base.Ended(number, attempt, exit_, None if log is None else log[-LOG_LENGTH:])


def _trial(form: Any, where: str, more: Sequence[str] = ()) -> tuple[int, int]:
    if not isinstance(form, dict):
        raise BadRequest(f"{where}: send an object such as {{'trial': 17, 'attempt': 1}}")
    _only(form, ("trial", "attempt", *more), f"{where}.")
    return _whole(form, "trial", f"{where}.", 2**31 - 1), _whole(form, "attempt", f"{where}.", 2**31 - 1)


def _whole(form: Mapping[str, Any], name: str, where: str, high: int) -> int:
    value = form.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= high:
        raise BadRequest(f"{where}{name}: send a whole number from 0 to {high}")
    return value


def _only(form: Mapping[str, Any], fields: Sequence[str], where: str) -> None:
    unknown = sorted(form.keys() - set(fields))
    if unknown:
        raise BadRequest(f"{where}{unknown[0][:80]}: there is no such field; the fields are {', '.join(fields)}")


def write_granted(granted: base.Granted) -> Json:
    if granted.number is None:
        return {"trial": None, "drain": granted.drain}
    return {
        "trial": granted.number,
        "attempt": granted.attempt,
        "parameters": dict(granted.params),
        "parent": granted.parent,
        **({"environment": dict(granted.environment)} if granted.environment else {}),
        "drain": granted.drain,
    }


def write_heartbeat(held: Sequence[tuple[int, int]], answers: Sequence[base.Answer | None], drain: bool) -> Json:
    """``over``: the attempt is this worker's no more."""
    return {
        "trials": [
            {
                "trial": number,
                "attempt": attempt,
                "over": answer is None,
                "stop": answer is None or answer.stop,
                "reason": "" if answer is None else answer.reason,
            }
            for (number, attempt), answer in zip(held, answers, strict=True)
        ],
        "drain": drain,
    }
