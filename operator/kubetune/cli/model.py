"""An experiment and its trials as the command line shows them, read leniently from the custom resource (docs/status.md)
and from the gateway's answers (docs/gateway-api.md). Pure."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kubetune.api import spec as api
from kubetune.api import validation
from kubetune.api.insight import AdviceKind
from kubetune.cli import text
from kubetune.kube.client import Json

ENDED = ("Complete", "Failed", "Invalid")
# Ours → Optuna's, for which a trial that waits at a rung is running.
STATES = {
    "running": "RUNNING",
    "paused": "RUNNING",
    "complete": "COMPLETE",
    "pruned": "PRUNED",
    "failed": "FAIL",
}
SHOWN_STATE = {"FAIL": "FAILED"}


@dataclasses.dataclass(frozen=True)
class Best:
    """The best trial, or one of the front."""

    trial: int
    values: Mapping[str, float]  # by metric
    value: str  # of one objective, as the status has it
    parameters: Mapping[str, Any]  # typed
    broken: Mapping[str, float] = dataclasses.field(default_factory=dict)  # constraints, by how much
    runs: tuple[float, ...] = ()  # whose mean the value is


@dataclasses.dataclass(frozen=True)
class Winner:
    """By the finalists' fresh runs."""

    trial: int
    mean: float | None
    parameters: Mapping[str, Any]  # typed
    sentence: str


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Spec and status of an experiment in what is shown. Times in seconds since the epoch."""

    namespace: str
    name: str
    state: str
    reason: str
    message: str
    objectives: tuple[tuple[str, str], ...]  # (metric, direction)
    constraints: tuple[tuple[str, float | None, float | None], ...]  # (metric, min, max)
    infeasible: int
    front_size: int
    sampler: str
    pruner: str
    has_runs: bool  # a trial's value is the mean of several: folds, replicates
    max_trials: int
    parallelism: int
    suspend: bool
    created: float | None
    started: float | None
    completed: float | None
    total: int
    running: int
    pending: int
    complete: int
    pruned: int
    failed: int
    lost_attempts: int
    active: int
    best: Best | None
    front: tuple[Best, ...]
    study: str
    saved_steps: int
    saved_share: float
    failures: tuple[tuple[str, int], ...]  # (reason, count), of the latest trials
    importances: tuple[tuple[str, float], ...]  # (parameter, share)
    effects: Mapping[str, str]  # of these parameters, what changing one did
    advice: tuple[str, ...]
    stop_trials: tuple[int, ...]
    container: str  # of the trial in its pod
    winner: Winner | None = None
    paused: int = 0  # trials between two legs
    picked: str = ""  # the sampler that auto uses, and why
    stage: str = ""  # the search under way, of several: its name, number and sampler
    model: str = ""  # version, address and digest of the refit's
    test: str = ""  # the score on the test set, its name and time
    scored: tuple[str, ...] = ()  # the names under which the test set was scored, "": without one
    looked: bool = False  # the latest scoring failed after it had reported something
    regret: str = ""  # what is left to gain
    phase: tuple[str, int, int] | None = None  # what comes after the search and runs now: its name, ended runs, all
    failed_phase: str = ""  # or that has failed
    edited: bool = False  # since the status was written: what it says may be over

    @property
    def finished(self) -> int:
        return self.complete + self.pruned + self.failed

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def maximize(self) -> bool:
        return bool(self.objectives) and self.objectives[0][1] == "maximize"


@dataclasses.dataclass(frozen=True)
class Trial:
    """A trial as the gateway tells it. Times in seconds since the epoch."""

    number: int
    state: str  # Optuna's
    reason: str
    message: str
    parameters: Mapping[str, Any]
    values: tuple[float, ...] | None
    attempt: int
    created: float | None
    started: float | None
    ended: float | None
    last_step: int | None
    last_metrics: Mapping[str, float]
    parent: int | None = None  # the trial whose checkpoint it went on from
    member: int | None = None  # of the population
    leg: int = 0  # the current one, or of a paused trial the one that would be next
    paused: bool = False
    legs: tuple[float, ...] = ()  # what each that ended came to (first objective)

    @property
    def shown_state(self) -> str:
        return "PAUSED" if self.paused else SHOWN_STATE.get(self.state, self.state)

    def seconds(self, now: float) -> float | None:
        """From the first pod's start to the end, or to now."""
        if self.started is None:
            return None
        return (self.ended if self.ended is not None else now) - self.started


