"""An Experiment's spec as frozen dataclasses, parsed from the custom resource.

The CRD's schema and CEL rules refuse most bad input at admission; what they cannot see (`$(x)` without such a
parameter, a pattern that is no regular expression) is found here and becomes condition ``Invalid``.
"""

import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias

from kubetune.api import algorithm, expression, fidelity, names, narrow, phases, stages, stop, validation
from kubetune.api.algorithm import Algorithm as Algorithm
from kubetune.api.checkpoints import InitCheckpoint, Place, parse_given, parse_place
from kubetune.api.fidelity import Fidelity as Fidelity
from kubetune.api.parameters import Categorical as Categorical
from kubetune.api.parameters import Double as Double
from kubetune.api.parameters import Int as Int
from kubetune.api.parameters import InvalidSpec as InvalidSpec
from kubetune.api.parameters import NotYet as NotYet
from kubetune.api.parameters import Parameter as Parameter
from kubetune.api.parameters import Params as Params
from kubetune.api.parameters import ParamValue as ParamValue
from kubetune.api.parameters import parse as parse_parameters
from kubetune.api.space import Space
from kubetune.api.stages import Stage as Stage
from kubetune.api.stop import NoImprovement as NoImprovement
from kubetune.api.stop import RegretBound as RegretBound
from kubetune.api.validation import Replicates as Replicates
from kubetune.api.validation import Validation as Validation

Json: TypeAlias = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Objective:
    """A metric to optimise and how its series becomes one value."""

    metric: str
    direction: Literal["maximize", "minimize"]
    target: float | None = None
    value: Literal["last", "best", "mean", "min", "max"] = "last"
    window: int = 5  # reports that `mean` takes the mean of, from the end


@dataclasses.dataclass(frozen=True)
class Constraint:
    """A bound that a metric's last report must keep. A trial that does not is infeasible: best only where all are."""

    metric: str
    bound: Literal["max", "min"]
    limit: float

    @property
    def name(self) -> str:
        return f"{self.metric}.{self.bound}"

    def excess(self, value: float) -> float:
        """By how much it is broken; at most 0: it is kept. As Optuna has constraint values."""
        return value - self.limit if self.bound == "max" else self.limit - value


_NUMBER = r"[+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|(?:nan|NaN|inf|Infinity)\b)"
# A name begins where a word does: the T of 2026-03-01T10:00:00Z begins none.
DEFAULT_PATTERN = rf"\b(?P<metric>[A-Za-z_][\w./-]*)\s*[=:]\s*(?P<value>{_NUMBER})"


@dataclasses.dataclass(frozen=True)
class Metrics:
    """Where reports come from: pushed to the gateway, or read from the pod's log by pattern (RE2) or as JSON."""

    source: Literal["push", "log"] = "push"
    pattern: str = DEFAULT_PATTERN  # groups `metric` and `value`; every match on a line counts
    step: str = "step|epoch"  # a matched metric of one of these names is the line's step
    format: Literal["text", "json"] = "text"  # of a log's lines; json: each is an object, and no pattern is used


_TPE, _MEDIAN = Algorithm("tpe"), Algorithm("median")


