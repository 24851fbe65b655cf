"""Samplers, one file each. A new one is a file and a line here: what it does not know of conditions is done for it."""

from collections.abc import Callable, Mapping

from kubetune.api.spec import ExperimentSpec, InvalidSpec
from kubetune.engine.samplers import (
    branches,
    brute_force,
    cma_es,
    differential,
    external,
    gp,
    gradient,
    grid,
    narrowed,
    nsga,
    pbt,
    qmc,
    random,
    regularized,
    schedule,
    tpe,
    where,
)
from kubetune.engine.samplers.auto import Pick as Pick
from kubetune.engine.samplers.auto import pick as pick
from kubetune.engine.samplers.base import Sampler as Sampler

SAMPLERS: Mapping[str, Callable[[ExperimentSpec], Sampler]] = {
    "bruteForce": brute_force.build,
    "cmaes": cma_es.build,
    "differentialEvolution": differential.build,
    "external": external.build,
    "gp": gp.build,
    "gradient": gradient.build,
    "grid": grid.build,
    "nsgaii": nsga.build_second,
    "nsgaiii": nsga.build_third,
    "pbt": pbt.build,
    "qmc": qmc.build,
    "random": random.build,
    "regularizedEvolution": regularized.build,
    "schedule": schedule.build,
    "tpe": tpe.build,
}
# The others search what every trial has: see `branches`.
KNOW_CONDITIONS = frozenset(
    {"bruteForce", "external", "gp", "grid", "pbt", "qmc", "random", "regularizedEvolution", "schedule", "tpe"}
)


def build(spec: ExperimentSpec) -> Sampler:
    """The experiment's sampler, or the one that `auto` picks for it.

    Raises:
        InvalidSpec: for a name or a setting that is not known, or a space that it cannot search.
    """
    spec = pick(spec).spec
    name = spec.sampler.name
    if name not in SAMPLERS:
        raise InvalidSpec("sampler.name", f"there is no sampler {name!r}; there are auto, {', '.join(SAMPLERS)}")
    if spec.narrow and spec.stages and name == "grid":  # it begins with its stage, and keeps to its cells
        return build(narrowed.within(spec))
    if spec.narrow:
        return narrowed.NarrowedSampler(spec, build(narrowed.within(spec)))
    branching = bool(spec.space.independent) and name not in KNOW_CONDITIONS
    sampler = branches.BranchSampler(spec, SAMPLERS[name]) if branching else SAMPLERS[name](spec)
    return where.WhereSampler(spec, sampler) if spec.where and sampler.capacity() is None else sampler
