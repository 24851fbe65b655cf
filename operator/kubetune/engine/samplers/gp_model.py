"""A Gaussian process on the unit cube, and the log of the improvement to be expected at a point.

The kernel (Matérn 5/2, one length scale for each column), its priors and the acquisition function are those of
Optuna's GPSampler, which needs torch (docs/decisions/0090-gp.md). Its hyperparameters are fitted by scikit-learn;
values are to be minimised, and standardised by the caller.
"""

import dataclasses
import functools
import warnings
from typing import Any, Protocol

import numpy as np
import scipy.linalg
import scipy.optimize
import scipy.special
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Kernel, Matern, WhiteKernel

from kubetune.engine.columns import Floats

LEAST_NOISE = 1e-6  # variance, where that of the values is 1
_STEPS = 60  # of the search for hyperparameters
_SQRT5 = 5**0.5
_LOG_SQRT_2PI = 0.5 * np.log(2 * np.pi)


@dataclasses.dataclass(frozen=True)
class Hyper:
    """A kernel's parameters: variance, length scales, and the variance of the noise."""

    scale: float
    lengths: Floats
    noise: float


class _Regressor(GaussianProcessRegressor):  # type: ignore[misc]
    """Maximises the posterior of the hyperparameters rather than their likelihood."""

    def log_marginal_likelihood(
        self, theta: Floats | None = None, eval_gradient: bool = False, clone_kernel: bool = True
    ) -> Any:
        given = super().log_marginal_likelihood(theta, eval_gradient, clone_kernel)
        if theta is None:
            return given
        prior, slope = _log_prior(theta)
        return (given[0] + prior, given[1] + slope) if eval_gradient else given + prior


def _log_prior(theta: Floats) -> tuple[float, Floats]:
    """Optuna's (optuna/_gp/prior.py), at the logs of scale, lengths and noise; its gradient."""
    scale, inverse = np.exp(theta[0]), np.exp(-2 * theta[1:-1])
    value = float(theta[0] - scale - (0.1 / inverse + 0.1 * inverse).sum())
    slope = np.zeros_like(theta)
    slope[0] = 1 - scale
    slope[1:-1] = 0.2 * inverse - 0.2 / inverse
    noise = np.exp(theta[-1])
    slope[-1] = 0.1 - 30 * noise
    return value + float(0.1 * theta[-1] - 30 * noise), slope


def kernel(hyper: Hyper) -> Kernel:
    """As scikit-learn has it."""
    return ConstantKernel(hyper.scale, (1e-3, 1e3)) * Matern(hyper.lengths, (1e-2, 1e2), nu=2.5) + WhiteKernel(
        hyper.noise, (LEAST_NOISE, 1.0)
    )


def fit(points: Floats, values: Floats) -> Hyper:
    """The most probable hyperparameters, found from one start: the same for the same points and values."""
    begin = Hyper(1.0, np.ones(points.shape[1]), 1e-2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # at a bound: an irrelevant parameter, or no noise
        fitted = _Regressor(kernel(begin), alpha=0.0, optimizer=_minimised).fit(points, values)
    theta = fitted.kernel_.theta
    return Hyper(float(np.exp(theta[0])), np.exp(theta[1:-1]), float(np.exp(theta[-1])))


def _minimised(objective: Any, begin: Floats, bounds: Floats) -> tuple[Floats, float]:
    found = scipy.optimize.minimize(
        objective, begin, method="L-BFGS-B", jac=True, bounds=bounds, options={"maxiter": _STEPS}
    )
    return found.x, found.fun


class Posterior:
    """What the points and values say of any other point."""

    def __init__(self, hyper: Hyper, points: Floats, values: Floats) -> None:
        self._hyper = hyper
        self._points = points / hyper.lengths
        covariance = self._covariance(self._points) + np.eye(len(points)) * hyper.noise
        self._factor = scipy.linalg.cholesky(covariance, lower=True)
        self._weights = scipy.linalg.cho_solve((self._factor, True), values)

    def _covariance(self, points: Floats) -> Floats:
        """Between the observed points and these, both in lengths."""
        near = _SQRT5 * np.sqrt(_square_distances(self._points, points))
        return np.asarray(self._hyper.scale * (1 + near + near**2 / 3) * np.exp(-near))

    def at(self, points: Floats) -> tuple[Floats, Floats]:
        """Means and standard deviations, of the function without noise."""
        covariance = self._covariance(points / self._hyper.lengths)
        known = scipy.linalg.solve_triangular(self._factor, covariance, lower=True)
        variance = np.maximum(self._hyper.scale - (known**2).sum(axis=0), 1e-12)
        return covariance.T @ self._weights, np.sqrt(variance)

    def slopes(self, point: Floats) -> tuple[float, float, Floats, Floats]:
        """Mean and standard deviation at one point, and the gradient of each."""
        away = point / self._hyper.lengths - self._points
        near = _SQRT5 * np.sqrt((away**2).sum(axis=1))
        falling = self._hyper.scale * np.exp(-near)
        covariance = falling * (1 + near + near**2 / 3)
        slope = (-5 / 3) * (falling * (1 + near))[:, None] * away / self._hyper.lengths
        solved = scipy.linalg.cho_solve((self._factor, True), covariance)
        deviation = np.sqrt(max(self._hyper.scale - float(covariance @ solved), 1e-12))
        mean_slope = slope.T @ self._weights
        return float(covariance @ self._weights), float(deviation), mean_slope, -(slope.T @ solved) / deviation


def _square_distances(a: Floats, b: Floats) -> Floats:
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)
    return np.asarray(np.maximum(squares - 2 * (a @ b.T), 0.0))