@dataclasses.dataclass(frozen=True)
class Given:
    """Parameters that a person wants tried; those that are not named are sampled. ``source`` tells the set from the
    others of its experiment, once and for all: the place in `initial`, the name in `enqueue`."""

    source: str  # initial/0 | enqueue/NAME
    field: str  # of the spec, for what is said about it
    params: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class ExperimentSpec:
    """All that the spec says, defaults filled in. Durations in seconds."""

    namespace: str
    name: str
    uid: str
    generation: int
    objectives: tuple[Objective, ...]
    parameters: Mapping[str, Parameter]
    template: Json
    metrics: Metrics = Metrics()
    sampler: Algorithm = _TPE
    pruner: Algorithm = _MEDIAN
    max_trials: int = 100
    max_failed_trials: int = 10
    no_improvement: NoImprovement | None = None
    regret_bound: RegretBound | None = None
    parallelism: int = 1  # at most
    parallelism_min: int = 0  # pods that find no node do not lower it below this
    priority: int = 0  # each step doubles the share of common limits
    trial_deadline: float | None = None
    experiment_deadline: float | None = None
    suspend: bool = False
    seed: int | None = None
    brackets: str = ""  # what hyperband's are drawn by, as the study began (`engine.searching`); "": its name
    stop_trials: frozenset[int] = frozenset()
    execution: Literal["jobs", "workers", "auto"] = "auto"
    slots_per_worker: int = 1
    constraints: tuple[Constraint, ...] = ()
    warm_start: tuple[str, ...] = ()  # experiments of the namespace whose trials the sampler begins with
    narrow: Mapping[str, Parameter] = dataclasses.field(default_factory=dict)  # what is asked from now on, by name
    where: tuple[str, ...] = ()  # conditions among parameters, in the language of `expression`
    fidelity: Fidelity | None = None  # what trials get more of, rung by rung; None: they are as they are
    validation: Validation = dataclasses.field(default_factory=Validation)
    given: tuple[Given, ...] = ()  # to be tried before what the sampler asks for, in this order
    stages: tuple[Stage, ...] = ()  # (): one search by ``sampler``; else that is the first one's
    before: int = 0  # trials of earlier stages: what goes through a space by number counts from there
    checkpoints: Place | None = None  # where trials keep theirs
    init_checkpoint: InitCheckpoint | None = None  # what every trial starts from
    finalists: phases.Finalists | None = None  # after the search
    refit: phases.Once | None = None  # after them: the winner on all the data
    test: phases.Once | None = None  # after that: on data that nothing before has seen
    runs: tuple[Mapping[str, str], ...] = ()  # of a phase: variables that its trials have beside, by number
    once: bool = False  # a trial that has reported its objectives runs no second time, whatever becomes of it

    @property
    def owner(self) -> str:
        """The UID of the custom resource; ``uid`` is that of one of its phases where this is a phase's spec."""
        return names.base_uid(self.uid)

    @property
    def phase(self) -> str:
        """Of what comes after the search; "": the search itself."""
        return names.phase_of(self.uid)

    @property
    def after(self) -> tuple[str, ...]:
        """What comes after the search, in order."""
        return tuple(each.phase for each in (self.finalists, self.refit, self.test) if each is not None)

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @functools.cached_property
    def asked(self) -> dict[str, Parameter]:
        """The parameters as they are asked for now: as declared, or narrower."""
        return {**self.parameters, **self.narrow}

    @functools.cached_property
    def space(self) -> Space:
        """The search space: which parameters a trial has."""
        return Space(self.parameters, [expression.read(text, "where") for text in self.where])


_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


def duration(text: str, field: str) -> float:
    """Seconds of ``1h30m``; days, hours, minutes, seconds, in that order; above 0."""
    match = _DURATION.fullmatch(text)
    if not match or not any(match.groups()):
        raise InvalidSpec(field, f"{text!r} is not a duration; write for example 90s, 15m, 1h30m or 2d")
    days, hours, minutes, seconds = (int(group or 0) for group in match.groups())
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if total == 0:
        raise InvalidSpec(field, f"{text!r} is no time at all; give at least 1s, or leave it out")
    return float(total)


def parse(resource: Mapping[str, Any]) -> ExperimentSpec:
    """The custom resource as an ExperimentSpec.

    Raises:
        InvalidSpec: with the field and what to do, at the first thing that cannot be run.
    """
    metadata, spec = resource["metadata"], resource.get("spec") or {}
    parameters = parse_parameters(spec.get("parameters") or {})
    Space(parameters).check()
    where = _where(spec, parameters)
    objectives = _objectives(spec)
    amount = fidelity.parse(spec.get("fidelity"), parameters)
    legs = {amount.name: "fidelity"} if amount else {}
    validated = validation.parse(spec)
    limits, bounds = spec.get("deadline") or {}, spec.get("parallelism") or {}
    least, most = int(bounds.get("min", 0)), int(bounds.get("max", 1))
    if least > most:
        raise InvalidSpec(
            "parallelism.min", f"{least} is above parallelism.max, which is {most}; lower it or leave it out"
        )
    searches = stages.parse(spec)
    return ExperimentSpec(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        objectives=objectives,
        parameters=parameters,
        template=_template(spec, parameters, legs),
        metrics=_metrics(spec),
        sampler=searches[0].sampler if searches else algorithm.read(spec.get("sampler"), "tpe"),
        pruner=algorithm.read(spec.get("pruner"), default_pruner(spec)),
        max_trials=sum(each.max_trials for each in searches) or int(spec.get("maxTrials", 100)),
        max_failed_trials=int(spec.get("maxFailedTrials", 10)),
        no_improvement=stop.no_improvement(spec, len(objectives)),
        regret_bound=stop.regret_bound(spec, len(objectives), validated.runs),
        parallelism=most,
        parallelism_min=least,
        priority=int(spec.get("priority", 0)),
        trial_deadline=_limit(limits, "trial", "deadline"),
        experiment_deadline=_limit(limits, "experiment", "deadline"),
        suspend=bool(spec.get("suspend", False)),
        seed=spec.get("seed"),
        execution=spec.get("execution", "auto"),
        slots_per_worker=int(spec.get("slotsPerWorker", 1)),
        stop_trials=frozenset(int(number) for number in spec.get("stopTrials") or ()),
        constraints=_constraints(spec),
        warm_start=tuple((spec.get("warmStart") or {}).get("from") or ()),
        where=where,
        fidelity=amount,
        narrow=narrow.parse(spec.get("narrow") or {}, parameters),
        validation=validated,
        given=(*_initial(spec), *_enqueued(spec)),
        stages=searches,
        checkpoints=parse_place(spec),
        init_checkpoint=parse_given(spec),
        finalists=phases.finalists(spec, len(objectives)),
        refit=_once(spec, phases.REFIT, objectives, parameters, legs),
        test=_once(spec, phases.TEST, objectives, parameters, legs),
    )


