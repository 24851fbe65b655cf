"""The status of an Experiment: a summary of bounded size, the same facts always the same JSON. Pure.

docs/status.md says what each field means.
"""

import collections
import dataclasses
import datetime
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from kubetune.api import names, narrow
from kubetune.api.checkpoints import Taken
from kubetune.api.insight import AdviceKind, Insight
from kubetune.api.spec import ExperimentSpec, InvalidSpec, Json
from kubetune.api.stages import Current
from kubetune.api.stop import Regret
from kubetune.api.trial import Best, Reason
from kubetune.controller import jobs
from kubetune.controller.observe import RefusedSpec
from kubetune.controller.plan import Apart, Crew, JobPhase, JobView, Observed, Plan

FRONT = 20  # trials of a Pareto front shown
NARROWER = 16  # parameters whose narrower range is shown
RUNS = 50  # of the best trial shown
IMPORTANT = 5  # parameters whose importance is shown
EFFECT = 200  # characters
TEXT = 1024  # characters of a message
SIZE = 16 * 1024  # bytes of the whole; where it would be larger,
SHORT = 100  # bytes of a condition's message, and
VALUE = 32  # of a parameter's value
_FINAL = ("Complete", "Failed")
FEASIBLE = "Feasible"
WINNER = "Winner"
_TYPES = ("Running", "Suspended", "Complete", "Failed", "Invalid", "SamplerFailed", FEASIBLE, WINNER, *AdviceKind)
_NO_FAILURES = frozenset(
    {Reason.COMPLETED, Reason.PRUNED, Reason.NOT_PROMOTED, Reason.STOPPED, Reason.EXPERIMENT_ENDED}
)


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the engine adds to `Observed`."""

    study: str
    best: Sequence[Best] = ()
    saved_steps: tuple[int, int] = (0, 0)  # (of all ended trials, what pruned ones would have taken more)
    insight: Insight = dataclasses.field(default_factory=Insight)
    infeasible: int = 0  # COMPLETE trials that break a constraint
    sampler: tuple[str, str] = ("", "")  # the one in use, and why it was picked ("": it was named)
    unanswered: tuple[int, str] | None = None  # how often in a row the sampler failed, and why
    warm: int = 0  # trials of other experiments that the sampler began with
    stage: Current | None = None
    regret: Regret | None = None
    after: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # fields about what comes after the search


@dataclasses.dataclass(frozen=True)
class Told:
    """What a condition says."""

    reason: str
    message: str
    generation: int


def status(
    spec: ExperimentSpec,
    plan: Plan,
    seen: Observed,
    facts: Facts,
    previous: Mapping[str, Any] | None,
    now: float,
    refused: RefusedSpec | None = None,
) -> Json:
    """The whole status after ``plan``.

    Args:
        spec: the one in force.
        previous: the status before, for the times at which conditions changed.
        refused: the resource's own spec, if it is not the one in force.
    """
    past, told = previous or {}, Told(str(plan.reason), plan.message, spec.generation)
    true, message = {_type(plan.state): told}, plan.message
    if refused is not None:
        invalid = Told(str(Reason.INVALID_SPEC), refusal(refused, spec), refused.generation)
        true["Invalid"], message = invalid, f"{message}; {invalid.message}"
    kept, untrue = _feasible(spec, facts, seen.counts.complete)
    true |= kept | _won(spec, facts.after)
    if facts.unanswered is not None:
        times, why = facts.unanswered
        name = facts.sampler[0] or spec.sampler.name
        failed = f"{name} gave no parameters, {times} times in a row; it is asked again: {why}"
        true["SamplerFailed"] = Told("SamplerFailed", failed, spec.generation)
    for advice in facts.insight.advice:
        true[advice.kind] = Told("Advice", advice.message, spec.generation)
    apart = seen.stirring
    current = _current(apart)
    result: Json = {
        "state": plan.state,
        "reason": str(plan.reason),
        "message": message[:TEXT],
        "observedGeneration": spec.generation,
        "conditions": _conditions(true, told, past, now, untrue),
        "study": facts.study,
        "counts": {
            "total": seen.counts.total,
            "running": seen.counts.running,
            "pending": sum(_waits(current.get(number)) for number in apart.rows),
            "complete": seen.counts.complete,
            "pruned": seen.counts.pruned,
            "failed": seen.counts.failed,
            "lostAttempts": seen.counts.lost_attempts,
            **({"paused": seen.counts.paused} if seen.more_legs else {}),
            **({"infeasible": facts.infeasible} if spec.constraints else {}),
            **({"warm": facts.warm} if spec.warm_start else {}),
        },
        "active": in_flight(seen),
        "finished": seen.counts.finished,
        "progress": f"{seen.counts.finished}/{spec.max_trials}",
        "parallelism": dict(zip(("current", "reason"), parallelism(spec, plan, seen), strict=True)),
        "selector": jobs.selector(spec),
    }
    if seen.crew is not None:
        result["execution"] = _execution(seen.crew)
    result |= _search(spec, facts)
    if seen.started is not None:
        result["startTime"] = timestamp(seen.started)
    if plan.state in _FINAL:
        result["completionTime"] = past.get("completionTime") or timestamp(now)
    taken = spec.init_checkpoint.taken if spec.init_checkpoint else None
    if taken is not None:
        result["initCheckpoint"] = _taken(taken)
    if facts.best:
        result |= _found(spec, facts.best)
    result |= facts.after
    done, saved = facts.saved_steps
    if saved:
        result["saved"] = {"steps": saved, "share": round(saved / (saved + done), 3)}
    shares = list(facts.insight.importances.items())[:IMPORTANT]
    lists = {
        "importances": [_important(name, share, facts.insight.effects.get(name)) for name, share in shares],
        "failures": _failures(seen.recent_failures),
    }
    return _bounded(result | {field: entries for field, entries in lists.items() if entries})


def _taken(taken: Taken) -> Json:
    """The checkpoint that every trial starts from."""
    one, phase = taken.checkpoint, names.phase_of(taken.uid)
    told = {"phase": phase} if phase else {"trial": one.trial}
    return {"experiment": taken.source, **told, "step": one.step, "digest": one.digest}


def _important(name: str, share: float, effect: str | None) -> Json:
    told = {} if effect is None else {"effect": effect[:EFFECT]}
    return {"parameter": name, "share": round(share, 3), **told}


def invalid(error: InvalidSpec, generation: int, previous: Mapping[str, Any] | None, now: float) -> Json:
    """The status where no spec can be run, nor an earlier one: what was known stays, and what to do is said."""
    told = Told(str(Reason.INVALID_SPEC), str(error), generation)
    return _without("Invalid", told, {"Invalid": told}, previous or {}, now)


def awaiting(error: InvalidSpec, generation: int, previous: Mapping[str, Any] | None, now: float) -> Json:
    """The same where what the spec names may come by itself."""
    return _without("Pending", Told(str(Reason.AWAITING), error.message, generation), {}, previous or {}, now)


def _without(state: str, told: Told, true: Mapping[str, Told], previous: Mapping[str, Any], now: float) -> Json:
    kept = {key: value for key, value in previous.items() if key != "completionTime"}
    return _bounded(
        {
            **kept,
            "state": state,
            "reason": told.reason,
            "message": told.message[:TEXT],
            "observedGeneration": told.generation,
            "conditions": _conditions(true, told, previous, now),
        }
    )


def size(body: Json | str) -> int:
    """Bytes as the API server keeps it."""
    return len(json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode())


def _bounded(body: Json) -> Json:
    """The status within `SIZE`, however long names, values and messages are: the front shows fewer trials; if that is
    not enough, messages and values are cut."""
    front = body.pop("front", [])
    if size(body) > SIZE:
        body["message"] = _cut(body["message"], TEXT)
        body["conditions"] = [{**each, "message": _cut(each["message"], SHORT)} for each in body["conditions"]]
    for field in ("best", "winner", "model") if size(body) > SIZE else ():
        if field in body:
            shown = {name: _cut(value, VALUE) for name, value in body[field]["parameters"].items()}
            body[field] = {**body[field], "parameters": shown}
    left = SIZE - size(body) - len(',"front":[]')
    for count, best in enumerate(front, start=1):
        left -= size(best) + 1
        if left < 0:
            break
        body["front"] = front[:count]
    return body


def _cut(text: str, limit: int) -> str:
    """So much of it that its JSON takes at most ``limit`` bytes."""
    if size(text) <= limit:
        return text
    cut = text[:limit]
    while size(f"{cut}…") > limit:
        cut = cut[: -max(1, len(cut) // 16)]
    return f"{cut}…"


def refusal(refused: RefusedSpec, spec: ExperimentSpec) -> str:
    """What is said of a spec that cannot be run, beside the one in force."""
    return f"{refused.error}; until that is mended the experiment goes on with the spec of generation {spec.generation}"


def invalid_generation(status: Mapping[str, Any] | None) -> int | None:
    """The generation that a status calls invalid."""
    for condition in (status or {}).get("conditions") or ():
        if condition["type"] == "Invalid" and condition["status"] == "True":
            return int(condition["observedGeneration"])
    return None


def in_flight(seen: Observed) -> int:
    """Trials that have a Job which has not ended."""
    apart = seen.stirring
    return len(apart.steady) + sum(_is_live(job) for job in _current(apart).values())


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC, whole seconds, as Kubernetes writes it."""
    return datetime.datetime.fromtimestamp(math.floor(seconds), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _execution(crew: Crew) -> Json:
    """Where trials run. ``workers``: those whose Job has not ended."""
    live = sum(_is_live(job) and not job.deleting for job in crew.jobs)
    return {"mode": crew.mode, **({"reason": crew.why[:TEXT]} if crew.why else {}), "workers": live}


def _search(spec: ExperimentSpec, facts: Facts) -> Json:
    """The sampler, if it was picked, the stage, if there are any, and what is left to gain, if that is asked for."""
    picked = {"sampler": dict(zip(("name", "reason"), facts.sampler, strict=True))} if facts.sampler[1] else {}
    regret = {"regretBound": _regret(facts.regret)} if facts.regret else {}
    return picked | ({"stage": _stage(facts.stage, len(spec.stages))} if facts.stage else {}) | regret


def _stage(stage: Current, count: int) -> Json:
    """The search under way, and what is narrower than declared: as much of it as fits."""
    space = [f"{name}: {narrow.words(each)}" for name, each in stage.space.items()]
    shown = [_cut(line, SHORT) for line in space[:NARROWER]]
    return {
        "name": stage.name,
        "number": stage.number,
        "of": count,
        "sampler": stage.sampler,
        "firstTrial": stage.first,
        "maxTrials": stage.max_trials,
        **({"space": shown} if shown else {}),
    }


def _regret(regret: Regret) -> Json:
    figures = {"bound": regret.bound, "below": regret.below}
    known = {name: value for name, value in figures.items() if value is not None and math.isfinite(value)}
    return {**known, "trials": regret.complete, "message": _cut(regret.sentence, TEXT)}


def _current(apart: Apart) -> dict[int, JobView]:
    """The Jobs of current attempts, by trial number; without the steady ones."""
    rows = apart.rows
    return {
        job.number: job
        for job in apart.jobs
        if (row := rows.get(job.number)) is not None and row.attempt == job.attempt
    }


def _is_live(job: JobView) -> bool:
    return job.phase in (JobPhase.PENDING, JobPhase.RUNNING)


def _waits(job: JobView | None) -> bool:
    return job is None or job.phase is JobPhase.PENDING


def _type(state: str) -> str:
    """The condition that a state is."""
    return "Running" if state == "Stopping" else state


def _feasible(spec: ExperimentSpec, facts: Facts, complete: int) -> tuple[dict[str, Told], dict[str, Told]]:
    """Whether a trial keeps all constraints, and how many do; else how near the nearest comes: the condition, as one
    that holds, or as one that does not."""
    if not spec.constraints or not facts.best:
        return {}, {}
    best = facts.best[0]
    if not best.broken:
        message = f"{complete - facts.infeasible} of {complete} complete trials keep all constraints"
        return {FEASIBLE: Told("FeasibleTrials", message, spec.generation)}, {}
    nearest = ", ".join(f"{name} by {excess:.6g}" for name, excess in best.broken.items())
    message = f"none of {complete} complete trials keeps all constraints; trial {best.number} is nearest: {nearest}"
    return {}, {FEASIBLE: Told("NoFeasibleTrial", message, spec.generation)}


def _won(spec: ExperimentSpec, after: Mapping[str, Any]) -> dict[str, Told]:
    """That there is a winner by fresh runs, and whether it can be told from the next one."""
    winner = after.get("winner")
    if winner is None:
        return {}
    reason = {None: "OnlyOne", True: "Distinguishable", False: "NotDistinguishable"}[winner.get("distinguishable")]
    return {WINNER: Told(reason, winner["sentence"], spec.generation)}


def _conditions(
    true: Mapping[str, Told],
    otherwise: Told,
    past: Mapping[str, Any],
    now: float,
    untrue: Mapping[str, Told] | None = None,
) -> list[Json]:
    """`Running` always; another type from its first True on, `False` when it holds no more.

    Args:
        otherwise: what is said of those that do not hold.
        untrue: those that are said not to hold from the first, and what is said of them.
    """
    known_untrue = untrue or {}
    before = {condition["type"]: condition for condition in past.get("conditions") or ()}
    conditions = []
    for kind in _TYPES:
        if kind not in true and kind not in known_untrue and kind != "Running" and kind not in before:
            continue
        holds = "True" if kind in true else "False"
        told = true.get(kind) or known_untrue.get(kind) or _not(kind, otherwise)
        known = before.get(kind) or {}
        since = known.get("lastTransitionTime") if known.get("status") == holds else None
        conditions.append(
            {
                "type": kind,
                "status": holds,
                "reason": told.reason,
                "message": told.message[:TEXT],
                "observedGeneration": told.generation,
                "lastTransitionTime": since or timestamp(now),
            }
        )
    return conditions


def _not(kind: str, otherwise: Told) -> Told:
    """What is said of a condition that does not hold (any more)."""
    if kind == "SamplerFailed":
        return Told("Answered", "the sampler gives parameters again", otherwise.generation)
    if kind in list(AdviceKind):
        return Told("NotSeen", "later trials do not show it any more", otherwise.generation)
    return otherwise


def parallelism(spec: ExperimentSpec, plan: Plan, seen: Observed) -> tuple[int, str]:
    """How many trials may be in flight, and why so many."""
    if plan.state in ("Stopping", *_FINAL):
        return 0, str(plan.reason)
    if spec.suspend:
        return 0, str(Reason.SUSPENDED)
    if seen.force is None:
        return spec.parallelism, str(Reason.SPEC)
    return seen.force.current, str(seen.force.reason)


def _found(spec: ExperimentSpec, best: Sequence[Best]) -> Json:
    """The best trial; of several objectives, the front too."""
    front = {"front": [_best(spec, each) for each in best[:FRONT]], "frontSize": len(best)}
    return {"best": _best(spec, best[0]), **(front if len(spec.objectives) > 1 else {})}


def _best(spec: ExperimentSpec, best: Best) -> Json:
    metrics = {
        objective.metric: value
        for objective, value in zip(spec.objectives, best.values, strict=True)
        if math.isfinite(value)  # JSON has no infinity
    }
    result: Json = {
        "trial": best.number,
        "value": ", ".join(f"{value:.6g}" for value in best.values),
        "metrics": metrics,
        "parameters": {name: jobs.text(value) for name, value in best.params.items()},
    }
    if best.runs and len(spec.objectives) == 1:
        result |= _runs(best.runs)
    if spec.constraints:
        result["feasible"] = not best.broken
    broken = {name: excess for name, excess in best.broken.items() if math.isfinite(excess)}
    return result | ({"broken": broken} if broken else {})


def _runs(runs: Sequence[float]) -> Json:
    """What a value is the mean of, and its standard deviation."""
    known = all(map(math.isfinite, runs))
    spread = {"spread": statistics.stdev(runs)} if known and len(runs) > 1 else {}
    return {"runs": list(runs[:RUNS]) if known else [], **spread}


def _failures(recent: Sequence[Reason]) -> list[Json]:
    counts = collections.Counter(str(reason) for reason in recent if reason not in _NO_FAILURES)
    return [{"reason": reason, "count": count} for reason, count in sorted(counts.items())]
