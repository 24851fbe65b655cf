"""Real small trainings on the data sets that scikit-learn brings: each evaluation is one, nothing is modelled."""

import functools
import random
from typing import Any

import numpy as np
from sklearn import (
    datasets,
    ensemble,
    linear_model,
    metrics,
    model_selection,
    neighbors,
    neural_network,
    pipeline,
    preprocessing,
    svm,
    tree,
)

from dev.bench.search.problem import Outcome, Problem
from kubetune.api.spec import Categorical, Double, Int, Parameter, Params

TRIALS = 50
FOLDS = 3

SVR: dict[str, Parameter] = {
    "c": Double(0.01, 1e4, log=True),
    "epsilon": Double(0.01, 100.0, log=True),
    "gamma": Double(1e-5, 10.0, log=True),
}
BOOSTING: dict[str, Parameter] = {
    "rate": Double(0.005, 1.0, log=True),
    "rounds": Int(5, 60),
    "depth": Int(1, 5),
    "subsample": Double(0.3, 1.0),
    "leaf": Int(1, 40, log=True),
}
MODELS: dict[str, Parameter] = {
    "model": Categorical(("linear", "neighbours", "tree", "svm")),
    "inverse": Double(1e-4, 1e4, log=True, when=(("model", ("linear", "svm")),)),
    "gamma": Double(1e-5, 10.0, log=True, when=(("model", ("svm",)),)),
    "count": Int(1, 100, log=True, when=(("model", ("neighbours",)),)),
    "weights": Categorical(("uniform", "distance"), when=(("model", ("neighbours",)),)),
    "depth": Int(1, 10, when=(("model", ("tree",)),)),
    "leaf": Int(1, 50, log=True, when=(("model", ("tree",)),)),
}
NETWORK: dict[str, Parameter] = {
    "rate": Double(1e-4, 1.0, log=True),
    "alpha": Double(1e-6, 10.0, log=True),
    "width": Int(2, 64, log=True),
    "activation": Categorical(("relu", "tanh", "logistic")),
    "batch": Categorical((8, 16, 32, 64), ordered=True),
    "epochs": Int(2, 30),
}


@functools.cache
def _data(name: str) -> tuple[Any, Any]:
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    return x, y


def _scaled(model: Any) -> Any:
    return pipeline.make_pipeline(preprocessing.StandardScaler(), model)


def _error(model: Any, data: str) -> float:
    """The mean squared error over the variance of the target, over folds."""
    x, y = _data(data)
    folds = model_selection.KFold(FOLDS, shuffle=True, random_state=0)
    predicted = model_selection.cross_val_predict(model, x, y, cv=folds)
    return float(np.mean((predicted - y) ** 2) / np.var(y))


def _loss(model: Any, data: str) -> float:
    """The logarithmic loss over folds; what is not a number becomes the loss of somebody who knows nothing."""
    x, y = _data(data)
    folds = model_selection.StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    try:
        chances = model_selection.cross_val_predict(model, x, y, cv=folds, method="predict_proba")
        loss = float(metrics.log_loss(y, np.clip(chances, 1e-6, 1 - 1e-6)))
    except ValueError:  # it diverged
        return float(np.log(len(set(y.tolist()))))
    return loss


def svr(params: Params, noise: random.Random) -> Outcome:
    model = svm.SVR(C=params["c"], epsilon=params["epsilon"], gamma=params["gamma"], max_iter=20_000)
    return Outcome((_error(_scaled(model), "diabetes"),))


def boosting(params: Params, noise: random.Random) -> Outcome:
    model = ensemble.GradientBoostingRegressor(
        learning_rate=params["rate"],
        n_estimators=params["rounds"],
        max_depth=params["depth"],
        subsample=params["subsample"],
        min_samples_leaf=params["leaf"],
        random_state=0,
    )
    return Outcome((_error(model, "diabetes"),))


def models(params: Params, noise: random.Random) -> Outcome:
    kind = params["model"]
    if kind == "linear":
        model = _scaled(linear_model.LogisticRegression(C=params["inverse"], max_iter=200))
    elif kind == "neighbours":
        model = _scaled(neighbors.KNeighborsClassifier(params["count"], weights=params["weights"]))
    elif kind == "tree":
        model = tree.DecisionTreeClassifier(max_depth=params["depth"], min_samples_leaf=params["leaf"], random_state=0)
    else:
        model = _scaled(_Svm(params["inverse"], params["gamma"]))
    return Outcome((_loss(model, "breast_cancer"),))


class _Svm(svm.SVC):  # type: ignore[misc]
    """With chances from the logistic function of its decisions: Platt's five more fits are not needed to rank."""

    def __init__(self, inverse: Any = 1.0, gamma: Any = 1.0) -> None:
        super().__init__(C=inverse, gamma=gamma, max_iter=20_000)
        self.inverse = inverse

    def predict_proba(self, x: Any) -> Any:
        chance = 1 / (1 + np.exp(-2 * self.decision_function(x)))
        return np.column_stack([1 - chance, chance])


def network(params: Params, noise: random.Random) -> Outcome:
    model = neural_network.MLPClassifier(
        (params["width"],),
        activation=params["activation"],
        learning_rate_init=params["rate"],
        alpha=params["alpha"],
        batch_size=params["batch"],
        max_iter=params["epochs"],
        random_state=0,
    )
    return Outcome((_loss(_scaled(model), "wine"),))


def trainings() -> list[Problem]:
    return [
        Problem("diabetes-svr", "training", SVR, svr, TRIALS, quick=True),
        Problem("diabetes-boosting", "training", BOOSTING, boosting, TRIALS),
        Problem("cancer-models", "training", MODELS, models, TRIALS, quick=True),
        Problem("wine-network", "training", NETWORK, network, TRIALS),
    ]
