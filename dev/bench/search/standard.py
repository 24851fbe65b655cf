"""Functions that optimisers are commonly compared on, with what is known of their best values."""

import math
import random
from collections.abc import Callable, Sequence
from typing import TypeAlias

from dev.bench.functions import FUNCTIONS, Function
from dev.bench.search.problem import Outcome, Problem, doubles, vector
from kubetune.api.parameters import When
from kubetune.api.spec import Categorical, Double, Int, Parameter, Params, ParamValue

Values: TypeAlias = Callable[[Sequence[float]], tuple[float, ...]]

TRIALS = 100
MULTI_TRIALS = 150
NOISE = {"branin": 3.0, "hartmann6": 0.3, "ackley": 1.0, "rosenbrock": 10.0}  # standard deviations
QUICK = {"hartmann6", "rastrigin"}
BY_NAME = {function.name: function for function in FUNCTIONS}


def single() -> list[Problem]:
    """The twelve of dev/bench/functions.py, on boxes, without noise."""
    return [_single(function) for function in FUNCTIONS]


def _single(function: Function) -> Problem:
    def evaluate(params: Params, noise: random.Random) -> Outcome:
        return Outcome((function.value(vector(params)),))

    box = doubles(function.box)
    quick = function.name in QUICK
    return Problem(function.name, "single", box, evaluate, TRIALS, least=function.least, quick=quick)


def noisy() -> list[Problem]:
    """Four of them with normal noise. What counts is the exact value of the trial whose reported value is the best."""
    return [_noisy(BY_NAME[name], spread) for name, spread in NOISE.items()]


def _noisy(function: Function, spread: float) -> Problem:
    def evaluate(params: Params, noise: random.Random) -> Outcome:
        exact = function.value(vector(params))
        return Outcome((exact + noise.gauss(0.0, spread),), exact=exact)

    name, box = f"{function.name}-noise", doubles(function.box)
    quick = function.name in QUICK
    return Problem(name, "noisy", box, evaluate, TRIALS, least=function.least, quick=quick)


# ---- several objectives: Zitzler, Deb and Thiele (2000); Deb, Thiele, Laumanns and Zitzler (2002)

ZDT_CORNER = (1.1, 10.0)  # no point of ZDT1 and ZDT2 is worse in the second
DTLZ_CORNER = (2.5, 2.5, 2.5)
# Where ZDT3's front is: Zitzler, Deb and Thiele; the front is 1 - sqrt(f) - f sin(10 pi f) there.
ZDT3_FRONT = (
    (0.0, 0.0830015349),
    (0.1822287280, 0.2577623634),
    (0.4093136748, 0.4538821041),
    (0.6183967944, 0.6525117038),
    (0.8233317983, 0.8518328654),
)


def _spread(x: Sequence[float]) -> float:
    return 1 + 9 * math.fsum(x[1:]) / (len(x) - 1)


def zdt1(x: Sequence[float]) -> tuple[float, float]:
    g = _spread(x)
    return x[0], g * (1 - math.sqrt(x[0] / g))


def zdt2(x: Sequence[float]) -> tuple[float, float]:
    g = _spread(x)
    return x[0], g * (1 - (x[0] / g) ** 2)


def zdt3(x: Sequence[float]) -> tuple[float, float]:
    g = _spread(x)
    return x[0], g * (1 - math.sqrt(x[0] / g) - x[0] / g * math.sin(10 * math.pi * x[0]))


def dtlz2(x: Sequence[float]) -> tuple[float, float, float]:
    g = math.fsum((a - 0.5) ** 2 for a in x[2:])
    one, other = (a * math.pi / 2 for a in x[:2])
    near = math.cos(one) * math.cos(other), math.cos(one) * math.sin(other), math.sin(one)
    return (1 + g) * near[0], (1 + g) * near[1], (1 + g) * near[2]


def zdt_volumes() -> tuple[float, float, float]:
    """The hypervolumes of the three fronts below `ZDT_CORNER`; the third by quadrature."""
    wide, high = ZDT_CORNER
    beyond = (wide - 1) * high
    return high - 1 / 3 + beyond, high - 2 / 3 + beyond, _zdt3_volume()


def _zdt3_volume(steps: int = 20_000) -> float:
    """Between the front's parts the last height stays."""
    wide, high = ZDT_CORNER
    total = height = 0.0
    ends = [*(begin for begin, _ in ZDT3_FRONT[1:]), wide]
    for (begin, end), following in zip(ZDT3_FRONT, ends, strict=True):
        width = (end - begin) / steps
        for step in range(steps):
            total += (high - zdt3((begin + (step + 0.5) * width, 0.0))[1]) * width
        height = high - zdt3((end, 0.0))[1]
        total += height * (following - end)
    return total


def multi() -> list[Problem]:
    one, two, three = zdt_volumes()
    cube = DTLZ_CORNER[0] ** 3
    return [
        _multi("zdt1", zdt1, 6, ZDT_CORNER, one, quick=True),
        _multi("zdt2", zdt2, 6, ZDT_CORNER, two),
        _multi("zdt3", zdt3, 6, ZDT_CORNER, three),
        _multi("dtlz2", dtlz2, 6, DTLZ_CORNER, cube - math.pi / 6, quick=True),  # all but an eighth of the unit ball
    ]


def _multi(
    name: str, function: Values, width: int, corner: tuple[float, ...], least: float, *, quick: bool = False
) -> Problem:
    def evaluate(params: Params, noise: random.Random) -> Outcome:
        return Outcome(function(vector(params)))

    box = doubles([(0.0, 1.0)] * width)
    return Problem(name, "multi", box, evaluate, MULTI_TRIALS, least=least, corner=corner, quick=quick)


