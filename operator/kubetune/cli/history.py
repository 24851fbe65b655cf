"""`kubectl tune history`: what was decided, in order."""

import datetime
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kubetune.cli import text

Entry = tuple[float, str, str]


def entries(document: Mapping[str, Any], whole: bool, phase: str = "") -> list[Entry]:
    """(time, what, in words) of every decision in an export, in order; of the search and of all that came after it, or
    of one phase. ``whole``: each trial's begin and end too."""
    after = [each for each in document.get("phases", ()) if phase in ("", each["phase"])]
    found = [] if phase else _study(document["record"], document["trials"], whole)
    for each in after:
        found += [(time, what, f"{each['phase']}: {said}") for time, what, said in _phase(each, whole or bool(phase))]
    return sorted(found, key=lambda each: each[0])


def _study(history: Mapping[str, Any], trials: Sequence[Mapping[str, Any]], whole: bool) -> list[Entry]:
    found = [(history["created"], "Created", f"the study {history['study']} is made")]
    found += [(each["time"], *_steer(each)) for each in history["steering"]]
    for one in trials:
        found += _stops(one)
        found += _life(one) if whole else ()
    return [*found, *_end(history)]


def _end(history: Mapping[str, Any]) -> Iterator[Entry]:
    if history["ended"] is not None:
        yield history["ended"], str(history["endReason"]), str(history["endMessage"])


def _phase(each: Mapping[str, Any], whole: bool) -> Iterator[Entry]:
    """Of a phase: what it was begun with, what it came to."""
    history, plan = each["record"], each["record"]["spec"]
    if plan is None:
        return
    trials = ", ".join(str(one["trial"]) for one in plan["sets"])
    seeds = ", ".join(map(str, plan["seeds"]))
    model = f", with the model at {plan['model']['address']}" if "model" in plan else ""
    yield history["created"], "PhaseBegan", f"what trials tried is run again (trials: {trials}), seeds {seeds}{model}"
    for one in each["trials"]:
        yield from _stops(one)
        yield from _life(one) if whole else ()
    came_to = [each["winner"]["sentence"]] if each.get("winner") else []
    came_to += [f"the model is at {each['model']['address']}"] if each.get("model") else []
    came_to += [f"scored {each['score']}"] if each.get("score") is not None else []
    for time, what, said in _end(history):
        yield time, what, "; ".join([said, *came_to] if said else came_to)


def _stops(one: Mapping[str, Any]) -> Iterator[Entry]:
    """What was decided against a trial."""
    name = f"trial {one['number']}"
    for _, attempt, kind, _, rung, why, time in (each[:7] for each in one["judged"]):
        if kind == "stop":
            yield time, "Pruned", f"{name} is to stop {why}"
        elif kind == "lost":
            yield time, "AttemptLost", f"{name}: attempt {attempt} is lost, and what it had come to"
        elif kind == "promoted":
            yield time, "Promoted", f"{name} goes on after leg {rung}"
    if one["stopRequested"] is not None and one["stopReason"] != "Pruned":
        yield one["stopRequested"], "Stopped", f"{name} is to stop: {one['stopReason']}"


def _life(one: Mapping[str, Any]) -> Iterator[Entry]:
    """How a trial came and went."""
    name = f"trial {one['number']}"
    given = ", ".join(f"{key} = {text.exact(value)}" for key, value in one["parameters"].items())
    origin = f" ({one['source']})" if one["source"] else ""
    yield one["created"], "Asked", f"{name}{origin}: {given}"
    for _, _, kind, _, rung, _, time in (each[:7] for each in one["judged"]):
        if kind == "rung":
            yield time, "GoesOn", f"{name} goes on at {rung}"
    if one["ended"] is not None:
        values = "".join(f" {value}" for value in one["values"] or ())
        yield one["ended"], "Ended", f"{name}: {one['state']}, {one['reason']}{values}"


def _steer(form: Mapping[str, Any]) -> tuple[str, str]:
    from kubetune.engine import steering
    from kubetune.storage.base import Steer

    return steering.words(Steer(form["kind"], form["subject"], form["detail"]))


def told(steering: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """(time, what, in words) of what people did, and what began."""
    return [(_time(each["time"]), *_steer(each)) for each in steering]


def lines(found: Sequence[tuple[float, str, str]]) -> list[str]:
    rows = [[_time(time), what, words] for time, what, words in found]
    return text.table(["TIME (UTC)", "WHAT", ""], rows)


def _time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
