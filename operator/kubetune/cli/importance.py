"""`kubectl tune importance`: which parameters mattered, from every complete trial."""

from collections.abc import Mapping, Sequence
from typing import Any

from kubetune.api import spec
from kubetune.cli import explain, text
from kubetune.cli.model import Trial

LEAST = 5  # complete trials
BAR = 40  # characters


def shares(
    resource: Mapping[str, Any], trials: Sequence[Trial], evaluator: str, metric: str | None = None
) -> dict[str, float]:
    """The importance of each parameter, the largest first; they sum to 1.

    Raises:
        Problem: too few trials, no such metric, an evaluator that needs what is not installed.
    """
    import numpy as np  # Optuna takes a second to load: only this command pays for it

    from kubetune.engine.columns import Columns
    from kubetune.engine.insight.importance import importances

    try:
        experiment = spec.parse(resource)
    except spec.InvalidSpec as error:
        raise explain.Problem(f"the experiment's spec is not valid: {error}") from error
    done = [one for one in trials if one.values is not None]
    if len(done) < LEAST:
        raise explain.Problem(f"{text.plural(len(done), 'trial')} complete so far: it takes {LEAST} to say anything")
    columns, objective = Columns(experiment.parameters), _objective(experiment, metric, evaluator)
    params = np.array([columns.encode(one.parameters) for one in done])
    try:
        return importances(experiment, params, np.array([one.values for one in done]), evaluator, objective)
    except ImportError as error:
        raise explain.Problem(
            f"{evaluator} needs scikit-learn where kubectl tune runs: pip install scikit-learn; ped-anova does without"
        ) from error


def _objective(experiment: spec.ExperimentSpec, metric: str | None, evaluator: str) -> int | None:
    metrics = [objective.metric for objective in experiment.objectives]
    if metric is None:
        if len(metrics) > 1 and evaluator != "ped-anova":
            raise explain.Problem(f"{evaluator} looks at one objective: --metric {' or '.join(metrics)}")
        return None
    if metric not in metrics:
        raise explain.Problem(f"{metric} is no objective; there are {', '.join(metrics)}")
    return metrics.index(metric)


_MEANING = {
    "ped-anova": "how much each decided whether a trial is among the best tenth (PED-ANOVA)",
    "fanova": "share of the variance over the whole ranges that each explains alone (fANOVA)",
    "mdi": "share of the impurity that a random forest's splits by each take away (MDI)",
}


def lines(found: Mapping[str, float], trials: int, evaluator: str) -> list[str]:
    """A bar for each parameter."""
    most = max(found.values(), default=0.0) or 1.0
    rows = [[name, text.percent(share), "█" * round(BAR * share / most)] for name, share in found.items()]
    head = f"{_MEANING[evaluator]}, of {text.plural(trials, 'complete trial')}"
    return [head, *text.table(["PARAMETER", "SHARE", ""], rows, [1])]