def experiment(resource: Mapping[str, Any]) -> Experiment:
    """The custom resource; what its status does not say yet is zero or empty."""
    metadata, spec, status = resource["metadata"], resource.get("spec") or {}, resource.get("status") or {}
    counts, saved = status.get("counts") or {}, status.get("saved") or {}
    objectives = spec.get("objectives") or ([spec["objective"]] if spec.get("objective") else [])
    forms = spec.get("parameters") or {}
    best, stages = status.get("best"), spec.get("stages") or ()
    containers = ((spec.get("template") or {}).get("spec") or {}).get("containers") or [{}]
    return Experiment(
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        state=status.get("state") or "Pending",
        reason=status.get("reason", ""),
        message=status.get("message", ""),
        objectives=tuple((form.get("metric", ""), form.get("direction", "")) for form in objectives),
        constraints=tuple(
            (form.get("metric", ""), form.get("min"), form.get("max")) for form in spec.get("constraints") or ()
        ),
        infeasible=int(counts.get("infeasible", 0)),
        front_size=int(status.get("frontSize", 0)),
        sampler=_sampler(spec),
        pruner=(spec.get("pruner") or {}).get("name", api.default_pruner(spec)),
        has_runs=validation.parse(spec).runs,
        max_trials=sum(int(stage.get("maxTrials", 0)) for stage in stages) or int(spec.get("maxTrials", 100)),
        parallelism=int((spec.get("parallelism") or {}).get("max", 1)),
        suspend=bool(spec.get("suspend", False)),
        created=text.epoch(metadata.get("creationTimestamp")),
        started=text.epoch(status.get("startTime")),
        completed=text.epoch(status.get("completionTime")),
        total=int(counts.get("total", 0)),
        running=int(counts.get("running", 0)),
        pending=int(counts.get("pending", 0)),
        paused=int(counts.get("paused", 0)),
        complete=int(counts.get("complete", 0)),
        pruned=int(counts.get("pruned", 0)),
        failed=int(counts.get("failed", 0)),
        lost_attempts=int(counts.get("lostAttempts", 0)),
        active=int(status.get("active", 0)),
        best=_best(best, forms) if best else None,
        front=tuple(_best(entry, forms) for entry in status.get("front") or ()),
        study=status.get("study", ""),
        saved_steps=int(saved.get("steps", 0)),
        saved_share=float(saved.get("share", 0)),
        failures=tuple((entry["reason"], int(entry["count"])) for entry in status.get("failures") or ()),
        importances=tuple((one["parameter"], float(one["share"])) for one in status.get("importances") or ()),
        effects={one["parameter"]: one["effect"] for one in status.get("importances") or () if "effect" in one},
        advice=tuple(
            f"{one['type']}: {one['message']}"
            for one in status.get("conditions") or ()
            if one["type"] in list(AdviceKind) and one["status"] == "True"
        ),
        stop_trials=tuple(int(number) for number in spec.get("stopTrials") or ()),
        container=containers[0].get("name", ""),
        winner=_winner(status["winner"], forms) if status.get("winner") else None,
        model=_model(status["model"]) if status.get("model") else "",
        test=scoring(status["test"]) if status.get("test") else "",
        scored=tuple(each["name"].partition(".")[2] for each in status.get("scorings") or ()),
        looked=bool((status.get("test") or {}).get("seen")),
        picked="{name}: {reason}".format(**status["sampler"]) if status.get("sampler") else "",
        stage=_stage(status["stage"]) if status.get("stage") else "",
        regret=str((status.get("regretBound") or {}).get("message", "")),
        phase=_phase(status["phase"]) if status.get("phase") and not status["phase"].get("failed") else None,
        edited=_edited(metadata, status),
        failed_phase=status["phase"]["name"] if (status.get("phase") or {}).get("failed") else "",
    )


def _edited(metadata: Mapping[str, Any], status: Mapping[str, Any]) -> bool:
    """The latest spec is neither in force nor refused yet."""
    refused = [
        one.get("observedGeneration")
        for one in status.get("conditions") or ()
        if (one["type"], one["status"]) == ("Invalid", "True")
    ]
    return metadata.get("generation") not in (None, status.get("observedGeneration"), *refused)


def _sampler(spec: Mapping[str, Any]) -> str:
    """Its name, or those of its stages."""
    forms = [stage.get("sampler") for stage in spec.get("stages") or ()] or [spec.get("sampler")]
    return ", then ".join((form or {}).get("name", "tpe") for form in forms)


def _winner(entry: Mapping[str, Any], forms: Mapping[str, Any]) -> Winner:
    return Winner(
        trial=int(entry["trial"]),
        mean=entry.get("mean"),
        parameters={
            name: typed(value, forms.get(name) or {}) for name, value in (entry.get("parameters") or {}).items()
        },
        sentence=str(entry.get("sentence", "")),
    )


def _model(entry: Mapping[str, Any]) -> str:
    digest = f" ({entry['digest']})" if entry.get("digest") else ""
    return f"version {entry.get('version')}: {entry.get('address')}{digest}"


