"""`kubectl tune replay`: an exported experiment decided again; `kubectl tune history`: what was decided, in order."""

import datetime
import json
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kubetune.cli import explain, text
from kubetune.kube.client import Json

EXPORTED = "{name} is no export of an experiment: write one by kubectl tune export NAME > {name}"


def is_file(name: str) -> bool:
    """Whether a file is meant, and no experiment of the cluster (whose names have no dot, slash or -)."""
    return name == "-" or name.endswith(".json") or "/" in name or pathlib.Path(name).is_file()


def read(name: str) -> Json:
    """An exported experiment; ``-``: from standard input. Raises Problem."""
    try:
        content = sys.stdin.read() if name == "-" else pathlib.Path(name).read_text()
        document = json.loads(content)
    except OSError as error:
        raise explain.Problem(f"{name} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise explain.Problem(EXPORTED.format(name=name)) from error
    if not isinstance(document, dict) or "trials" not in document or "spec" not in document:
        raise explain.Problem(EXPORTED.format(name=name))
    if "record" not in document:
        raise explain.Problem(f"{name} was exported before kubetune kept the order of decisions; export it again")
    return document


def again(document: Mapping[str, Any]) -> tuple[list[str], bool]:
    """What is said of the export, and whether all is the same. Raises Problem."""
    from kubetune.api import spec  # Optuna takes a second to load: only this command pays for it
    from kubetune.engine import again as engine
    from kubetune.storage import record_json

    metadata = {"generation": 0, "namespace": "default", **document["metadata"]}
    record = document["record"]
    try:
        study = engine.Study(
            spec.parse({"metadata": metadata, "spec": document["spec"]}),
            record_json.read_steering(record["steering"]),
            record_json.read_warm(record["warm"]),
            [record_json.read_trial(one) for one in document["trials"]],
        )
        verdict = engine.replay(study)
    except spec.InvalidSpec as error:
        raise explain.Problem(f"it cannot be decided again here: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise explain.Problem(f"the export cannot be understood: {type(error).__name__}: {error}") from error
    return list(_verdict(verdict, engine.versions(study))), not verdict.different


def _verdict(verdict: Any, versions: Sequence[str]) -> Iterator[str]:
    if not verdict.different:
        asked, stops = text.plural(verdict.asked, "set"), text.plural(verdict.stops, "stop")
        bounds = f", {text.plural(verdict.bounds, 'regret bound')}" if verdict.bounds else ""
        yield f"the same: {asked} of parameters, {stops}, {text.plural(verdict.rungs, 'judgement')} to go on{bounds}"
    else:
        same = verdict.asked + verdict.stops + verdict.rungs + verdict.bounds
        yield f"{text.plural(verdict.different, 'decision')} of {verdict.different + same} differ; the first:"
        yield from (f"  {each}" for each in verdict.differences)
    for note in verdict.notes:
        yield f"not decided again: {note}"
    if versions:
        said = "that may be why" if verdict.different else "which makes no difference here"
        yield f"versions differ ({said}): {'; '.join(versions)}"


# ---- history


Entry = tuple[float, str, str]


def entries(history: Mapping[str, Any], trials: Sequence[Mapping[str, Any]], whole: bool) -> list[Entry]:
    """(time, what, in words) of every decision, in order. ``whole``: each trial's begin and end too."""
    found = [(history["created"], "Created", f"the study {history['study']} is made")]
    found += [(each["time"], *_steer(each)) for each in history["steering"]]
    for one in trials:
        found += _stops(one)
        found += _life(one) if whole else ()
    if history["ended"] is not None:
        found.append((history["ended"], str(history["endReason"]), str(history["endMessage"])))
    return sorted(found, key=lambda each: each[0])


def _stops(one: Mapping[str, Any]) -> Iterator[Entry]:
    """What was decided against a trial."""
    name = f"trial {one['number']}"
    for _, attempt, kind, _, _, why, time in one["judged"]:
        if kind == "stop":
            yield time, "Pruned", f"{name} is to stop {why}"
        elif kind == "lost":
            yield time, "AttemptLost", f"{name}: attempt {attempt} is lost, and what it had come to"
    if one["stopRequested"] is not None and one["stopReason"] != "Pruned":
        yield one["stopRequested"], "Stopped", f"{name} is to stop: {one['stopReason']}"


def _life(one: Mapping[str, Any]) -> Iterator[Entry]:
    """How a trial came and went."""
    name = f"trial {one['number']}"
    given = ", ".join(f"{key} = {text.exact(value)}" for key, value in one["parameters"].items())
    origin = f" ({one['source']})" if one["source"] else ""
    yield one["created"], "Asked", f"{name}{origin}: {given}"
    for _, _, kind, _, rung, _, time in one["judged"]:
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
