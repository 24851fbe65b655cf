"""What comes after the search: each phase in its turn, run by the same loop as a study of its own (`engine.phases`).

The search's study is ended before, and stays so. A phase is begun by opening its study, then committing its plan, and
only then is a run asked for: whoever comes after a kill between two of these writes goes on from what is there.
"""

import dataclasses
from collections.abc import Callable

from kubetune.api import names, phases
from kubetune.api.spec import ExperimentSpec, Json
from kubetune.api.trial import Reason
from kubetune.controller import outcome
from kubetune.controller.act import Tools
from kubetune.controller.observe import Memory
from kubetune.controller.plan import Observed, Plan
from kubetune.controller.ports import ClusterUnavailable, Engine, Engines
from kubetune.engine import phases as plans
from kubetune.engine.winner import Winner
from kubetune.storage.base import KeptSpec

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
class Epilogue:
    """Where the experiment stands after its search. ``plan``: what is said of it all; ``seen``: what runs, or ran last;
    None: nothing did."""

    plan: Plan
    seen: Observed | None = None
    phase: Phase | None = None
    winner: Winner | None = None
    trouble: ClusterUnavailable | None = None


class Phases:
    """``loop``: brings one study and its Jobs together, as for the search; ``grace``: seconds after which a Job that is
    being deleted, and held, counts no more."""

    def __init__(self, engines: Engines, tools: Tools, loop: Loop, grace: float) -> None:
        self._engines = engines
        self._tools = tools
        self._loop = loop
        self._grace = grace

    def look(self, spec: ExperimentSpec, search: Engine, memory: Memory, last: Look) -> Epilogue | None:
        """After ``last``, a look at the search. None: the search goes on, or nothing comes after it."""
        if search.ended is None or last.plan.state not in _FINAL:
            return None
        begun = {names.phase_of(study.uid) for study in self._engines.phases(spec.uid)}
        if spec.finalists is None and not begun:
            return None
        if phases.FINALISTS not in begun:
            why = self._obstacle(spec, search, last)
            if why is not None:
                return why
        return self._finalists(spec, search, memory, last)

    def _obstacle(self, spec: ExperimentSpec, search: Engine, last: Look) -> Epilogue | None:
        """Why no phase begins, or not yet."""
        if last.plan.state == "Failed":
            return Epilogue(last.plan)
        over = spec.experiment_deadline is not None and self._tools.clock() >= search.started + spec.experiment_deadline
        if over:
            return Epilogue(_more(last.plan, f"deadline.experiment is over: {phases.FINALISTS} do not run"))
        if all(best.broken for best in search.best):
            return Epilogue(_more(last.plan, f"no feasible trial completed: {phases.FINALISTS} do not run"))
        if spec.suspend:
            said = f"{last.plan.message}; spec.suspend is set: {phases.FINALISTS} wait"
            return Epilogue(Plan((), "Suspended", Reason.SUSPENDED, said))
        if self._holds(last.seen):
            return Epilogue(Plan((), "Running", Reason.RUNNING, f"{last.plan.message}; its last pods are ending"))
        return None

    def _holds(self, seen: Observed) -> bool:
        """Jobs of what is over still hold slots."""
        now = self._tools.clock()
        jobs = [*seen.jobs, *(seen.crew.jobs if seen.crew else ())]
        return any(outcome.holds_slot(job, now, nodes_gone=seen.nodes_gone, grace=self._grace) for job in jobs)

    def _finalists(self, spec: ExperimentSpec, search: Engine, memory: Memory, last: Look) -> Epilogue:
        name = phases.FINALISTS
        plan = self._plan(spec, name, memory.of_phase(name, search.started), lambda: _finalists(spec, search))
        found, engine, total = self._run(spec, name, plan, memory)
        if engine.ended is None:
            return _running(name, found, total)
        if found.plan.state == "Failed":
            return dataclasses.replace(_ended(found), plan=_failed(found.plan, name))
        winner = plans.judge(spec, plan, self._engines.trials(names.phase_uid(spec.uid, name)))
        if winner is None:
            return dataclasses.replace(_ended(found), plan=_failed(found.plan, name))
        return dataclasses.replace(_ended(found), plan=_more(last.plan, winner.sentence), winner=winner)

    def _plan(self, spec: ExperimentSpec, name: str, memory: Memory, make: Callable[[], Json]) -> Json:
        """The phase's plan as committed; made and committed if it is not."""
        uid = names.phase_uid(spec.uid, name)
        if not memory.kept_read:
            memory.kept, memory.kept_read = self._engines.kept_spec(uid), True
        if memory.kept is None:
            kept = KeptSpec(spec.generation, make())
            self._engines.engine(plans.derive(spec, name, kept.spec))
            self._engines.keep_spec(uid, kept)
            memory.kept = kept
        return memory.kept.spec

    def _run(self, spec: ExperimentSpec, name: str, plan: Json, memory: Memory) -> tuple[Look, Engine, int]:
        derived = plans.derive(spec, name, plan)
        engine = self._engines.engine(derived)
        engine.update(derived)
        return self._loop(derived, engine, memory.phases[name]), engine, derived.max_trials


def _finalists(spec: ExperimentSpec, search: Engine) -> Json:
    return plans.plan_finalists(spec, search.top(spec.finalists.top if spec.finalists else 0))


def _running(name: str, found: Look, total: int) -> Epilogue:
    plan, finished = found.plan, found.seen.counts.finished
    state, reason = ("Running", Reason.RUNNING) if plan.state in ("Pending", *_FINAL) else (plan.state, plan.reason)
    said = f"{name}: {finished} of {total} runs have ended"
    shown = dataclasses.replace(plan, state=state, reason=reason, message=f"{said}; {plan.message}")
    return Epilogue(shown, found.seen, Phase(name, finished, total), trouble=found.trouble)


def _ended(found: Look) -> Epilogue:
    return Epilogue(found.plan, found.seen, trouble=found.trouble)


def _failed(plan: Plan, name: str) -> Plan:
    return dataclasses.replace(plan, state="Failed", reason=Reason.PHASE_FAILED, message=f"{name}: {plan.message}")


def _more(plan: Plan, said: str) -> Plan:
    return dataclasses.replace(plan, message=f"{plan.message}; {said}")
