"""Twelve functions that optimisers are commonly compared on, each with its box and its least value."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

_H3_A = np.array([[3.0, 10, 30], [0.1, 10, 35], [3.0, 10, 30], [0.1, 10, 35]])
_H3_P = 1e-4 * np.array([[3689, 1170, 2673], [4699, 4387, 7470], [1091, 8732, 5547], [381, 5743, 8828]])
_H6_A = np.array(
    [
        [10, 3, 17, 3.5, 1.7, 8],
        [0.05, 10, 17, 0.1, 8, 14],
        [3, 3.5, 1.7, 10, 17, 8],
        [17, 8, 0.05, 10, 0.1, 14],
    ]
)
_H6_P = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)
_WEIGHTS = np.array([1.0, 1.2, 3.0, 3.2])


@dataclasses.dataclass(frozen=True)
class Function:
    """To be minimised on the box."""

    name: str
    box: tuple[tuple[float, float], ...]
    least: float
    value: Callable[[Sequence[float]], float]


def _branin(x: Sequence[float]) -> float:
    a, b = x
    return float(
        (b - 5.1 / (4 * math.pi**2) * a * a + 5 / math.pi * a - 6) ** 2
        + 10 * (1 - 1 / (8 * math.pi)) * math.cos(a)
        + 10
    )


def _camel(x: Sequence[float]) -> float:
    a, b = x
    return (4 - 2.1 * a**2 + a**4 / 3) * a**2 + a * b + (4 * b**2 - 4) * b**2


def _goldstein_price(x: Sequence[float]) -> float:
    """Its logarithm: the function itself is nothing but its corners."""
    a, b = x
    one = 1 + (a + b + 1) ** 2 * (19 - 14 * a + 3 * a**2 - 14 * b + 6 * a * b + 3 * b**2)
    two = 30 + (2 * a - 3 * b) ** 2 * (18 - 32 * a + 12 * a**2 + 48 * b - 36 * a * b + 27 * b**2)
    return math.log(one * two)


def _hartmann3(x: Sequence[float]) -> float:
    return -float(_WEIGHTS @ np.exp(-(_H3_A * (np.asarray(x) - _H3_P) ** 2).sum(axis=1)))


def _hartmann6(x: Sequence[float]) -> float:
    return -float(_WEIGHTS @ np.exp(-(_H6_A * (np.asarray(x) - _H6_P) ** 2).sum(axis=1)))


def _rosenbrock(x: Sequence[float]) -> float:
    return sum(100 * (b - a * a) ** 2 + (1 - a) ** 2 for a, b in itertools.pairwise(x))


def _ackley(x: Sequence[float]) -> float:
    square = math.fsum(a * a for a in x) / len(x)
    waves = math.fsum(math.cos(2 * math.pi * a) for a in x) / len(x)
    return -20 * math.exp(-0.2 * math.sqrt(square)) - math.exp(waves) + 20 + math.e


def _rastrigin(x: Sequence[float]) -> float:
    return math.fsum(a * a - 10 * math.cos(2 * math.pi * a) + 10 for a in x)


def _levy(x: Sequence[float]) -> float:
    w = [1 + (a - 1) / 4 for a in x]
    inner = math.fsum((a - 1) ** 2 * (1 + 10 * math.sin(math.pi * a + 1) ** 2) for a in w[:-1])
    return math.sin(math.pi * w[0]) ** 2 + inner + (w[-1] - 1) ** 2 * (1 + math.sin(2 * math.pi * w[-1]) ** 2)


def _griewank(x: Sequence[float]) -> float:
    waves = math.prod(math.cos(a / math.sqrt(place)) for place, a in enumerate(x, start=1))
    return math.fsum(a * a for a in x) / 4000 - waves + 1


def _styblinski_tang(x: Sequence[float]) -> float:
    return math.fsum(a**4 - 16 * a**2 + 5 * a for a in x) / 2


def _michalewicz(x: Sequence[float]) -> float:
    return -math.fsum(math.sin(a) * math.sin(place * a * a / math.pi) ** 20 for place, a in enumerate(x, start=1))


FUNCTIONS = (
    Function("branin", ((-5, 10), (0, 15)), 0.397887, _branin),
    Function("camel", ((-3, 3), (-2, 2)), -1.031628, _camel),
    Function("goldstein-price", ((-2, 2),) * 2, math.log(3), _goldstein_price),
    Function("hartmann3", ((0, 1),) * 3, -3.86278, _hartmann3),
    Function("hartmann6", ((0, 1),) * 6, -3.32237, _hartmann6),
    Function("rosenbrock", ((-2, 2),) * 4, 0.0, _rosenbrock),
    Function("ackley", ((-15, 30),) * 5, 0.0, _ackley),
    Function("rastrigin", ((-4, 5.12),) * 4, 0.0, _rastrigin),
    Function("levy", ((-10, 8),) * 5, 0.0, _levy),
    Function("griewank", ((-50, 70),) * 6, 0.0, _griewank),
    Function("styblinski-tang", ((-5, 5),) * 5, -39.166166 * 5, _styblinski_tang),
    Function("michalewicz", ((0, math.pi),) * 5, -4.687658, _michalewicz),
)
