"""What the commands print: experiments and trials to lines. Pure."""

import csv
import io
import math
import shlex
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from kubetune.cli import text
from kubetune.cli.model import Best, Experiment, Trial, Winner

SAID = 80  # characters of a message in a table, and
PRUNER_SAID = 60  # of a pruner's: most trials may have one


def experiments(shown: Sequence[Experiment], now: float, everywhere: bool) -> list[str]:
    """The table of `get`."""
    headers = ["NAME", "STATE", "BEST", "FINISHED", "ACTIVE", "AGE"]
    rows = [
        [
            one.name,
            one.state,
            text.number(one.best.value if one.best else None),
            f"{one.finished}/{one.max_trials}",
            str(one.active),
            text.age(None if one.created is None else now - one.created),
        ]
        for one in shown
    ]
    if everywhere:
        headers = ["NAMESPACE", *headers]
        rows = [[one.namespace, *row] for one, row in zip(shown, rows, strict=True)]
    return text.table(headers, rows)


def experiment(shown: Experiment, now: float) -> list[str]:
    """The page of `get NAME`."""
    facts = [
        ("state", shown.state + (f": {shown.message}" if shown.message else "")),
        ("objective", objectives(shown)),
        ("constraints", constraints(shown)),
        ("search", f"{shown.sampler}, pruner {shown.pruner}, at most {shown.parallelism} at a time"),
        ("picked", shown.picked),
        ("stage", shown.stage),
        ("finished", f"{shown.finished} of {shown.max_trials}: {breakdown(shown)}"),
        ("active", active(shown)),
        ("now", phase(shown)),
        ("best", best_line(shown)),
        ("to gain", "" if shown.ended else shown.regret),
        ("winner", shown.winner.sentence if shown.winner else ""),
        ("model", shown.model),
        ("test set", shown.test),
        ("pruning", saved(shown)),
        ("importances", ", ".join(f"{name} {text.percent(share)}" for name, share in shown.importances)),
        ("attempts lost", str(shown.lost_attempts) if shown.lost_attempts else ""),
        ("recent failures", ", ".join(f"{count} × {reason}" for reason, count in shown.failures)),
        ("took" if shown.completed else "for", text.duration(elapsed(shown, now)) if shown.started else ""),
        ("study", shown.study),
        *(("advice", advice) for advice in shown.advice),
    ]
    lines = [f"{shown.namespace}/{shown.name}"]
    lines += [f"  {name:<15}  {value}" for name, value in facts if value]
    if len(shown.front) > 1:
        lines += ["", *front(shown)]
    return lines


def objectives(shown: Experiment) -> str:
    return ", ".join(f"{direction} {metric}" for metric, direction in shown.objectives)


def constraints(shown: Experiment) -> str:
    """``latency_ms <= 20 (3 complete trials break it)``."""
    bounds = [
        f"{metric} {sign} {text.number(limit)}"
        for metric, low, high in shown.constraints
        for sign, limit in ((">=", low), ("<=", high))
        if limit is not None
    ]
    broken = f" ({shown.infeasible} of {shown.complete} complete trials break them)" if shown.infeasible else ""
    return ", ".join(bounds) + broken


def breakdown(shown: Experiment) -> str:
    """``11 complete, 8 pruned``: what is not there is not named."""
    parts = [(shown.complete, "complete"), (shown.pruned, "pruned"), (shown.failed, "failed")]
    return ", ".join(f"{count} {name}" for count, name in parts if count) or "none yet"


def active(shown: Experiment) -> str:
    if shown.ended:
        return ""
    what = "to go on" if shown.suspend else "for a slot, a node or an image"
    return f"{shown.active}" + (f" ({shown.pending} waiting {what})" if shown.pending else "")


def best_line(shown: Experiment) -> str:
    """``0.9738 (trial 12)  lr=0.0031 layers=2``."""
    if shown.best is None:
        return ""
    return (
        f"{value(shown.best)} (trial {shown.best.trial})  {text.parameters(shown.best.parameters)}{breaks(shown.best)}"
    )


