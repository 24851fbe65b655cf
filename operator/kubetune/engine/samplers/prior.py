"""What people know beforehand: draws by priors, and Optuna's TPE with them in the place of its own flat prior.

A prior is one kernel of Optuna's Parzen estimator: the normal distribution cut to the range, on the parameter's scale,
the mass of a step gathered at the step. So what is drawn at random and what TPE believes before it has seen anything
are the same distribution.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
from optuna.samplers._tpe import probability_distributions as kernels
from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator, _ParzenEstimatorParameters

from kubetune.api.spec import Categorical, Parameter
from kubetune.storage import space

Floats = npt.NDArray[np.float64]
Kernel = Any  # kernels._BatchedDistributions, of one row


def kernel(parameter: Parameter) -> Kernel | None:
    """The parameter's prior. None: it has none."""
    if isinstance(parameter, Categorical):
        weights = np.array([parameter.weights])
        return kernels._BatchedCategoricalDistributions(weights / weights.sum()) if parameter.weights else None
    if parameter.prior is None:
        return None
    form: Any = space.distribution(parameter)  # whose range ends at its last step
    where = np.array([parameter.prior.mean]), np.array([parameter.prior.std]), form.low, form.high
    if form.step is None:
        return (kernels._BatchedTruncLogNormDistributions if form.log else kernels._BatchedTruncNormDistributions)(
            *where
        )
    in_steps = (
        kernels._BatchedDiscreteTruncLogNormDistributions
        if form.log
        else kernels._BatchedDiscreteTruncNormDistributions
    )
    return in_steps(*where, form.step)


def kernels_of(parameters: Mapping[str, Parameter]) -> dict[str, Kernel]:
    """The priors that there are."""
    found = {name: kernel(parameter) for name, parameter in parameters.items()}
    return {name: one for name, one in found.items() if one is not None}


class RandomSampler(optuna.samplers.RandomSampler):
    """Optuna's, but for parameters with a prior."""

    def __init__(self, priors: Mapping[str, Kernel], seed: int) -> None:
        super().__init__(seed)
        self._priors = priors

    def sample_independent(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        param_name: str,
        param_distribution: optuna.distributions.BaseDistribution,
    ) -> Any:
        prior = self._priors.get(param_name)
        if prior is None:
            return super().sample_independent(study, trial, param_name, param_distribution)
        alone = kernels._MixtureOfProductDistribution(np.ones(1), [prior])
        return param_distribution.to_external_repr(float(alone.sample(self._rng.rng, 1)[0, 0]))


class Beside(RandomSampler):
    """Some parameters are known; the others are drawn."""

    def __init__(self, known: Mapping[str, Any], priors: Mapping[str, Kernel], seed: int) -> None:
        super().__init__(priors, seed)
        self._known = dict(known)

    def sample_relative(self, *_: Any) -> dict[str, Any]:
        return self._known


class Estimator(_ParzenEstimator):
    """Optuna's, but for the kernel that stands for what is not known yet."""

    def __init__(self, priors: Mapping[str, Kernel], *arguments: Any) -> None:
        self._priors = priors
        super().__init__(*arguments)

    def _calculate_distributions(
        self,
        observations: Floats,
        param_name: str,
        search_space: optuna.distributions.BaseDistribution,
        parameters: _ParzenEstimatorParameters,
    ) -> Any:
        prior = self._priors.get(param_name)
        if isinstance(prior, kernels._BatchedCategoricalDistributions):
            return _informed(observations, prior.weights[0], parameters.prior_weight)
        made: Any = super()._calculate_distributions(observations, param_name, search_space, parameters)
        if prior is None:
            return made
        return made._replace(mu=np.append(made.mu[:-1], prior.mu), sigma=np.append(made.sigma[:-1], prior.sigma))


def _informed(observations: Floats, probable: Floats, weight: float) -> Any:
    """As Optuna has it, a choice seen once more in each kernel, but smoothed by what was probable before instead of
    evenly (Bergstra et al., NeurIPS 2011, section 4)."""
    rows = np.tile(probable * len(probable) * weight / (len(observations) + 1), (len(observations) + 1, 1))
    rows[np.arange(len(observations)), observations.astype(int)] += 1
    if not len(observations):
        rows = probable[None].copy()
    return kernels._BatchedCategoricalDistributions(rows / rows.sum(axis=1, keepdims=True))
