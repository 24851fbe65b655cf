"""What comes after the search: each phase in its turn, run by the same loop as a study of its own (`engine.phases`).

The search's study is ended before, and stays so. A phase is begun by opening its study, then committing its plan, and
only then is a run asked for: whoever comes after a kill between two of these writes goes on from what is there.
"""

import dataclasses
from collections.abc import Callable, Mapping

from kubetune.api import names, phases
from kubetune.api.spec import ExperimentSpec, Json
from kubetune.api.trial import Reason
from kubetune.controller import begun, outcome
from kubetune.controller.act import Tools
from kubetune.controller.begun import FINAL, Begun, Look, Phase, Scoring
from kubetune.controller.observe import Memory
from kubetune.controller.plan import Observed, Plan
from kubetune.controller.ports import ClusterUnavailable, Engine, Engines
from kubetune.engine import phases as plans
from kubetune.engine.winner import Winner
from kubetune.storage.base import KeptSpec, Version

Loop = Callable[[ExperimentSpec, Engine, Memory], Look]


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
        if engine.ended is None or last.plan.state not in FINAL:
            return None
        search = _Search(spec, engine, memory, last)
        found: dict[str, Begun] = {}
        for study in self._engines.phases(spec.uid):
            name = names.phase_of(study.uid)
            found[name] = self._look(search, name, found)
        for name in begun.wanted(spec, found):
            if any(not each.ended for each in found.values()):
                break
            if name not in found:
                why = self._obstacle(search, name, found)
                if why is not None:
                    return self._told(search, found, why)
                found[name] = self._look(search, name, found)
        return self._told(search, found, None) if found else None

    # ---- one phase

    def _look(self, search: _Search, name: str, found: Mapping[str, Begun]) -> Begun:
        """Begin it, if it is not begun, and let it go on."""
        spec, memory = search.spec, search.memory.of_phase(name, search.engine.started)
        plan = self._plan(search, name, memory, found)
        derived = plans.derive(spec, name, plan)
        engine = self._engines.engine(derived)
        engine.update(derived)
        look = self._loop(derived, engine, memory)
        ended = engine.ended is not None
        return Begun(name, plan, look, ended, derived.max_trials, self._engines.trials(derived.uid) if ended else ())

    def _plan(self, search: _Search, name: str, memory: Memory, found: Mapping[str, Begun]) -> Json:
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

    def _new_plan(self, search: _Search, name: str, found: Mapping[str, Begun]) -> Json:
        spec, winner = search.spec, begun.winner_of(search.spec, found)
        once = {each.phase: each for each in (spec.refit, spec.test) if each is not None}.get(name)
        if phases.kind(name) == phases.FINALISTS:
            # Its study was opened, and it may have been given another name, or taken out of the spec, before its plan.
            asked = dataclasses.replace(spec.finalists or phases.Finalists(3, 5), phase=name)
            return plans.plan_finalists(dataclasses.replace(spec, finalists=asked), search.engine.top(asked.top))
        best = search.engine.best[0]
        trial, params = (best.number, best.params) if winner is None else (winner.trial, winner.params)
        once = once or phases.Once(name, {})  # its study was opened, and it was taken out of the spec before its plan
        model = self._model(spec, found) if phases.kind(name) == phases.TEST else None
        return plans.plan_once(spec, once, trial, params, model)

    def _model(self, spec: ExperimentSpec, found: Mapping[str, Begun]) -> Version | None:
        """Of the refit that the spec asks for, else of the last one."""
        told = self._versions(spec, found)
        mine = [each for each in told if spec.refit is not None and each.phase == spec.refit.phase]
        return next(reversed(mine or told), None)

    def _versions(self, spec: ExperimentSpec, found: Mapping[str, Begun]) -> list[Version]:
        refits = {each.name for each in found.values() if each.kind == phases.REFIT and each.well}
        return [each for each in self._engines.versions(spec.uid) if each.phase in refits] if refits else []

    # ---- all of them

    def _obstacle(self, search: _Search, name: str, found: Mapping[str, Begun]) -> Plan | None:
        """What is said where a phase does not begin, or not yet."""
        spec, last = search.spec, search.last
        if last.plan.state == "Failed":
            return last.plan
        failed = begun.failure(spec, found)
        if failed is not None:
            return self._failed(search, found, failed)
        over = spec.experiment_deadline
        if over is not None and self._tools.clock() >= search.engine.started + over:
            return begun.more(last.plan, f"deadline.experiment is over: no {name} is run; a longer one has it run")
        if all(best.broken for best in search.engine.best):
            return begun.more(last.plan, f"no feasible trial completed: no {name} is run")
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

    def _told(self, search: _Search, found: Mapping[str, Begun], why: Plan | None) -> Epilogue:
        spec, them = search.spec, list(found.values())
        goes_on = next((each for each in them if not each.ended), None)
        winner, stuck = begun.winner_of(spec, found), None if goes_on else begun.failure(spec, found)
        shown = goes_on or (them[-1] if them else None)
        if goes_on:
            plan = begun.running(goes_on)
        elif why is None and stuck is not None:
            plan = self._failed(search, found, stuck)
        else:
            plan = why or begun.over(spec, search.last.plan, found, winner)
        return Epilogue(
            plan=plan,
            seen=shown.look.seen if shown else None,
            phase=begun.phase_of(goes_on or stuck),
            winner=winner,
            versions=tuple(self._versions(spec, found)),
            scorings=tuple(begun.scoring(each) for each in them if each.ended and each.kind == phases.TEST),
            trouble=next((each.look.trouble for each in them if each.look.trouble), None),
        )

    def _failed(self, search: _Search, found: Mapping[str, Begun], each: Begun) -> Plan:
        model = self._model(search.spec, found) if each.kind == phases.TEST else None
        kept = begun.kept(search.spec, search.engine.best[0], begun.winner_of(search.spec, found), model)
        return begun.failed(search.spec, each, kept)
