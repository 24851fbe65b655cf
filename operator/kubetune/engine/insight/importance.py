"""How much each parameter decided whether a trial is among the best tenth: PED-ANOVA, by Optuna's evaluator.

Watanabe, Bansal and Hutter, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary Subspaces",
IJCAI 2023, arXiv 2304.10255. With several objectives: the best by non-domination rank, as Optuna does.

On demand also fANOVA (Hutter, Hoos and Leyton-Brown, ICML 2014) and mean decrease impurity: shares of the variance
over the whole range, by random forests, which need scikit-learn and take a thousand times as long.
"""

import functools
import math
from collections.abc import Callable, Mapping

import numpy as np
import optuna

from kubetune.api.spec import ExperimentSpec
from kubetune.engine.columns import Columns, Floats
from kubetune.storage.space import distributions_of

optuna.logging.set_verbosity(optuna.logging.WARNING)  # not a line for each study made in memory

BEST = 0.1  # of the trials, for PED-ANOVA
# Named when they are used: optuna.importance loads scikit-learn where it is installed.
EVALUATORS: Mapping[str, "Callable[[], optuna.importance.BaseImportanceEvaluator]"] = {
    "ped-anova": lambda: optuna.importance.PedAnovaImportanceEvaluator(),
    "fanova": lambda: optuna.importance.FanovaImportanceEvaluator(seed=0),
    "mdi": lambda: optuna.importance.MeanDecreaseImpurityImportanceEvaluator(seed=0),
}


def importances(
    spec: ExperimentSpec, params: Floats, values: Floats, evaluator: str = "ped-anova", objective: int | None = None
) -> dict[str, float]:
    """Shares that sum to 1, the largest first; empty where no tenth of the trials is better than the rest.

    Args:
        params: of COMPLETE trials, (trials, parameters), as `Columns` has them; nan: not set.
        values: (trials, objectives).
        evaluator: one of `EVALUATORS`.
        objective: of several, the one that is asked about; None: the Pareto front (ped-anova only).

    Raises:
        ImportError: scikit-learn is needed and not there.
    """
    signs = [-1.0 if objective.direction == "maximize" else 1.0 for objective in spec.objectives]
    losses = values * signs
    losses = losses if objective is None else losses[:, [objective]]
    if evaluator == "ped-anova" and losses.shape[1] == 1 and _tied(losses[:, 0]):
        return {}
    study = _study(spec, params, losses)
    return dict(optuna.importance.get_param_importances(study, evaluator=EVALUATORS[evaluator]()))


def _tied(losses: Floats) -> bool:
    """No tenth is better than the others."""
    return len(losses) == 0 or bool(np.sort(losses)[math.ceil(BEST * len(losses)) - 1] == losses.max())


def _study(spec: ExperimentSpec, params: Floats, losses: Floats) -> optuna.Study:
    columns, forms = Columns(spec.parameters), distributions_of(spec.parameters)
    make = functools.partial(optuna.trial.create_trial, state=optuna.trial.TrialState.COMPLETE)
    study = optuna.create_study(directions=["minimize"] * losses.shape[1])
    study.add_trials(
        make(params=given, distributions={name: forms[name] for name in given}, values=row)
        for given, row in zip(map(columns.decode, params.tolist()), losses.tolist(), strict=True)
    )
    return study
