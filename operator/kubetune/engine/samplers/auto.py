"""`auto`: the sampler that did best on spaces and budgets like these; the study behind the rules: docs/algorithms.md.

A function of the spec in force, so that it is the same after a restart and follows an edit of maxTrials or
parallelism: every sampler goes on from the record that another one made.
"""

import dataclasses
import importlib.util

from kubetune.api.spec import Algorithm, Categorical, Double, ExperimentSpec, Parameter
from kubetune.engine import options
from kubetune.engine.columns import Points
from kubetune.engine.samplers import gp

FEW = 150  # trials, up to which the Gaussian process was compared
NARROW = 20  # parameters, up to which a Gaussian process is advised (Frazier, arXiv 1807.02811)
WIDE = 50  # trials at once, up to which it was compared
MANY = 300  # trials, from which CMA-ES was compared
STEPS = 20  # of a parameter, from which it was compared
ROUNDS = 30  # times as many trials as run at once: with fewer it was no better than tpe


@dataclasses.dataclass(frozen=True)
class Pick:
    """``reason``: for people; "": it was not picked but named."""

    spec: ExperimentSpec
    reason: str = ""

    @property
    def name(self) -> str:
        return self.spec.sampler.name


def pick(spec: ExperimentSpec) -> Pick:
    """The spec with a sampler that is one.

    Raises:
        InvalidSpec: ``auto`` has settings.
    """
    if spec.sampler.name != "auto":
        return Pick(spec)
    options.read("sampler", spec.sampler, {})
    name, reason = _rules(spec)
    return Pick(dataclasses.replace(spec, sampler=Algorithm(name)), reason)


def _rules(spec: ExperimentSpec) -> tuple[str, str]:
    points = Points(spec.parameters)
    # What goes through the space by itself takes none of these.
    steered = spec.given or spec.narrow or spec.warm_start or spec.stages
    if not steered and points.small and points.size is not None and points.size <= spec.max_trials:
        return "bruteForce", f"there are {points.size} combinations and maxTrials is {spec.max_trials}: all are tried"
    if spec.parallelism >= spec.max_trials and not spec.warm_start:
        return "qmc", "all trials may run at once, so none learns from another: they are spread evenly"
    against = _against_gp(spec)
    if against and _fits_cmaes(spec):
        return "cmaes", (
            f"{spec.max_trials} trials over numbers alone, few of them at once: CMA-ES learns how the numbers depend "
            "on each other"
        )
    if against:
        return "tpe", against
    if not gp.installed():
        return "tpe", (
            f"for {spec.max_trials} trials gp would do better, but this operator's image has no scikit-learn "
            "(the chart's image.extras)"
        )
    return (
        "gp",
        f"{spec.max_trials} trials of one objective are few enough for a Gaussian process, which learns most from each",
    )


def _fits_cmaes(spec: ExperimentSpec) -> bool:
    """Whether it is one of the spaces and budgets in which CMA-ES was better than tpe."""
    numbers = all(map(_fine, spec.parameters.values()))
    plain = len(spec.objectives) == 1 and not spec.constraints and not spec.space.independent and not spec.narrow
    return (
        plain
        and numbers
        and 2 <= len(spec.parameters) <= NARROW
        and spec.max_trials >= max(MANY, ROUNDS * spec.parallelism)
        and importlib.util.find_spec("cmaes") is not None
    )


def _fine(parameter: Parameter) -> bool:
    if isinstance(parameter, Categorical):
        return False
    return parameter.step is None or (parameter.high - parameter.low) / parameter.step >= STEPS


def _against_gp(spec: ExperimentSpec) -> str:
    """Why a Gaussian process is not the better choice; "": it is."""
    if len(spec.objectives) > 1:
        return "several objectives: tpe ranks trials by domination"
    if spec.constraints:
        return "constraints: tpe keeps feasible trials apart"
    if spec.space.independent:
        return "some parameters have conditions: tpe models each branch by itself"
    if not any(isinstance(parameter, Double) for parameter in spec.parameters.values()):
        return "no parameter is continuous: tpe takes choices and steps as they are"
    if len(spec.parameters) > NARROW:
        return f"more than {NARROW} parameters: tpe does not have to learn a length scale for each"
    if spec.max_trials > FEW:
        return f"more than {FEW} trials: a tpe suggestion costs the same after any number"
    if spec.parallelism > WIDE:
        return f"more than {WIDE} trials at once: a tpe suggestion is made in milliseconds"
    return ""
