"""What comes after the search: each phase in its turn, run by the same loop as a study of its own (`engine.phases`).

The search's study is ended before, and stays so. A phase is begun by opening its study, then committing its plan, and
only then is a run asked for: whoever comes after a kill between two of these writes goes on from what is there.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from kubetune.api import names, phases
from kubetune.api.spec import ExperimentSpec, Json
from kubetune.api.trial import Reason, TrialRow, TrialState
from kubetune.controller import outcome
from kubetune.controller.act import Tools
from kubetune.controller.observe import Memory
from kubetune.controller.plan import Observed, Plan
from kubetune.controller.ports import ClusterUnavailable, Engine, Engines
from kubetune.engine import phases as plans
from kubetune.engine.winner import Winner
from kubetune.storage.base import KeptSpec, Version

_FINAL = ("Complete", "Failed")


@dataclasses.dataclass(frozen=True)
class Look:
    """What one look at one study came to."""

    plan: Plan
    seen: Observed
    trouble: ClusterUnavailable | None = None


Loop = Callable[[ExperimentSpec, Engine, Memory], Look]


@dataclasses.dataclass(frozen=True)
class Phase:
    """The one that runs: how many of its runs have ended, of how many."""

    name: str
    finished: int
    total: int


@dataclasses.dataclass(frozen=True)
class Scoring:
    """A test's run. ``value`` None: it has ended without a score."""

    name: str  # of the phase
    value: float | None
    time: float  # seconds since the epoch
    message: str


@dataclasses.dataclass(frozen=True)
class Epilogue:
    """Where the experiment stands after its search. ``plan``: what is said of it all; ``seen``: what runs, or ran last;
    None: nothing did."""

    plan: Plan
    seen: Observed | None = None
    phase: Phase | None = None
    winner: Winner | None = None
    versions: tuple[Version, ...] = ()  # of refits that have come to their end
    scorings: tuple[Scoring, ...] = ()
    trouble: ClusterUnavailable | None = None


@dataclasses.dataclass(frozen=True)
class _Begun:
    """A phase that has begun, after a look at it."""

    name: str
    plan: Json
    look: Look
    ended: bool
    total: int
    rows: Sequence[TrialRow]  # of one that has ended

    @property
    def failed(self) -> bool:
        return self.look.plan.state == "Failed" or not any(row.state is TrialState.COMPLETE for row in self.rows)


@dataclasses.dataclass(frozen=True)
class _Search:
    """What the phases come after."""

    spec: ExperimentSpec
    engine: Engine
    memory: Memory
    last: Look


