"""`kubectl tune export`: an experiment as one document, for the record and for others. Pure."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from kubetune.api import phases
from kubetune.api.names import phase_of
from kubetune.cli import history as decided
from kubetune.cli import model, render, text
from kubetune.cli.model import Experiment, Trial

SHOWN = 20  # best trials in the report


@dataclasses.dataclass(frozen=True)
class Recorded:
    """What the gateway tells of a phase: its history, and every trial."""

    phase: str
    history: Mapping[str, Any]
    trials: Sequence[Mapping[str, Any]]


def as_json(
    resource: Mapping[str, Any],
    trials: Sequence[Mapping[str, Any]],
    history: Mapping[str, Any] | None,
    after: Sequence[Recorded] = (),
) -> dict[str, Any]:
    """The Experiment as it is, without what only the API server needs, and every trial as the gateway tells it; with
    its ``history`` it can be decided again. None: it has not begun. ``after``: what came after the search."""
    metadata = resource["metadata"]
    kept = ("name", "namespace", "uid", "creationTimestamp", "generation", "labels")
    return {
        "apiVersion": resource.get("apiVersion"),
        "kind": resource.get("kind"),
        "metadata": {field: metadata[field] for field in kept if field in metadata},
        "spec": resource.get("spec") or {},
        "status": resource.get("status") or {},
        **({} if history is None else {"record": history}),
        "trials": list(trials),
        **({"phases": [_phase(each, after, resource, history or {}) for each in after]} if after else {}),
    }


def _phase(
    each: Recorded, after: Sequence[Recorded], resource: Mapping[str, Any], history: Mapping[str, Any]
) -> dict[str, Any]:
    """With what it came to, in the words of its kind: the winner, the model, the score."""
    found: dict[str, Any] = {"phase": each.phase, "record": each.history, "trials": list(each.trials)}
    kind = phases.kind(each.phase)
    if kind == phases.FINALISTS:
        told = (resource.get("status") or {}).get("winner")
        found["winner"] = told if _has_won(each, after, resource) else None
    elif kind == phases.REFIT:
        models = history.get("versions", ())
        found["model"] = next((model for model in models if model["phase"] == each.phase), None)
    else:
        found["score"] = next((one["values"][0] for one in each.trials if one["values"]), None)
    return found


def _has_won(each: Recorded, after: Sequence[Recorded], resource: Mapping[str, Any]) -> bool:
    """Whether the status tells of the winner of these finalists: of the only ones, or of those that are asked for."""
    others = [one for one in after if one is not each and phases.kind(one.phase) == phases.FINALISTS]
    asked = (resource.get("spec") or {}).get(phases.FINALISTS) or {}
    well = all(one["state"] == "COMPLETE" for one in each.trials)
    return not others or (well and each.phase == phases.named(phases.FINALISTS, asked.get("name") or ""))


def markdown(
    shown: Experiment,
    trials: Sequence[Trial],
    now: float,
    resource: Mapping[str, Any],
    history: Mapping[str, Any] | None = None,
) -> list[str]:
    """A report for people: how it ended, the best, what mattered, the best trials; what was searched and how, so that
    somebody else could do it again."""
    lines = [f"# {shown.namespace}/{shown.name}", "", *_facts(shown, now)]
    for warning in shown.advice:
        lines += ["", f"> **{_cell(warning.partition(': ')[0])}**: {_cell(warning.partition(': ')[2])}"]
    if shown.best is not None:
        rows = [[name, text.exact(value)] for name, value in shown.best.parameters.items()]
        lines += ["", f"## Best: trial {shown.best.trial}, {render.value(shown.best)}", ""]
        lines += _table(["parameter", "value"], rows)
    if shown.winner is not None:
        rows = [[name, text.exact(value)] for name, value in shown.winner.parameters.items()]
        lines += ["", f"## Winner: trial {shown.winner.trial}", "", shown.winner.sentence, ""]
        lines += _table(["parameter", "value"], rows)
    if shown.importances:
        lines += ["", "## What mattered", ""]
        rows = [[name, text.percent(share), shown.effects.get(name, "")] for name, share in shown.importances]
        lines += _table(["parameter", "share", "from worst to best"], rows)
    done = [one for one in model.by_value(trials, shown.maximize) if one.values is not None][:SHOWN]
    if done:
        metrics = [metric for metric, _ in shown.objectives]
        names = list(dict.fromkeys(name for one in done for name in one.parameters))
        lines += ["", f"## The best {len(done)} of {len(trials)} trials", ""]
        lines += _table(["trial", "state", *metrics, *names], [_row(one, names) for one in done])
    lines += ["", "## What was searched", ""]
    forms = (resource.get("spec") or {}).get("parameters") or {}
    lines += _table(["parameter", "range"], [[name, json.dumps(form)] for name, form in forms.items()])
    return lines + ([] if history is None else _method(history))


def _method(history: Mapping[str, Any]) -> list[str]:
    """What decided, on what it ran, and what people did."""
    lines = ["", "## How it was searched", ""]
    searches = [each for each in history["steering"] if each["kind"] == "search"]
    for each in searches:
        detail = each["detail"]
        sampler, pruner = _algorithm(detail["sampler"]), _algorithm(detail["pruner"])
        seed = f"the UID, {history['uid']}" if detail["seed"] is None else detail["seed"]
        used = ", ".join(f"{name} {version}" for name, version in detail["versions"].items())
        lines.append(f"- From trial {each['trial']}: sampler {sampler}, pruner {pruner}, seed {seed}; {used}.")
    images = [each["detail"] for each in history["steering"] if each["kind"] == "image"]
    lines += [f"- Image `{each['image']}` was `{each['digest']}`, first in trial {each['trial']}." for each in images]
    if history["warm"]:
        names = sorted({each["source"] for each in history["warm"]})
        lines.append(f"- Began with {len(history['warm'])} trials of {', '.join(names)}.")
    taken = history.get("initCheckpoint")
    if taken is not None:
        phase = phase_of(taken["uid"])
        whose = f"the {phase} of {taken['experiment']}" if phase else f"trial {taken['trial']} of {taken['experiment']}"
        lines.append(f"- Every trial started from step {taken['step']} of {whose}, digest `{taken['digest']}`.")
    done = [each for each in history["steering"] if each["kind"] not in ("search", "image", "regret")]
    if done:
        rows = [[when, what, words] for when, what, words in decided.told(done)]
        lines += ["", "## What was done while it ran", "", *_table(["time (UTC)", "what", ""], rows)]
    return lines


def _algorithm(form: Mapping[str, Any]) -> str:
    settings = ", ".join(f"{name}: {json.dumps(value)}" for name, value in form["settings"].items())
    return f"`{form['name']}`" + (f" ({settings})" if settings else "")


def _facts(shown: Experiment, now: float) -> list[str]:
    facts = [
        ("state", shown.state + (f": {shown.message}" if shown.message else "")),
        ("objective", render.objectives(shown)),
        ("constraints", render.constraints(shown)),
        ("search", f"{shown.sampler}, pruner {shown.pruner}"),
        ("picked", shown.picked),
        ("trials", f"{shown.finished} of {shown.max_trials}: {render.breakdown(shown)}"),
        ("pruning", render.saved(shown)),
        ("model", shown.model),
        ("test set", shown.test),
        ("took", text.duration(render.elapsed(shown, now)) if shown.started else ""),
        ("study", shown.study),
    ]
    return _table(["", ""], [[name, value] for name, value in facts if value])


def _row(one: Trial, names: Sequence[str]) -> list[str]:
    values = [text.number(value) for value in one.values or ()]
    given = [text.exact(one.parameters[name]) if name in one.parameters else "" for name in names]
    return [str(one.number), one.shown_state, *values, *given]


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [headers, ["---"] * len(headers), *rows]
    return [f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines]


def _cell(given: str) -> str:
    return given.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