# ---- constraints: Gardner et al., ICML 2014 (the first two); Mishra (2006); Townsend (2014); Arora's spring (1989)


def gardner1(x: Sequence[float]) -> tuple[float, float]:
    a, b = x
    return math.cos(2 * a) * math.cos(b) + math.sin(a), math.cos(a) * math.cos(b) - math.sin(a) * math.sin(b) + 0.5


def gardner2(x: Sequence[float]) -> tuple[float, float]:
    a, b = x
    return math.sin(a) + b, math.sin(a) * math.sin(b) + 0.95


def bird(x: Sequence[float]) -> tuple[float, float]:
    a, b = x
    one = math.sin(b) * math.exp((1 - math.cos(a)) ** 2)
    return one + math.cos(a) * math.exp((1 - math.sin(b)) ** 2) + (a - b) ** 2, (a + 5) ** 2 + (b + 5) ** 2 - 25


def townsend(x: Sequence[float]) -> tuple[float, float]:
    a, b = x
    t = math.atan2(a, b)
    heart = 2 * math.cos(t) - math.cos(2 * t) / 2 - math.cos(3 * t) / 4 - math.cos(4 * t) / 8
    value = -(math.cos((a - 0.1) * b) ** 2) - a * math.sin(3 * a + b)
    return value, a * a + b * b - heart**2 - (2 * math.sin(t)) ** 2


def spring(x: Sequence[float]) -> tuple[float, float, float, float, float]:
    """The weight of a spring, of wire x0 thick, x1 wide, with x2 turns; in hundredths, to be of the order of 1."""
    d, w, n = x
    return (
        100 * (n + 2) * w * d * d,
        1 - w**3 * n / (71785 * d**4),
        (4 * w * w - d * w) / (12566 * (w * d**3 - d**4)) + 1 / (5108 * d * d) - 1,
        1 - 140.45 * d / (w * w * n),
        (w + d) / 1.5 - 1,
    )


def constrained() -> list[Problem]:
    six = ((0.0, 6.0), (0.0, 6.0))
    return [
        _constrained("gardner1", gardner1, six, -1.8887514, quick=True),
        _constrained("gardner2", gardner2, six, 0.2532359, quick=True),
        _constrained("bird", bird, ((-10.0, 0.0), (-6.5, 0.0)), -106.764537),
        _constrained("townsend", townsend, ((-2.25, 2.25), (-2.5, 1.75)), -2.0239884),
        _constrained("spring", spring, ((0.05, 0.2), (0.25, 1.3), (2.0, 15.0)), 1.266523),
    ]


def _constrained(
    name: str, function: Values, box: Sequence[tuple[float, float]], least: float, *, quick: bool = False
) -> Problem:
    def evaluate(params: Params, noise: random.Random) -> Outcome:
        value, *excess = function(vector(params))
        return Outcome((value,), tuple(excess))

    count = len(function([sum(side) / 2 for side in box])) - 1
    parameters = doubles(box)
    return Problem(name, "constrained", parameters, evaluate, TRIALS, least=least, constraints=count, quick=quick)


# ---- conditions


def _when(parent: str, *values: ParamValue) -> When:
    return ((parent, values),)


BRANCHES: dict[str, Parameter] = {
    "branch": Categorical(("branin", "hartmann3", "ackley")),
    "shift": Double(-1.0, 1.0),
    "b0": Double(-5.0, 10.0, when=_when("branch", "branin")),
    "b1": Double(0.0, 15.0, when=_when("branch", "branin")),
    **{f"h{place}": Double(0.0, 1.0, when=_when("branch", "hartmann3")) for place in range(3)},
    **{f"a{place}": Double(-15.0, 30.0, when=_when("branch", "ackley")) for place in range(2)},
}


def branches(params: Params, noise: random.Random) -> Outcome:
    """One of three functions by choice, each scaled, of which the second goes lowest, and a parameter of all."""
    kind = str(params["branch"])
    x = [float(params[name]) for name in sorted(params) if name[0] == kind[0] and name != "branch"]
    lowest, scale = {"branin": (0.3, 50.0), "hartmann3": (0.0, 3.86278), "ackley": (0.15, 20.0)}[kind]
    function = BY_NAME[kind]
    least = 0.0 if kind == "ackley" else function.least
    return Outcome((lowest + (function.value(x) - least) / scale + (float(params["shift"]) - 0.3) ** 2,))


LAYERS: dict[str, Parameter] = {
    "layers": Int(1, 4),
    "rate": Double(1e-5, 1.0, log=True),
    **{
        f"width{place}": Int(8, 512, log=True, when=_when("layers", *range(place, 5)) if place > 1 else ())
        for place in range(1, 5)
    },
}
WIDTHS = (128, 64, 32, 16)


def layers(params: Params, noise: random.Random) -> Outcome:
    """Like a network's: the third layer helps, the fourth does not, and each has a width of its own that is best."""
    count = int(params["layers"])
    depth = {1: 1.0, 2: 0.5, 3: 0.0, 4: 0.25}[count]
    widths = (math.log2(int(params[f"width{place}"]) / WIDTHS[place - 1]) / 4 for place in range(1, count + 1))
    rate = (math.log10(float(params["rate"])) + 2) / 2
    return Outcome((depth + math.fsum(each**2 for each in widths) / count + rate**2,))


def conditional() -> list[Problem]:
    return [
        Problem("branches", "conditional", BRANCHES, branches, TRIALS, least=0.0, quick=True),
        Problem("layers", "conditional", LAYERS, layers, TRIALS, least=0.0),
    ]
