"""Phases that have begun, and what follows from them and the spec: which come next, who wins, what is said. Pure."""

import dataclasses
from collections.abc import Mapping, Sequence

from kubetune.api import phases
from kubetune.api.spec import ExperimentSpec, Json
from kubetune.api.trial import Best, Reason, TrialRow, TrialState
from kubetune.controller.plan import Observed, Plan
from kubetune.controller.ports import ClusterUnavailable
from kubetune.engine import phases as plans
from kubetune.engine.winner import Winner
from kubetune.storage.base import Version

FINAL = ("Complete", "Failed")
WHY = 600  # characters of why a phase failed: what to do about it is said too


@dataclasses.dataclass(frozen=True)
class Look:
    """What one look at one study came to."""

    plan: Plan
    seen: Observed
    trouble: ClusterUnavailable | None = None


@dataclasses.dataclass(frozen=True)
class Phase:
    """The one that runs, or that failed so that nothing more begins: how many of its runs have ended, of how many."""

    name: str
    finished: int
    total: int
    failed: bool = False


@dataclasses.dataclass(frozen=True)
class Scoring:
    """A test's run. ``value`` None: it has ended without a score; ``seen``: it had reported something else before, so
    the test set was looked at."""

    name: str  # of the phase
    value: float | None
    time: float  # seconds since the epoch
    message: str
    seen: bool = False


@dataclasses.dataclass(frozen=True)
class Begun:
    """A phase that has begun, after a look at it."""

    name: str
    plan: Json
    look: Look
    ended: bool
    total: int
    rows: Sequence[TrialRow]  # of one that has ended

    @property
    def kind(self) -> str:
        return phases.kind(self.name)

    @property
    def failed(self) -> bool:
        if not self.ended:
            return False
        return self.look.plan.state == "Failed" or not any(row.state is TrialState.COMPLETE for row in self.rows)

    @property
    def well(self) -> bool:
        return self.ended and not self.failed


def wanted(spec: ExperimentSpec, found: Mapping[str, Begun]) -> list[str]:
    """In order. Who wins is settled once something is made of it."""
    settled = _is_settled(found)
    return [name for name in spec.after if not (settled and phases.kind(name) == phases.FINALISTS)]


def _is_settled(found: Mapping[str, Begun]) -> bool:
    """There is a model of the winner, or a score, or one is being made."""
    return any(each.kind != phases.FINALISTS and not each.failed for each in found.values())


def _current(spec: ExperimentSpec, found: Mapping[str, Begun]) -> list[Begun]:
    """The phases that count: those that the spec asks for now, and that have ended."""
    return [each for each in found.values() if each.ended and each.name in spec.after]


def failure(spec: ExperimentSpec, found: Mapping[str, Begun]) -> Begun | None:
    return next((each for each in _current(spec, found) if each.failed), None)


def winner_of(spec: ExperimentSpec, found: Mapping[str, Begun]) -> Winner | None:
    """By the finalists' runs: those that the spec asks for, else the last ones; None: there are none that have ended
    well."""
    ended = [each for each in found.values() if each.kind == phases.FINALISTS and each.well]
    asked = [each for each in ended if each.name in spec.after]
    last = next(reversed(asked or ended), None)
    return None if last is None else plans.judge(spec, last.plan, last.rows)


def phase_of(each: Begun | None) -> Phase | None:
    if each is None:
        return None
    return Phase(each.name, each.look.seen.counts.finished, each.total, each.failed)


def running(each: Begun) -> Plan:
    plan, finished = each.look.plan, each.look.seen.counts.finished
    state, reason = ("Running", Reason.RUNNING) if plan.state in ("Pending", *FINAL) else (plan.state, plan.reason)
    said = f"{each.name}: {finished} of {each.total} runs have ended"
    return dataclasses.replace(plan, state=state, reason=reason, message=f"{said}; {plan.message}")


def over(spec: ExperimentSpec, plan: Plan, found: Mapping[str, Begun], winner: Winner | None) -> Plan:
    """All that is asked for has ended."""
    said = [winner.sentence] if winner else []
    said += [_once_is_enough(each) for each in _current(spec, found) if _is_changed(spec, each)]
    if spec.finalists is not None and spec.finalists.phase not in found:
        said.append(f"{spec.finalists.phase} came too late and is not run: a model or a score was made of the winner")
    return more(plan, "; ".join(said)) if said else plan


def _is_changed(spec: ExperimentSpec, each: Begun) -> bool:
    asked = {once.phase: once.form for once in (spec.refit, spec.test) if once is not None}
    return each.name in asked and asked[each.name] != each.plan["form"]


def _once_is_enough(each: Begun) -> str:
    kind = each.kind
    done = "the test set was scored" if kind == phases.TEST else "the model was made"
    return f"spec.{kind} has changed since {done}, which happens once: give {kind}.name another name to do it again"


def failed(spec: ExperimentSpec, each: Begun, kept: str) -> Plan:
    """Why (where it is a run that counts, by its own message), what the result is meanwhile, and the way on."""
    last = next((row for row in reversed(each.rows) if row.state is TrialState.FAIL), None)
    why = each.look.plan.message if last is None or each.total > 1 else f"{last.reason}: {last.message}"
    said = f"{each.name}: {why[:WHY]}; {kept}; {_way_on(spec, each)}"
    return Plan((), "Failed", Reason.PHASE_FAILED, said, each.look.plan.again_in)


def kept(spec: ExperimentSpec, best: Best, winner: Winner | None, model: Version | None) -> str:
    """What the result is where a phase failed. ``best``: of the search; ``model``: of the refit, where it went well."""
    if winner is None:
        said = f"the search's best is kept: trial {best.number}, {spec.objectives[0].metric} = {best.values[0]:.6g}"
    else:
        said = f"the winner is kept: trial {winner.trial}"
    return said if model is None else f"{said}, its model is version {model.number}"


def _way_on(spec: ExperimentSpec, each: Begun) -> str:
    if each.kind == phases.TEST and scoring(each).seen:
        return (
            "it had reported, so the test set was looked at; to look again, ask by name: "
            f"kubectl tune test {spec.name} --again second-look"
        )
    without = ", or leave finalists out to go on with the search's best" if each.kind == phases.FINALISTS else ""
    return f"to try again: kubectl tune retry {spec.name}, or give {each.kind}.name another name{without}"


def scoring(each: Begun) -> Scoring:
    row = each.rows[0] if each.rows else None
    if row is None:
        return Scoring(each.name, None, 0.0, each.look.plan.message)
    value = row.values[0] if row.values else None
    return Scoring(each.name, value, row.ended or 0.0, row.message, value is None and bool(row.last_metrics))


def more(plan: Plan, said: str) -> Plan:
    return dataclasses.replace(plan, message=f"{plan.message}; {said}")
