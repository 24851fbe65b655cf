"""`kubectl tune importance`: which parameters mattered, from every complete trial."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from kubetune.api import spec
from kubetune.cli import explain, text
from kubetune.cli.model import Trial

LEAST = 5  # complete trials
BAR = 24  # characters
PAIRS = 10  # shown
SMALL = 0.03  # less is the forest's noise


@dataclasses.dataclass(frozen=True)
class Found:
    """``shares``: of each parameter, the largest first; they sum to 1. ``effects``: what changing it did, in words.
    ``interactions``: pairs and their shares of the variance; None: not asked for."""

    shares: Mapping[str, float]
    effects: Mapping[str, str]
    interactions: Sequence[tuple[str, str, float]] | None = None


def find(
    resource: Mapping[str, Any],
    trials: Sequence[Trial],
    evaluator: str,
    metric: str | None = None,
    interactions: bool = False,
) -> Found:
    """What all complete trials say.

    Raises:
        Problem: too few trials, no such metric, an evaluator that needs what is not installed.
    """
    import numpy as np  # Optuna takes a second to load: only this command pays for it

    from kubetune.engine.columns import Columns
    from kubetune.engine.insight import effects, importance
    from kubetune.engine.insight.interactions import interactions as pairs_of

    try:
        experiment = spec.parse(resource)
    except spec.InvalidSpec as error:
        raise explain.Problem(f"the experiment's spec is not valid: {error}") from error
    done = [one for one in trials if one.values is not None]
    if len(done) < LEAST:
        raise explain.Problem(f"{text.plural(len(done), 'trial')} complete so far: it takes {LEAST} to say anything")
    columns, objective = Columns(experiment.parameters), _objective(experiment, metric, evaluator, interactions)
    params = np.array([columns.encode(one.parameters) for one in done])
    values = np.array([one.values for one in done])
    alone = objective if len(experiment.objectives) > 1 else 0  # None: they are asked about together
    try:
        shares = importance.importances(experiment, params, values, evaluator, objective)
        if alone is None:
            return Found(shares, {})
        one = dataclasses.replace(experiment, objectives=(experiment.objectives[alone],))
        pairs = pairs_of(one, params, values[:, alone]) if interactions else None
        return Found(shares, effects.told(one, params, values[:, [alone]]), pairs)
    except ImportError as error:
        needs = "--interactions" if interactions else evaluator
        raise explain.Problem(
            f"{needs} needs scikit-learn where kubectl tune runs: pip install scikit-learn; ped-anova does without"
        ) from error


def as_json(found: Found) -> Mapping[str, Any]:
    """The shares; with interactions everything."""
    if found.interactions is None:
        return found.shares
    pairs = [{"parameters": [one, other], "share": share} for one, other, share in found.interactions]
    return {"importances": found.shares, "effects": found.effects, "interactions": pairs}


def _objective(experiment: spec.ExperimentSpec, metric: str | None, evaluator: str, interactions: bool) -> int | None:
    metrics = [objective.metric for objective in experiment.objectives]
    if metric is None:
        one = "--interactions" if interactions else evaluator
        if len(metrics) > 1 and one != "ped-anova":
            raise explain.Problem(f"{one} looks at one objective: --metric {' or '.join(metrics)}")
        return None
    if metric not in metrics:
        raise explain.Problem(f"{metric} is no objective; there are {', '.join(metrics)}")
    return metrics.index(metric)


_MEANING = {
    "ped-anova": "how much each decided whether a trial is among the best tenth (PED-ANOVA)",
    "fanova": "share of the variance over the whole ranges that each explains alone (fANOVA)",
    "mdi": "share of the impurity that a random forest's splits by each take away (MDI)",
}


def lines(found: Found, trials: int, evaluator: str) -> list[str]:
    """A bar for each parameter, and what changing it did; then pairs, if they were asked for."""
    most = max(found.shares.values(), default=0.0) or 1.0
    rows = [
        [name, text.percent(share), "█" * round(BAR * share / most), found.effects.get(name, "")]
        for name, share in found.shares.items()
    ]
    head = f"{_MEANING[evaluator]}, of {text.plural(trials, 'complete trial')}"
    table = text.table(["PARAMETER", "SHARE", "", "FROM WORST TO BEST"], rows, [1])
    return [head, *table, *(_pairs(found.interactions) if found.interactions is not None else [])]


def _pairs(found: Sequence[tuple[str, str, float]]) -> list[str]:
    told = [(f"{one} × {other}", share) for one, other, share in found[:PAIRS] if share >= SMALL]
    if not told:
        return ["", f"no two parameters explain {text.percent(SMALL)} of the variance beyond what each explains alone"]
    rows = [[pair, text.percent(share), "█" * round(BAR * share)] for pair, share in told]
    head = "share of the variance that two explain only together (fANOVA)"
    return ["", head, *text.table(["PAIR", "SHARE", ""], rows, [1])]