def _where(spec: Mapping[str, Any], parameters: Mapping[str, Parameter]) -> tuple[str, ...]:
    texts = tuple(map(str, spec.get("where") or ()))
    for place, text in enumerate(texts):
        expression.check(expression.read(text, f"where[{place}]"), parameters, f"where[{place}]")
    return texts


def _initial(spec: Mapping[str, Any]) -> Iterator[Given]:
    for place, params in enumerate(spec.get("initial") or ()):
        yield Given(f"initial/{place}", f"initial[{place}]", dict(params))


def _enqueued(spec: Mapping[str, Any]) -> Iterator[Given]:
    for place, form in enumerate(spec.get("enqueue") or ()):
        yield Given(f"enqueue/{form['name']}", f"enqueue[{place}].parameters", dict(form.get("parameters") or {}))


def _limit(limits: Mapping[str, Any], name: str, field: str) -> float | None:
    return duration(str(limits[name]), f"{field}.{name}") if limits.get(name) else None


def default_pruner(spec: Mapping[str, Any]) -> str:
    """Which one a resource's spec has that names none: segments of a longer training are not told apart by step, nor
    are replicates; folds are, but by another test."""
    segments = (spec.get("sampler") or {}).get("name") in phases.POPULATIONS
    folds = bool((spec.get("validation") or {}).get("folds"))
    seeds = bool(spec.get("replicates")) and not folds
    if segments or seeds or len(spec.get("objectives") or ()) > 1:
        return "none"
    return "wilcoxon" if folds else "median"


def _objectives(spec: Mapping[str, Any]) -> tuple[Objective, ...]:
    if spec.get("objective") and spec.get("objectives"):
        raise InvalidSpec("objective", "give objective (one metric) or objectives (several), not both")
    forms = spec.get("objectives") or ([spec["objective"]] if spec.get("objective") else [])
    if not forms:
        raise InvalidSpec("objective", "say which metric to optimise: objective: {metric: loss, direction: minimize}")
    objectives = tuple(
        Objective(
            metric=form["metric"],
            direction=form["direction"],
            target=form.get("target"),
            value=form.get("value", "last"),
            window=int(form.get("window", 5)),
        )
        for form in forms
    )
    if len({objective.metric for objective in objectives}) < len(objectives):
        raise InvalidSpec("objectives", "two objectives name the same metric; name each metric once")
    return objectives


def _constraints(spec: Mapping[str, Any]) -> tuple[Constraint, ...]:
    found: dict[str, Constraint] = {}
    for place, form in enumerate(spec.get("constraints") or ()):
        bounds = [Constraint(form["metric"], bound, float(form[bound])) for bound in ("min", "max") if bound in form]
        if not bounds:
            raise InvalidSpec(
                f"constraints[{place}]", "give max, min or both, for example {metric: latency_ms, max: 20}"
            )
        if found.keys() & {each.name for each in bounds}:
            raise InvalidSpec(f"constraints[{place}].metric", f"{form['metric']} is there twice; name each metric once")
        if len(bounds) == 2 and bounds[0].limit > bounds[1].limit:
            raise InvalidSpec(f"constraints[{place}].min", "min is above max; lower it, or leave one out")
        found |= {each.name: each for each in bounds}
    return tuple(found.values())


