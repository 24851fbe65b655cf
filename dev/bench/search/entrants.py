"""Who takes part in which family of problems: each sampler of kubetune, and the library that it is compared with."""

import dataclasses
import importlib.util
import warnings
from collections.abc import Callable, Sequence

import optuna
from optuna import samplers as theirs_all

from dev.bench.search.problem import Family, Problem
from dev.bench.search.race import Run, closed, run
from dev.bench.search.sides import Cmaes, Loop, Make, Unsuited, ours, scipy_descent, scipy_evolution, theirs
from kubetune.api.spec import InvalidSpec

BASELINE = "random"
ALL: tuple[Family, ...] = ("single", "noisy", "multi", "constrained", "conditional", "training")
ONE: tuple[Family, ...] = ("single", "noisy", "constrained", "conditional", "training")


@dataclasses.dataclass(frozen=True)
class Entrant:
    """
    Args:
        reference: the one of kubetune's that this library's implementation is compared with; "": it is kubetune's.
        make, loop: one of the two.
    """

    name: str
    families: tuple[Family, ...]
    reference: str = ""
    make: Make | None = None
    loop: Loop | None = None

    def run(self, problem: Problem, seed: int) -> Run | None:
        """None: it does not search such a space."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of diverging trainings, and of Optuna's experimental samplers
                if self.make is not None:
                    return run(problem, self.name, self.make, seed)
                assert self.loop is not None
                return closed(problem, self.name, self.loop, seed)
        except (InvalidSpec, Unsuited):
            return None


def _tpe(multivariate: bool, group: bool = False) -> Callable[[int], optuna.samplers.BaseSampler]:
    return lambda seed: theirs_all.TPESampler(seed=seed, multivariate=multivariate, group=group, constant_liar=True)


def _optuna(name: str, kind: str, families: tuple[Family, ...], reference: str) -> Entrant:
    def make(seed: int) -> optuna.samplers.BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            more = {"scramble": True} if kind == "QMCSampler" else {}
            made: optuna.samplers.BaseSampler = getattr(theirs_all, kind)(seed=seed, **more)
            return made

    return Entrant(name, families, reference, theirs(make))


def entrants() -> Sequence[Entrant]:
    """Optuna's GPSampler takes part where its torch is installed."""
    own = [
        Entrant(BASELINE, ALL, make=ours("random")),
        Entrant("qmc", ALL, make=ours("qmc")),
        Entrant("tpe", ALL, make=ours("tpe")),
        Entrant("gp", ALL, make=ours("gp")),
        Entrant("cmaes", ONE, make=ours("cmaes")),
        Entrant("cmaes, lrAdapt", ("noisy",), make=ours("cmaes", {"lrAdapt": True, "withMargin": False})),
        Entrant("differentialEvolution", ONE, make=ours("differentialEvolution")),
        Entrant("regularizedEvolution", ONE, make=ours("regularizedEvolution")),
        Entrant("regularizedEvolution, 20", ONE, make=ours("regularizedEvolution", {"populationSize": 20})),
        Entrant("nsgaii", ALL, make=ours("nsgaii")),
        Entrant("nsgaii, 20", ("multi",), make=ours("nsgaii", {"populationSize": 20})),
        Entrant("nsgaiii", ("multi",), make=ours("nsgaiii")),
        Entrant("gradient", ("single", "noisy", "training"), make=ours("gradient")),
    ]
    references = [
        _optuna("Optuna RandomSampler", "RandomSampler", ALL, BASELINE),
        _optuna("Optuna QMCSampler", "QMCSampler", ALL, "qmc"),
        Entrant("Optuna TPESampler", ("single", "noisy", "constrained", "training"), "tpe", theirs(_tpe(True))),
        Entrant("Optuna TPESampler, group", ("conditional",), "tpe", theirs(_tpe(True, group=True))),
        Entrant("Optuna TPESampler, univariate", ALL, "tpe", theirs(_tpe(False))),
        _optuna("Optuna CmaEsSampler", "CmaEsSampler", ONE, "cmaes"),
        Entrant("cmaes (package)", ("single", "noisy"), "cmaes", Cmaes),
        Entrant("scipy DE", ("single", "noisy", "training"), "differentialEvolution", loop=scipy_evolution),
        Entrant("scipy L-BFGS-B", ("single", "noisy", "training"), "gradient", loop=scipy_descent),
        _optuna("Optuna NSGAIISampler", "NSGAIISampler", ("multi",), "nsgaii"),
        _optuna("Optuna NSGAIIISampler", "NSGAIIISampler", ("multi",), "nsgaiii"),
    ]
    if importlib.util.find_spec("torch") is not None:
        references.append(_optuna("Optuna GPSampler", "GPSampler", ALL, "gp"))
    return [*own, *references]
