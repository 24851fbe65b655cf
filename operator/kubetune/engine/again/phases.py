"""What came after a search decided again: who is run again and with which seeds, the runs themselves, who won, and with
which parameters and model the refit and the test were run.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from kubetune.api import phases
from kubetune.api.phases import FINALISTS, REFIT, TEST, Finalists, Once
from kubetune.api.spec import ExperimentSpec, Json, Params
from kubetune.api.trial import Best, TrialState
from kubetune.engine import phases as plans
from kubetune.engine import searching
from kubetune.engine.again.study import Study, Verdict, past
from kubetune.engine.again.whole import replay
from kubetune.engine.history import History, Past
from kubetune.engine.winner import Winner
from kubetune.storage.base import Version


@dataclasses.dataclass(frozen=True)
class Phase:
    """``plan``: as it was committed when the phase began. ``study``: its record, with the search's spec. ``told``: the
    winner as people were told of it; None: they were not."""

    name: str
    plan: Json
    study: Study
    told: Json | None = None

    @property
    def spec(self) -> ExperimentSpec:
        """Its own."""
        return plans.derive(self.study.spec, self.name, self.plan)

    @property
    def went_well(self) -> bool:
        """All of its runs."""
        return all(each.row.state is TrialState.COMPLETE for each in self.study.trials)


def replay_phase(search: Study, before: Sequence[Phase], phase: Phase, versions: Sequence[Version]) -> Verdict:
    """``before``: phases that had begun before it. Raises InvalidSpec, as `replay` does."""
    verdict = replay(dataclasses.replace(phase.study, spec=phase.spec))
    which = phases.kind(phase.name)
    spec = dataclasses.replace(search.spec, seed=_seed(phase))
    if which == FINALISTS:
        _same(verdict, "plan", phase.plan, _finalists(spec, search, phase))
        _winner(verdict, phase)
        return verdict
    once = Once(phase.name, phase.plan["form"])
    wanted = [_core(plans.plan_once(spec, once, *each, None)) for each in _chosen(search, before)]
    _same(verdict, "plan", _core(phase.plan), _one_of(wanted, _core(phase.plan)))
    if which == TEST:
        _model(verdict, before, phase.plan, versions)
    return verdict


def judge(phase: Phase) -> Winner | None:
    """Who won by the finalists' runs."""
    return plans.judge(phase.study.spec, phase.plan, [each.row for each in phase.study.trials])


def told(winner: Winner) -> Json:
    """As the record has it."""
    low, high = winner.interval or (None, None)
    return {
        "trial": winner.trial,
        "mean": winner.mean,
        "low": low,
        "high": high,
        "runs": winner.runs,
        "runnerUp": winner.runner_up,
        "p": winner.p,
        "sentence": winner.sentence,
    }


def _seed(phase: Phase) -> int | None:
    """In force when it began."""
    searches = [each.detail["seed"] for each in phase.study.steering if each.kind == searching.SEARCH]
    return searches[0] if searches else phase.study.spec.seed


def _finalists(spec: ExperimentSpec, search: Study, phase: Phase) -> Json:
    history = _whole(search)
    asked = Finalists(len(phase.plan["sets"]), len(phase.plan["seeds"]), phase.name)
    best = [_best(history[number]) for number in history.top(asked.top)]
    return plans.plan_finalists(dataclasses.replace(spec, finalists=asked), best)


def _chosen(search: Study, before: Sequence[Phase]) -> list[tuple[int, Params]]:
    """The winner of the finalists; without them, or where not all of their runs went well and they may have failed, the
    best of the search. Of several finalists it is not on record which were asked for then: the last ones first."""
    finalists = [each for each in reversed(before) if phases.kind(each.name) == FINALISTS]
    winners = [judge(each) for each in finalists]
    found = [(winner.trial, winner.params) for winner in winners if winner is not None]
    if all(each.went_well for each in finalists) and found:
        return found
    history = _whole(search)
    best = history[history.front.numbers[0]]
    return [*found, (best.number, best.params)]


def _core(plan: Json) -> Json:
    """What is decided of it; the rest is as people wrote it."""
    return {"sets": plan["sets"], "seeds": plan["seeds"]}


def _model(verdict: Verdict, before: Sequence[Phase], plan: Json, versions: Sequence[Version]) -> None:
    """One that a refit before it had told of; none, if there was none."""
    refits = {each.name for each in before if phases.kind(each.name) == REFIT and each.went_well}
    known = [
        {"version": each.number, "address": each.address, "digest": each.digest}
        for each in versions
        if each.phase in refits
    ]
    kept = plan.get("model")
    _same(verdict, "model", kept, _one_of(known[::-1], kept))


def _one_of(possible: Sequence[Json], recorded: Json | None) -> Json | None:
    """As recorded, if that may be; else the first."""
    return recorded if recorded in possible else next(iter(possible), None)


def _winner(verdict: Verdict, phase: Phase) -> None:
    if phase.told is None:
        return
    found = judge(phase)
    now: Mapping[str, object] = {} if found is None else told(found)
    _same(verdict, "winner", phase.told, {name: now.get(name) for name in phase.told})


def _same(verdict: Verdict, what: str, recorded: object, now: object) -> None:
    if recorded == now:
        verdict.plans += 1
    else:
        verdict.differs(f"{what}: {recorded} in the record, {now} now")


def _whole(search: Study) -> History:
    """All of the search."""
    spec = search.spec
    history = History(spec.objectives, spec.parameters, [each.name for each in spec.constraints])
    history.load(past(each) for each in sorted(search.trials, key=lambda each: each.row.number))
    return history


def _best(trial: Past) -> Best:
    broken = {name: excess for name, excess in (trial.constraints or {}).items() if excess > 0}
    return Best(trial.number, trial.values or (), trial.params, broken)