class Phases:
    """``loop``: brings one study and its Jobs together, as for the search; ``grace``: seconds after which a Job that is
    being deleted, and held, counts no more."""

    def __init__(self, engines: Engines, tools: Tools, loop: Loop, grace: float) -> None:
        self._engines = engines
        self._tools = tools
        self._loop = loop
        self._grace = grace

    def look(self, spec: ExperimentSpec, engine: Engine, memory: Memory, last: Look) -> Epilogue | None:
        """After ``last``, a look at the search. None: the search goes on, or nothing comes after it."""
        if engine.ended is None or last.plan.state not in _FINAL:
            return None
        search = _Search(spec, engine, memory, last)
        found: dict[str, _Begun] = {}
        for study in self._engines.phases(spec.uid):
            name = names.phase_of(study.uid)
            found[name] = self._look(search, name, found)
        for name in _wanted(spec, found):
            if any(not each.ended for each in found.values()):
                break
            if name not in found:
                why = self._obstacle(search, name, found)
                if why is not None:
                    return self._told(search, found, why)
                found[name] = self._look(search, name, found)
        return self._told(search, found, None) if found else None

    # ---- one phase

    def _look(self, search: _Search, name: str, found: Mapping[str, _Begun]) -> _Begun:
        """Begin it, if it is not begun, and let it go on."""
        spec, memory = search.spec, search.memory.of_phase(name, search.engine.started)
        plan = self._plan(search, name, memory, found)
        derived = plans.derive(spec, name, plan)
        engine = self._engines.engine(derived)
        engine.update(derived)
        look = self._loop(derived, engine, memory)
        ended = engine.ended is not None
        return _Begun(name, plan, look, ended, derived.max_trials, self._engines.trials(derived.uid) if ended else ())

    def _plan(self, search: _Search, name: str, memory: Memory, found: Mapping[str, _Begun]) -> Json:
        """The phase's plan as committed; made and committed if it is not."""
        spec, uid = search.spec, names.phase_uid(search.spec.uid, name)
        if not memory.kept_read:
            memory.kept, memory.kept_read = self._engines.kept_spec(uid), True
        if memory.kept is None:
            kept = KeptSpec(spec.generation, self._new_plan(search, name, found))
            self._engines.engine(plans.derive(spec, name, kept.spec))
            self._engines.keep_spec(uid, kept)
            memory.kept = kept
        return memory.kept.spec

    def _new_plan(self, search: _Search, name: str, found: Mapping[str, _Begun]) -> Json:
        spec, winner = search.spec, _winner(search.spec, found)
        once = {each.phase: each for each in (spec.refit, spec.test) if each is not None}.get(name)
        if phases.kind(name) == phases.FINALISTS:
            return plans.plan_finalists(spec, search.engine.top(spec.finalists.top if spec.finalists else 0))
        best = search.engine.best[0]
        trial, params = (best.number, best.params) if winner is None else (winner.trial, winner.params)
        once = once or phases.Once(name, {})  # its study was opened, and it was taken out of the spec before its plan
        model = self._model(spec, found) if phases.kind(name) == phases.TEST else None
        return plans.plan_once(spec, once, trial, params, model)

    def _model(self, spec: ExperimentSpec, found: Mapping[str, _Begun]) -> Version | None:
        """Of the refit that the spec asks for, else of the last one."""
        told = self._versions(spec, found)
        mine = [each for each in told if spec.refit is not None and each.phase == spec.refit.phase]
        return next(reversed(mine or told), None)

    def _versions(self, spec: ExperimentSpec, found: Mapping[str, _Begun]) -> list[Version]:
        refits = {each.name for each in found.values() if phases.kind(each.name) == phases.REFIT and not each.failed}
        return [each for each in self._engines.versions(spec.uid) if each.phase in refits] if refits else []

    # ---- all of them

    def _obstacle(self, search: _Search, name: str, found: Mapping[str, _Begun]) -> Plan | None:
        """What is said where a phase does not begin, or not yet."""
        spec, last = search.spec, search.last
        if last.plan.state == "Failed":
            return last.plan
        failed = next((each for each in _current(spec, found) if each.failed), None)
        if failed is not None:
            return _failed(failed)
        over = spec.experiment_deadline
        if over is not None and self._tools.clock() >= search.engine.started + over:
            return _more(last.plan, f"deadline.experiment is over: no {name} is run")
        if all(best.broken for best in search.engine.best):
            return _more(last.plan, f"no feasible trial completed: no {name} is run")
        if spec.suspend:
            return Plan((), "Suspended", Reason.SUSPENDED, f"{last.plan.message}; spec.suspend is set: {name} waits")
        if any(self._holds(each) for each in (last.seen, *(each.look.seen for each in found.values()))):
            return Plan((), "Running", Reason.RUNNING, f"{last.plan.message}; its last pods are ending")
        return None

    def _holds(self, seen: Observed) -> bool:
        """Jobs of what is over still hold slots."""
        now = self._tools.clock()
        jobs = [*seen.jobs, *(seen.crew.jobs if seen.crew else ())]
        return any(outcome.holds_slot(job, now, nodes_gone=seen.nodes_gone, grace=self._grace) for job in jobs)

    def _told(self, search: _Search, found: Mapping[str, _Begun], why: Plan | None) -> Epilogue:
        spec, begun = search.spec, list(found.values())
        goes_on = next((each for each in begun if not each.ended), None)
        winner = _winner(spec, found)
        shown = goes_on or (begun[-1] if begun else None)
        trouble = next((each.look.trouble for each in begun if each.look.trouble), None)
        return Epilogue(
            plan=_running(goes_on) if goes_on else why or _over(spec, search.last.plan, found, winner),
            seen=shown.look.seen if shown else None,
            phase=Phase(goes_on.name, goes_on.look.seen.counts.finished, goes_on.total) if goes_on else None,
            winner=winner,
            versions=tuple(self._versions(spec, found)),
            scorings=tuple(_scoring(each) for each in begun if each.ended and phases.kind(each.name) == phases.TEST),
            trouble=trouble,
        )