def scoring(entry: Mapping[str, Any]) -> str:
    """``0.9698, scored as test at 2026-11-21T20:00:00Z``."""
    what = text.number(entry["value"]) if "value" in entry else f"no score ({entry.get('message', '')})"
    return f"{what}, scored as {entry.get('name')} at {entry.get('time')}"


def _stage(entry: Mapping[str, Any]) -> str:
    """``coarse, 1 of 2 (grid)``; a stage without a name is its number alone."""
    name = f"{entry['name']}, " if entry.get("name") else ""
    return f"{name}{entry.get('number')} of {entry.get('of')} ({entry.get('sampler')})"


def _phase(entry: Mapping[str, Any]) -> tuple[str, int, int]:
    return str(entry["name"]), int(entry.get("finished", 0)), int(entry.get("total", 0))


def _best(entry: Mapping[str, Any], forms: Mapping[str, Any]) -> Best:
    return Best(
        trial=int(entry["trial"]),
        values={name: float(value) for name, value in (entry.get("metrics") or {}).items()},
        value=str(entry.get("value", "")),
        parameters={
            name: typed(value, forms.get(name) or {}) for name, value in (entry.get("parameters") or {}).items()
        },
        broken={name: float(value) for name, value in (entry.get("broken") or {}).items()},
        runs=tuple(float(value) for value in entry.get("runs") or ()),
    )


def typed(value: Any, form: Mapping[str, Any]) -> Any:
    """A parameter's text as the type that its form in the spec says; what does not fit stays as it is."""
    if not isinstance(value, str):
        return value
    try:
        if "int" in form:
            return int(float(value))
        if "double" in form:
            return float(value)
        if "values" in form:
            return next((number for number in form["values"] if float(number) == float(value)), value)
    except ValueError:
        return value
    if "bool" in form and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return value


def trial(answer: Json) -> Trial:
    values = answer.get("values")
    return Trial(
        number=int(answer["number"]),
        state=str(answer["state"]),
        reason=str(answer.get("reason") or ""),
        message=str(answer.get("message") or ""),
        parameters=answer.get("parameters") or {},
        values=None if values is None else tuple(float(value) for value in values),
        attempt=int(answer.get("attempt") or 1),
        created=text.epoch(answer.get("created")),
        started=text.epoch(answer.get("started")),
        ended=text.epoch(answer.get("ended")),
        last_step=answer.get("lastStep"),
        last_metrics={name: float(value) for name, value in (answer.get("lastMetrics") or {}).items()},
        parent=answer.get("parent"),
        member=answer.get("member"),
        leg=int(answer.get("leg") or 0),
        paused=bool(answer.get("paused")),
        legs=tuple(float(leg["values"][0]) for leg in answer.get("legs") or () if leg.get("values")),
    )


def best_history(trials: Iterable[Trial], maximize: bool) -> list[float]:
    """The best value so far after each COMPLETE trial, in the order of their ends (first objective)."""
    ended = sorted(
        (one for one in trials if one.state == "COMPLETE" and one.values and one.ended is not None),
        key=lambda one: (one.ended or 0.0, one.number),
    )
    better = max if maximize else min
    history: list[float] = []
    for one in ended:
        assert one.values
        value = one.values[0]
        history.append(value if not history else better(history[-1], value))
    return history


def by_value(trials: Sequence[Trial], maximize: bool) -> list[Trial]:
    """The best first; without a value last; COMPLETE before PRUNED of the same value."""

    def key(one: Trial) -> tuple[bool, float, bool, int]:
        if not one.values or one.values[0] != one.values[0]:
            return (True, 0.0, False, one.number)
        return (False, -one.values[0] if maximize else one.values[0], one.state != "COMPLETE", one.number)

    return sorted(trials, key=key)


def seconds_left(shown: Experiment, trials: Iterable[Trial], now: float) -> float | None:
    """How long until maxTrials, by the pace of the latest ends (of twice the parallelism, at least ten); None while
    too little has ended to say, when suspended and at the end. The time a trial takes past the last end counts, so
    a stall makes it longer instead of leaving it as it is."""
    if shown.ended or shown.suspend or shown.finished >= shown.max_trials:
        return None
    ends = sorted(one.ended for one in trials if one.ended is not None)
    window = ends[-max(2 * shown.parallelism, 10) :]
    if len(window) < 3:
        return None
    begin = shown.started if len(window) == len(ends) and shown.started is not None else window[0]
    count = len(window) if begin != window[0] else len(window) - 1
    elapsed = max(now - begin, 0.001)
    return (shown.max_trials - shown.finished) * elapsed / max(count, 1)
