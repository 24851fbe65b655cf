"""The normal distribution's logarithm, many at once: Optuna's own numbers, and those of the tables."""

import numpy as np
import pytest
from optuna.samplers._tpe import _truncnorm

from kubetune.engine.samplers import normal


def test_equals_optunas_one_by_one_but_for_rounding() -> None:
    points = np.concatenate([np.linspace(-60.0, 40.0, 4001), [-20.0, 6.0, -1e3, -1e8, 0.0, 5e-324]])
    theirs = np.array([_truncnorm._log_ndtr_single(point) for point in points.tolist()])
    np.testing.assert_allclose(normal.log_ndtr(points), theirs, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(
    ("point", "value"),  # to more digits than a float has, by continued fraction in decimals
    [
        (0.0, -0.6931471805599453094),
        (-1.0, -1.8410216450092635066),
        (-5.0, -15.064998393988725736),
        (-19.999, -203.89710611679702),
        (-40.0, -804.60844201375379),
        (5.0, -2.8665161296376310e-7),
    ],
)
def test_known_values(point: float, value: float) -> None:
    assert normal.log_ndtr(np.array([point]))[0] == pytest.approx(value, rel=1e-13, abs=1e-15)


def test_keeps_the_shape_of_what_it_is_given() -> None:
    points = np.linspace(-30, 10, 24).reshape(2, 3, 4)
    np.testing.assert_array_equal(normal.log_ndtr(points).ravel(), normal.log_ndtr(points.ravel()))


def test_optuna_uses_it_for_long_inputs_and_its_own_for_short_ones() -> None:
    """The name that is replaced is private: here it shows when a new Optuna calls it otherwise."""
    short, long = np.linspace(-9, 3, normal.LONG - 1), np.linspace(-9, 3, normal.LONG)
    one_by_one = [_truncnorm._log_ndtr_single(point) for point in short.tolist()]
    np.testing.assert_array_equal(_truncnorm._log_ndtr(short), one_by_one)
    np.testing.assert_array_equal(_truncnorm._log_ndtr(long), normal.log_ndtr(long))
    ends = np.array([1.0]), np.array([2.0])
    assert _truncnorm._log_gauss_mass(*ends) == pytest.approx(np.log(0.1359051219832778), rel=1e-12)