def _once(
    spec: Mapping[str, Any],
    which: str,
    objectives: tuple[Objective, ...],
    parameters: Mapping[str, Parameter],
    legs: Mapping[str, str],
) -> phases.Once | None:
    found = phases.once(spec, which, len(objectives))
    if found is not None:
        _limit(found.form, "deadline", which)
        try:
            _template({"template": phases.changed(spec["template"], found.form)}, parameters, legs)
        except InvalidSpec as error:
            raise InvalidSpec(which, f"with it, {error}") from error
    return found


def _metrics(spec: Mapping[str, Any]) -> Metrics:
    form = spec.get("metrics") or {}
    default = Metrics()
    return Metrics(
        source=form.get("from", default.source),
        pattern=form.get("pattern", default.pattern),
        step=form.get("step", default.step),
        format=form.get("format", default.format),
    )


_REFERENCE = re.compile(r"\$\$|\$\(([^)]*)\)")


def references(text: str) -> list[str]:
    """The names of ``$(name)`` in an argument, by Kubernetes' own rule: ``$$`` escapes."""
    return [match.group(1) for match in _REFERENCE.finditer(text) if match.group(1) is not None]


def _template(spec: Mapping[str, Any], parameters: Mapping[str, Parameter], legs: Mapping[str, str]) -> Json:
    """``legs``: variables that trials get beside their parameters, and the field that says so."""
    template = spec.get("template") or {}
    containers = (template.get("spec") or {}).get("containers") or []
    if not containers:
        raise InvalidSpec("template.spec.containers", "name at least one container; the first one is the trial")
    for index, container in enumerate(containers):
        known = {variable["name"] for variable in container.get("env") or ()}
        clash = known & parameters.keys()
        if clash:
            raise InvalidSpec(
                f"template.spec.containers[{index}].env",
                f"{sorted(clash)[0]} is a parameter; it is set by kubetune, remove it from env",
            )
        for name in sorted(known & legs.keys()):
            raise InvalidSpec(
                f"template.spec.containers[{index}].env",
                f"{name} is set by kubetune, by spec.{legs[name]}; remove it from env",
            )
        _references(index, container, known | legs.keys(), parameters)
    return dict(template)


def _references(
    index: int, container: Mapping[str, Any], environment: set[str], parameters: Mapping[str, Parameter]
) -> None:
    field = f"template.spec.containers[{index}]"
    _left_out(field, container, parameters)
    if container.get("envFrom"):  # its names cannot be seen from here
        return
    for part in ("command", "args"):
        for position, text in enumerate(container.get(part) or ()):
            for name in references(str(text)):
                if name not in parameters and name not in environment and not name.startswith("KUBETUNE_"):
                    raise InvalidSpec(
                        f"{field}.{part}[{position}]",
                        f"$({name}) is neither a parameter nor in env; parameters are {', '.join(sorted(parameters))}; "
                        f"write $$({name}) for the text itself",
                    )


def _left_out(field: str, container: Mapping[str, Any], parameters: Mapping[str, Parameter]) -> None:
    """An argument that names a parameter which a trial does not have is dropped: whether what is left makes sense."""
    some = {name for name, parameter in parameters.items() if parameter.when}
    for variable in container.get("env") or ():
        if some.intersection(references(variable.get("value") or "")):
            some.add(variable["name"])
    words = [(part, place) for part in ("command", "args") for place in range(len(container.get(part) or ()))]
    texts = [str(container[part][place]) for part, place in words]
    dropped = [sorted(some.intersection(references(text))) for text in texts]
    for index, (part, place) in enumerate(words):
        if not dropped[index]:
            continue
        name, where = dropped[index][0], f"{field}.{part}[{place}]"
        if part == "command" and place == 0:
            raise InvalidSpec(where, f"$({name}) is not there in every trial, and the command would be dropped with it")
        before = texts[index - 1] if index else ""
        if before.startswith("-") and "=" not in before and not texts[index].startswith("-"):
            raise InvalidSpec(
                where,
                f"{name} is not there in every trial, and an argument that names it is dropped whole, but {before} "
                f"before it is not; write one argument, for example --{name}=$({name}), or read it in the program",
            )
    if texts and all(dropped):  # no arguments at all: the image's own would take their place
        raise InvalidSpec(
            f"{field}.args", "each names a parameter that is not there in every trial; add one that does not"
        )
