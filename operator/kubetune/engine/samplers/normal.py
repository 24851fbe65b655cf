"""The logarithm of the normal distribution function, many at once.

Optuna evaluates it one number at a time, in Python: with integers or steps among the parameters that is most of what a
suggestion takes. Its short inputs (what is drawn) still go that way, so that draws are Optuna's to the last bit; long
ones (what candidates are weighed by) differ from it by rounding alone. tests/unit/test_sampler_normal.py holds both.
"""

import math

import numpy as np
import numpy.typing as npt
from optuna.samplers._tpe import _truncnorm

Floats = npt.NDArray[np.float64]

LONG = 400  # from this many on, all at once; draws are 24 by the number of numeric parameters
_LOG_SQRT_TAU = 0.5 * math.log(2 * math.pi)
_scalar = _truncnorm._log_ndtr


def install() -> None:
    """Let Optuna's TPE use it, in this process."""
    _truncnorm._log_ndtr = _either


def _either(a: Floats) -> Floats:
    return log_ndtr(a) if np.size(a) >= LONG else np.asarray(_scalar(a), dtype=np.float64)


def log_ndtr(a: Floats) -> Floats:
    """log Φ(a), to about 1e-14 of its size."""
    shape, a = a.shape, np.ravel(a).astype(np.float64)
    out = np.empty_like(a)
    far = a <= -20
    out[far] = _far(a[far])
    near = ~far
    tail = np.array([math.erfc(x) for x in (a[near] * -math.sqrt(0.5)).tolist()])  # 2 Φ(a)
    right = a[near] > 6
    upper = np.array([math.erfc(x) for x in (a[near][right] * math.sqrt(0.5)).tolist()])
    logs = np.log(0.5 * tail)
    logs[right] = -0.5 * upper  # log(1 - x) = -x to within 1e-9 of it; as Optuna has it
    out[near] = logs
    return out.reshape(shape)


def _far(a: Floats) -> Floats:
    """The asymptotic series of the left tail (Abramowitz and Stegun 26.2.12), from -20 on to full precision."""
    inverse = 1.0 / (a * a)
    total = np.ones_like(a)
    term = np.ones_like(a)
    for odd in range(1, 18, 2):
        term = term * (-odd * inverse)
        total += term
    return -0.5 * a * a - np.log(-a) - _LOG_SQRT_TAU + np.log(total)