def phase(shown: Experiment) -> str:
    """``finalists: 7 of 15 runs have ended``."""
    if shown.phase is None:
        return ""
    name, finished, total = shown.phase
    return f"{name}: {finished} of {text.plural(total, 'run')} ended"


def winner(shown: Winner) -> list[str]:
    """The page of `winner`."""
    rows = [[f"  {name}", text.exact(one)] for name, one in shown.parameters.items()]
    return [shown.sentence, *text.table(["  parameter", "value"], rows)]


def winner_json(shown: Experiment, chosen: Winner) -> dict[str, Any]:
    return {
        "experiment": shown.name,
        "namespace": shown.namespace,
        "trial": chosen.trial,
        "mean": chosen.mean,
        "sentence": chosen.sentence,
        "parameters": dict(chosen.parameters),
    }


def breaks(best: Best) -> str:
    """That no trial keeps the constraints, and what this one breaks."""
    told = ", ".join(f"{name} by {text.number(excess)}" for name, excess in best.broken.items())
    return f"  (no trial keeps the constraints; this one breaks {told})" if told else ""


def value(best: Best) -> str:
    if len(best.values) > 1:
        return text.metrics(best.values)
    return text.number(best.value or next(iter(best.values.values()), None))


def saved(shown: Experiment) -> str:
    """What pruning saved, in reports (steps) that were not run."""
    if not shown.saved_steps:
        return ""
    return (
        f"saved {text.percent(shown.saved_share)}: {text.plural(shown.pruned, 'trial')} stopped early, "
        f"about {text.plural(shown.saved_steps, 'step')} not run"
    )


def elapsed(shown: Experiment, now: float) -> float | None:
    """Seconds from the study's start to the end, or to now."""
    return None if shown.started is None else (shown.completed or now) - shown.started


def front(shown: Experiment) -> list[str]:
    """The Pareto front as a table."""
    metrics = [metric for metric, _ in shown.objectives]
    rows = [
        [str(one.trial), *(text.number(one.values.get(metric)) for metric in metrics), text.parameters(one.parameters)]
        for one in shown.front
    ]
    headers = ["TRIAL", *(metric.upper() for metric in metrics), "PARAMETERS"]
    lines = text.table(headers, rows, range(len(metrics) + 1))
    hidden = shown.front_size - len(shown.front)
    return lines + ([f"and {hidden} more on the front"] if hidden > 0 else [])


def trials(shown: Experiment, rows: Sequence[Trial], now: float, wide: bool = False) -> list[str]:
    """The table of `trials`. ``wide``: messages whole, those of trials that went as they should too."""
    metrics = [metric for metric, _ in shown.objectives] or ["value"]
    descend = any(one.member is not None for one in rows)
    first = ["TRIAL", "PARENT", "STATE"] if descend else ["TRIAL", "STATE"]
    ran = ["RUNS"] if shown.has_runs else []
    figures = [*(metric.upper() for metric in metrics), *ran, "STEP", "TOOK"]
    headers = [*first, *figures, "PARAMETERS", "WHY"]
    lines = [
        [
            str(one.number),
            *(["-" if one.parent is None else str(one.parent)] if descend else []),
            one.shown_state,
            *_values(one, metrics),
            *([runs(one.legs)] if ran else []),
            text.number(one.last_step),
            text.duration(one.seconds(now)),
            text.parameters(one.parameters),
            why(one, wide),
        ]
        for one in rows
    ]
    return text.table(headers, lines, [*range(len(first) - 1), *range(len(first), len(first) + len(figures))])


def runs(values: Sequence[float]) -> str:
    """``5 ±0.012``: how many, and their standard deviation."""
    spread = f" ±{statistics.stdev(values):.2g}" if len(values) > 1 and all(map(math.isfinite, values)) else ""
    return f"{len(values)}{spread}"


def _values(one: Trial, metrics: Sequence[str]) -> list[str]:
    """A finished trial's values; of a running one the last reports, in brackets."""
    if one.values is not None:
        return [text.number(number) for number in one.values]
    if one.state == "RUNNING":
        return [f"({text.number(one.last_metrics[name])})" if name in one.last_metrics else "-" for name in metrics]
    return ["-"] * len(metrics)