def _wanted(spec: ExperimentSpec, found: Mapping[str, _Begun]) -> list[str]:
    """In order. Who wins is settled once something is made of it."""
    settled = any(phases.kind(name) != phases.FINALISTS for name in found)
    first = [] if spec.finalists is None or settled else [phases.FINALISTS]
    return [*first, *(once.phase for once in (spec.refit, spec.test) if once is not None)]


def _current(spec: ExperimentSpec, found: Mapping[str, _Begun]) -> list[_Begun]:
    """The phases that count: the finalists, and what the spec asks for now."""
    asked = {once.phase for once in (spec.refit, spec.test) if once is not None}
    return [each for each in found.values() if each.ended and each.name in (phases.FINALISTS, *asked)]


def _winner(spec: ExperimentSpec, found: Mapping[str, _Begun]) -> Winner | None:
    """By the finalists' runs; None: there are none, or they have not ended."""
    finalists = found.get(phases.FINALISTS)
    if finalists is None or not finalists.ended or finalists.failed:
        return None
    return plans.judge(spec, finalists.plan, finalists.rows)


def _running(each: _Begun) -> Plan:
    plan, finished = each.look.plan, each.look.seen.counts.finished
    state, reason = ("Running", Reason.RUNNING) if plan.state in ("Pending", *_FINAL) else (plan.state, plan.reason)
    said = f"{each.name}: {finished} of {each.total} runs have ended"
    return dataclasses.replace(plan, state=state, reason=reason, message=f"{said}; {plan.message}")


def _over(spec: ExperimentSpec, plan: Plan, found: Mapping[str, _Begun], winner: Winner | None) -> Plan:
    """All that is asked for has ended."""
    current = _current(spec, found)
    failed = next((each for each in current if each.failed), None)
    if failed is not None:
        return _failed(failed)
    said = [winner.sentence] if winner else []
    said += [_once_is_enough(each) for each in current if _is_changed(spec, each)]
    return _more(plan, "; ".join(said)) if said else plan


def _is_changed(spec: ExperimentSpec, each: _Begun) -> bool:
    asked = {once.phase: once.form for once in (spec.refit, spec.test) if once is not None}
    return each.name in asked and asked[each.name] != each.plan["form"]


def _once_is_enough(each: _Begun) -> str:
    kind = phases.kind(each.name)
    done = "the test set was scored" if kind == phases.TEST else "the model was made"
    return f"spec.{kind} has changed since {done}, which happens once: give {kind}.name another name to do it again"


def _failed(each: _Begun) -> Plan:
    """Where it is a run that counts, its own message says why."""
    last = next((row for row in reversed(each.rows) if row.state is TrialState.FAIL), None)
    why = each.look.plan.message if last is None or each.total > 1 else f"{last.reason}: {last.message}"
    hint = "" if phases.kind(each.name) == phases.FINALISTS else f"; to try again, give {phases.kind(each.name)}.name"
    message = f"{each.name}: {why}{hint and hint + ' another name'}"
    return Plan((), "Failed", Reason.PHASE_FAILED, message, each.look.plan.again_in)


def _scoring(each: _Begun) -> Scoring:
    row = each.rows[0] if each.rows else None
    if row is None:
        return Scoring(each.name, None, 0.0, each.look.plan.message)
    return Scoring(each.name, row.values[0] if row.values else None, row.ended or 0.0, row.message)


def _more(plan: Plan, said: str) -> Plan:
    return dataclasses.replace(plan, message=f"{plan.message}; {said}")
