"""What the custom resource's schema cannot see of a spec: found before anything is created, as condition Invalid."""

from collections.abc import Mapping, Sequence

import re2

from kubetune.api import given
from kubetune.api.space import Space
from kubetune.api.spec import ExperimentSpec, InvalidSpec, ParamValue
from kubetune.engine import courses, pruners, regret, stages, warm, weights
from kubetune.engine.samplers import where


def check(spec: ExperimentSpec) -> None:
    """Whether the spec can be run at all.

    Raises:
        InvalidSpec: with the field and what to do.
    """
    searches = list(stages.each(spec))
    pruners.build(spec)
    courses.build(spec)
    regret.check(spec)
    given.check(spec.space, spec.given)
    warm.check(spec, [sampler for _, sampler in searches])
    weights.check(spec)
    for one, sampler in searches:
        if sampler.capacity() is None:
            where.check(one)
        elif spec.given:
            raise InvalidSpec(
                spec.given[0].field.partition("[")[0],
                f"{one.sampler.name} tries every point of the space by itself; drop this, or take another sampler",
            )
    pattern("metrics.pattern", spec.metrics.pattern, ("metric", "value"))
    pattern("metrics.step", spec.metrics.step, ())
    _not_the_step(spec)
    for number in sorted(spec.stop_trials):
        if number < 0:
            raise InvalidSpec("stopTrials", f"there is no trial {number}; trials are numbered from 0")


def pattern(field: str, text: str, groups: Sequence[str]) -> None:
    """Whether it is a regular expression by RE2 with these named groups.

    Raises:
        InvalidSpec: with RE2's own words, or the group that is missing.
    """
    options = re2.Options()
    options.log_errors = False
    try:
        compiled = re2.compile(text, options)
    except re2.error as error:
        said = error.args[0] if error.args else ""
        said = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        raise InvalidSpec(
            field,
            f"{text!r} is no regular expression that RE2 takes ({said}); it has no look-around or back-references",
        ) from None
    missing = [name for name in groups if name not in compiled.groupindex]
    if missing:
        raise InvalidSpec(
            field,
            f"{text!r} has no group {' and no group '.join(missing)}; write for example "
            r"(?P<metric>[a-z]+)=(?P<value>[0-9.eE+-]+)",
        )


def _not_the_step(spec: ExperimentSpec) -> None:
    """A name that gives a log line its step is never a metric. Raises InvalidSpec."""
    for metric in (each.metric for those in (spec.objectives, spec.constraints) for each in those):
        if spec.metrics.source == "log" and re2.fullmatch(spec.metrics.step, metric):
            raise InvalidSpec(
                "metrics.step",
                f"{spec.metrics.step!r} takes {metric} for a line's step, so it never becomes a metric; give "
                "metrics.step another pattern, or rename the metric",
            )


def same_objectives(spec: ExperimentSpec, metrics: Sequence[str], directions: Sequence[str]) -> None:
    """Whether the study was made for these objectives. Raises InvalidSpec."""
    made = list(zip(metrics, directions, strict=True))
    asked = [(objective.metric, objective.direction) for objective in spec.objectives]
    if made != asked:
        raise InvalidSpec(
            "objectives",
            f"the study was made to {_words(made)}, the spec says {_words(asked)}; objectives cannot change, "
            "create a new experiment",
        )


def _words(objectives: Sequence[tuple[str, str]]) -> str:
    return " and ".join(f"{direction} {metric}" for metric, direction in objectives)


def same_parameters(space: Space, number: int, params: Mapping[str, ParamValue]) -> None:
    """Whether a committed trial is of this search space.

    Raises:
        InvalidSpec: naming what differs. The resource's own rules keep the space fixed; a study restored beside another
            manifest, or a resource that was forced, comes here.
    """
    problem = space.problem(params)
    if problem is not None:
        name, why = problem
        raise InvalidSpec(
            f"parameters.{name}",
            f"trial {number} of the study is not of this space: {why}. The search space cannot change, create a new "
            "experiment",
        )