def why(one: Trial, wide: bool = False) -> str:
    """What is not to be expected, and what the pruner said: a trial that is COMPLETE explains itself."""
    attempt = f"attempt {one.attempt}" if one.attempt > 1 else ""
    if one.leg and not one.ended:
        attempt = f"after leg {one.leg - 1}" if one.paused else f"leg {one.leg}, {attempt}"
    told, width = _reason(one, wide), PRUNER_SAID if one.reason == "Pruned" else SAID
    return ", ".join(part for part in (attempt, told if wide else text.cut(told, width)) if part)


def _reason(one: Trial, wide: bool) -> str:
    if one.reason == "Pruned":
        return one.message.removeprefix("pruned by ")
    if one.reason in ("", "Completed"):
        return one.message if wide else ""
    return f"{one.reason}: {one.message}" if one.message else one.reason


def trials_csv(shown: Experiment, rows: Sequence[Trial]) -> str:
    """One line a trial; parameters as ``params_x`` (as Optuna's dataframe names them), numbers in full."""
    metrics = [metric for metric, _ in shown.objectives]
    names = list(dict.fromkeys(name for one in rows for name in one.parameters))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    ran = ["runs"] if shown.has_runs else []
    fixed = ["number", "state", "reason", "message", "attempt", "created", "started", "ended", "last_step"]
    descend = any(one.member is not None for one in rows)
    fixed += ["parent", "member"] if descend else []
    writer.writerow([*fixed, *metrics, *ran, *(f"params_{name}" for name in names)])
    for one in rows:
        values = one.values or ("",) * len(metrics)
        facts = [one.number, one.state, one.reason, one.message, one.attempt, one.created, one.started, one.ended]
        facts += [one.last_step]
        facts += [one.parent, one.member] if descend else []
        given = [text.exact(one.parameters[name]) if name in one.parameters else "" for name in names]
        each = [" ".join(map(repr, one.legs))] if ran else []
        writer.writerow(["" if fact is None else fact for fact in facts] + [*values, *each, *given])
    return out.getvalue()


def best(shown: Experiment, chosen: Best) -> list[str]:
    """The page of `best`."""
    names = [metric for metric, _ in shown.objectives]
    head = f"trial {chosen.trial}: " + (
        f"{names[0]} {value(chosen)}" if len(names) == 1 and len(chosen.values) < 2 else value(chosen)
    )
    head += breaks(chosen)
    if not shown.ended:
        head += f"  (so far: {shown.finished} of {shown.max_trials} finished)"
    mean = f"  the mean of {runs(chosen.runs)}: {' '.join(map(text.number, chosen.runs))}"
    rows = [[f"  {name}", text.exact(one)] for name, one in chosen.parameters.items()]
    lines = [head, *([mean] if chosen.runs else []), *text.table(["  parameter", "value"], rows)]
    if shown.sampler == "pbt":
        lines.append(f"the last of a schedule, which is: kubectl tune schedule {shown.name}")
    if shown.winner:
        lines.append(f"by fresh runs trial {shown.winner.trial} wins: kubectl tune winner {shown.name}")
    return lines


def best_json(shown: Experiment, chosen: Best) -> dict[str, Any]:
    first = shown.objectives[0][0] if shown.objectives else ""
    return {
        "experiment": shown.name,
        "namespace": shown.namespace,
        "trial": chosen.trial,
        "value": chosen.values.get(first),
        "metrics": dict(chosen.values),
        **({"runs": list(chosen.runs)} if chosen.runs else {}),
        "parameters": dict(chosen.parameters),
        "final": shown.ended,
    }


def arguments(parameters: Mapping[str, Any]) -> str:
    """``--lr=0.001 --layers=2``, quoted for a shell."""
    return " ".join(shlex.quote(f"--{name}={text.exact(one)}") for name, one in parameters.items())


def environment(parameters: Mapping[str, Any]) -> list[str]:
    """``lr=0.001``, one a line, quoted for a shell."""
    return [f"{name}={shlex.quote(text.exact(one))}" for name, one in parameters.items()]