def log_h(z: Floats) -> Floats:
    """log(φ(z) + z Φ(z)), of which the expected improvement is made: Ament et al., NeurIPS 2023, equation 9."""
    z = np.asarray(z, dtype=np.float64)
    out = np.empty_like(z)
    far = z < -1
    near = z[~far]
    out[~far] = np.log(np.exp(-0.5 * near**2 - _LOG_SQRT_2PI) + near * scipy.special.ndtr(near))
    left = z[far]
    upper = left * np.sqrt(np.pi / 2) * scipy.special.erfcx(-left * np.sqrt(0.5))
    out[far] = -0.5 * left**2 - _LOG_SQRT_2PI + np.log1p(np.maximum(upper, -1 + 1e-300))
    return out


class Surface(Protocol):
    """Something to be as high as possible."""

    def at(self, points: Floats) -> Floats: ...

    def slope(self, point: Floats) -> tuple[float, Floats]:
        """The height at one point, and its gradient."""


@dataclasses.dataclass(frozen=True)
class Promise:
    """How good a point may be, at most: ``width`` standard deviations below what is expected, turned upside down."""

    posterior: Posterior
    width: float

    def at(self, points: Floats) -> Floats:
        mean, deviation = self.posterior.at(points)
        return np.asarray(self.width * deviation - mean)

    def slope(self, point: Floats) -> tuple[float, Floats]:
        mean, deviation, mean_slope, deviation_slope = self.posterior.slopes(point)
        return self.width * deviation - mean, self.width * deviation_slope - mean_slope


@dataclasses.dataclass(frozen=True)
class Improvement:
    """log of the expected improvement on ``best``."""

    posterior: Posterior
    best: float

    def at(self, points: Floats) -> Floats:
        mean, deviation = self.posterior.at(points)
        return np.asarray(log_h((self.best - mean) / deviation) + np.log(deviation))

    def slope(self, point: Floats) -> tuple[float, Floats]:
        """At one point, and its gradient."""
        mean, deviation, mean_slope, deviation_slope = self.posterior.slopes(point)
        z = (self.best - mean) / deviation
        log = float(log_h(np.array([z]))[0])
        steep = float(np.exp(scipy.special.log_ndtr(z) - log))
        z_slope = -(mean_slope + z * deviation_slope) / deviation
        return log + float(np.log(deviation)), steep * z_slope + deviation_slope / deviation


def improvement(posterior: Posterior, points: Floats) -> Improvement:
    """On what the model holds the best of these to be, the plug-in of Picheny, Wagner and Ginsbourger (Structural and
    Multidisciplinary Optimization 48, 2013): the lowest value itself may be luck, and then nothing seems to improve on
    it but what is unknown. Without noise the two are the same."""
    return Improvement(posterior, float(posterior.at(points)[0].min()))


def climb(surface: Surface, begin: Floats, moving: Any) -> Floats:
    """The point above ``begin`` when the places ``moving`` may change."""

    def below(moved: Floats, point: Floats) -> tuple[float, Floats]:
        point[moving] = moved
        value, slope = surface.slope(point)
        return -value, -slope[moving]

    found = scipy.optimize.minimize(
        functools.partial(below, point=begin.copy()),
        begin[moving],
        method="L-BFGS-B",
        jac=True,
        bounds=[(0.0, 1.0)] * len(moving),
        options={"maxiter": 40},
    )
    point = begin.copy()
    point[moving] = found.x
    return point
