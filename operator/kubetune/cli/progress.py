"""The picture that `watch` draws, and its plain line where there is no terminal. Pure: a moment in, lines out."""

import dataclasses
from collections.abc import Sequence

from kubetune.cli import model, render, text
from kubetune.cli.model import Experiment, Trial

BAR = 32
CURVE = 32
ROWS = 8  # running trials shown at most


@dataclasses.dataclass(frozen=True)
class Moment:
    """All that one picture shows. ``note``: what is amiss with the picture itself (the gateway away, say)."""

    experiment: Experiment
    trials: Sequence[Trial]
    now: float
    note: str = ""


def picture(moment: Moment, width: int, plain: bool = False) -> list[str]:
    """The whole picture, no line wider than ``width``. ``plain``: ASCII only."""
    lines = [*_head(moment, plain), *_best(moment, plain), *_running(moment)]
    if moment.note:
        lines += ["", *(f"! {line}" for line in moment.note.splitlines())]
    return [text.cut(line, width) for line in lines]


def _head(moment: Moment, plain: bool) -> list[str]:
    shown = moment.experiment
    facts = [f"{shown.namespace}/{shown.name}", shown.state, render.objectives(shown), times(moment)]
    if shown.message and shown.state != "Running":
        facts.append(f"({shown.message})")
    bar = text.bar(shown.finished, shown.max_trials, BAR, plain)
    return ["  ".join(fact for fact in facts if fact), f"{bar}  " + " · ".join(_counts(shown))]


def _counts(shown: Experiment) -> list[str]:
    """``stage coarse, 1 of 2 (grid)``, ``19/40 finished``, ``11 complete, 8 pruned``, ``4 active (1 waiting)``."""
    counts = [f"stage {shown.stage}"] if shown.stage and not (shown.ended or shown.phase) else []
    counts.append(f"{shown.finished}/{shown.max_trials} finished")
    if shown.finished:
        counts.append(render.breakdown(shown))
    if not shown.ended:
        counts.append(f"{shown.active} active" + (f" ({shown.pending} waiting)" if shown.pending else ""))
        counts += [f"{shown.paused} paused"] if shown.paused else []
        counts += [render.phase(shown)] if shown.phase else []
    return counts


def times(moment: Moment) -> str:
    """``1m42s, about 1m50s to go``; after the end ``took 3m20s``."""
    shown = moment.experiment
    elapsed = render.elapsed(shown, moment.now)
    if elapsed is None:
        return ""
    if shown.completed is not None:
        return f"took {text.duration(elapsed)}"
    left = model.seconds_left(shown, moment.trials, moment.now)
    return text.duration(elapsed) + (f", about {text.age(left)} to go" if left is not None else "")


def _best(moment: Moment, plain: bool) -> list[str]:
    shown = moment.experiment
    lines = []
    if len(shown.front) > 1:
        lines.append(f"{len(shown.front)} on the Pareto front; the first: {render.best_line(shown)}")
    elif shown.best:
        curve = text.sparkline(model.best_history(moment.trials, shown.maximize), CURVE, plain)
        found = f"best {render.value(shown.best)} (trial {shown.best.trial})"
        lines.append("  ".join(part for part in (found, curve, text.parameters(shown.best.parameters)) if part))
    if shown.saved_steps:
        lines.append(f"pruning {render.saved(shown)}")
    if shown.lost_attempts:
        lines.append(f"{text.plural(shown.lost_attempts, 'attempt')} lost to the cluster and started again")
    if shown.failures:
        lines.append("failed of late: " + ", ".join(f"{count} × {reason}" for reason, count in shown.failures))
    return lines


def _running(moment: Moment) -> list[str]:
    running = [one for one in moment.trials if one.state == "RUNNING" and not one.paused]
    if not running or moment.experiment.ended:
        return []
    metric = moment.experiment.objectives[0][0] if moment.experiment.objectives else ""
    rows = [
        [
            str(one.number),
            text.number(one.last_step),
            text.number(one.last_metrics.get(metric)),
            text.duration(one.seconds(moment.now)) if one.started else "waits",
            text.parameters(one.parameters),
        ]
        for one in running[-ROWS:]
    ]
    lines = ["", *text.table(["TRIAL", "STEP", metric.upper(), "FOR", "PARAMETERS"], rows, [0, 1, 2, 3])]
    if len(running) > ROWS:
        lines.append(f"and {len(running) - ROWS} more")
    return lines


def line(moment: Moment) -> str:
    """The moment in one line, for a log."""
    shown = moment.experiment
    facts = [f"{shown.name} {shown.state}", *_counts(shown)]
    if shown.best:
        facts.append(f"best {render.value(shown.best)} (trial {shown.best.trial})")
    facts += [times(moment), f"! {moment.note.splitlines()[0]}" if moment.note else ""]
    return " · ".join(fact for fact in facts if fact)


def news(moment: Moment) -> tuple[object, ...]:
    """What of a moment is worth another plain line."""
    shown = moment.experiment
    best = shown.best.trial if shown.best else None
    return (shown.state, shown.stage, shown.finished, best, shown.phase, moment.note)


def ending(moment: Moment) -> list[str]:
    """The last words of `watch`."""
    shown = moment.experiment
    took = render.elapsed(shown, moment.now)
    lines = [f"{shown.state}: {shown.message}" if shown.message else shown.state]
    if took is not None and shown.completed:
        lines.append(f"{shown.finished} trials ({render.breakdown(shown)}) in {text.duration(took)}")
    if shown.saved_steps:
        lines.append(f"pruning {render.saved(shown)}")
    if len(shown.front) > 1:
        lines += ["", *render.front(shown)]
    elif shown.best and not shown.winner:
        lines += ["", "best: " + "\n".join(render.best(shown, shown.best))]
    return lines + _afterwards(shown)


def _afterwards(shown: Experiment) -> list[str]:
    """What came of the runs after the search, which takes the place of its best; and what an expert would say."""
    lines = []
    if shown.winner:
        lines += ["", f"best of the search: {render.best_line(shown)}", *render.winner(shown.winner)]
    facts = [("model", shown.model), ("test set", shown.test), *(("advice", advice) for advice in shown.advice)]
    told = [f"{name}: {what}" for name, what in facts if what]
    return lines + (["", *told] if told else [])
