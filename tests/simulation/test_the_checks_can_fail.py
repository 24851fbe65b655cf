"""The simulator finds what is broken on purpose: each mutation of the loop breaks an invariant, and is caught by it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from kubetune.api.trial import Reason, TrialState
from kubetune.controller import decide, jobs, outcome, reconcile
from kubetune.controller.plan import Ask, CreateJob, DeleteJob, End, Finish, NewAttempt, Observed, Plan, Promote
from kubetune.engine.engine import Engine
from kubetune.simulator.run import simulate
from kubetune.simulator.scenario import Scenario, draw, experiment, in_legs
from kubetune.simulator.violation import Violation
from kubetune.storage.memory import MemoryStorage
from tests.simulation.test_legs import calm

RUNS = 60


def change(monkeypatch: pytest.MonkeyPatch, mutate: Callable[[Plan, Observed], Plan]) -> None:
    """Every plan is changed before it is carried out."""
    real = decide.decide

    def mutant(spec: Any, seen: Observed, now: float, limits: Any) -> Plan:
        return mutate(real(spec, seen, now, limits), seen)

    monkeypatch.setattr(reconcile, "decide", mutant)


def replaced(plan: Plan, kind: type, by: Callable[[Any], Any]) -> Plan:
    actions = [by(action) if isinstance(action, kind) else action for action in plan.actions]
    return dataclasses.replace(plan, actions=tuple(action for action in actions if action is not None))


def one_too_many(plan: Plan, seen: Observed) -> Plan:
    return replaced(plan, Ask, lambda ask: dataclasses.replace(ask, count=ask.count + 1))


def never_clears_away(plan: Plan, seen: Observed) -> Plan:
    return replaced(plan, DeleteJob, lambda delete: None)


def loses_what_runs(plan: Plan, seen: Observed) -> Plan:
    """An attempt is given up for nothing."""
    return replaced(
        plan,
        Finish,
        lambda finish: NewAttempt(finish.number, finish.attempt, Reason.EVICTED, "", finish.job, finish.job_uid),
    )


def counts_losses_as_failures(plan: Plan, seen: Observed) -> Plan:
    return replaced(
        plan,
        NewAttempt,
        lambda lost: Finish(lost.number, lost.lost, Reason.EXIT_CODE, "", lost.job, lost.job_uid),
    )


def forgets_committed_trials(plan: Plan, seen: Observed) -> Plan:
    return replaced(plan, CreateJob, lambda create: None)


def never_ends(plan: Plan, seen: Observed) -> Plan:
    return replaced(plan, End, lambda end: None)


def ends_too_early(plan: Plan, seen: Observed) -> Plan:
    if seen.counts.complete < 2 or seen.ended:
        return plan
    return dataclasses.replace(plan, actions=(End(Reason.MAX_TRIALS, ""),))


PLANS: dict[str, tuple[Callable[[Plan, Observed], Plan], set[str]]] = {
    "asks one too many": (one_too_many, {"I2", "I3"}),
    "never clears away": (never_clears_away, {"I1", "I2", "I6", "I7"}),
    "gives attempts up for nothing": (loses_what_runs, {"I7", "I9"}),
    "counts losses as failures": (counts_losses_as_failures, {"I3", "I4"}),
    "forgets committed trials": (forgets_committed_trials, {"I7"}),
    "never ends": (never_ends, {"I7"}),
    "ends too early": (ends_too_early, {"I3", "I7", "I9"}),
}


def run_until_caught() -> str:
    """Whether any of the runs finds it, and by which invariant."""
    caught = (caught_by(draw(seed)) for seed in range(1, RUNS))
    return next((invariant for invariant in caught if invariant != "nothing"), "nothing")


def caught_by(scenario: Scenario, *others: type[Exception]) -> str:
    """The invariant that a run breaks. ``others``: what else may stop it, such as a number given twice."""
    try:
        simulate(scenario)
    except Violation as violation:
        return violation.invariant
    except others as error:
        return type(error).__name__
    return "nothing"


@pytest.mark.parametrize("case", PLANS)
def test_a_plan_that(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutate, invariants = PLANS[case]
    change(monkeypatch, mutate)
    assert run_until_caught() in invariants


def test_jobs_with_names_by_chance_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the deterministic name, an answer that is lost on its way makes a second Job."""
    real, made = jobs.build_job, iter(range(10**6))

    def build(*args: Any) -> Any:
        body = real(*args)
        return {**body, "metadata": {**body["metadata"], "name": f"{body['metadata']['name']}-{next(made)}"}}

    monkeypatch.setattr(jobs, "build_job", build)
    body = experiment("small", maxTrials=40, parallelism={"max": 8})
    found = (caught_by(Scenario(seed, (body,), unavailable=0.05, lag=5.0)) for seed in range(60))
    assert next((invariant for invariant in found if invariant != "nothing"), "nothing") in {"I1", "I2", "I9"}


def test_acting_before_committing_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial that is handed out before its row is there."""

    def create_trials(self: MemoryStorage, uid: str, space: Any, trials: Any) -> None:
        pass

    monkeypatch.setattr(MemoryStorage, "create_trials", create_trials)
    with pytest.raises(Violation, match="no committed trial"):
        simulate(Scenario(3, (experiment("small"),)))


def test_an_end_that_changes_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Engine.finish_trials

    def finish_trials(self: Engine, ends: Any) -> Any:
        rows = real(self, ends)
        for study in self._storage.database.studies.values():  # type: ignore[attr-defined]
            first, number = study.trials[0], ends[0].number
            if number and first.row.state is not TrialState.RUNNING:
                first.row = dataclasses.replace(first.row, message=f"settled again with trial {number}")
        return rows

    monkeypatch.setattr(Engine, "finish_trials", finish_trials)
    with pytest.raises(Violation, match="I5"):
        simulate(Scenario(3, (experiment("small"),)))


def test_a_report_that_is_acknowledged_and_lost_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    real = MemoryStorage.finish_trials

    def finish_trials(self: MemoryStorage, uid: str, endings: Any) -> Any:
        rows = real(self, uid, endings)
        self.database.studies[uid].trials[endings[0].number].reports.pop()
        return rows

    monkeypatch.setattr(MemoryStorage, "finish_trials", finish_trials)
    with pytest.raises(Violation, match="I5"):
        simulate(Scenario(3, (experiment("small"),)))


def test_an_unfenced_predecessor_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two operators at once, and no epoch to tell them apart."""
    always = property(lambda self: self.database.epoch, lambda self, epoch: None)
    monkeypatch.setattr(MemoryStorage, "epoch", always, raising=False)
    body = experiment("two", maxTrials=8, parallelism={"max": 3})
    found = {
        caught_by(Scenario(seed, (body,), takeovers=(1.0, 5.0), lag=5.0, lost_event=0.2), ValueError, LookupError)
        for seed in range(20)
    }
    assert found - {"nothing"}


def test_an_eviction_taken_for_a_failure_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcome, "_loss", lambda *args: None)
    assert run_until_caught() in ("I3", "I4", "I7")


def promotes_anybody(plan: Plan, seen: Observed) -> Plan:
    """Rather than ask for a new trial."""
    worst = Promote(tuple(seen.paused)[-1:], Reason.PROMOTED, known=seen.order)
    return replaced(plan, Ask, lambda ask: worst if seen.paused else ask)


def test_a_promotion_that_does_not_follow_from_the_record_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch, promotes_anybody)
    with pytest.raises(Violation, match="trial 2 goes on after leg 0 in the record, nobody now"):
        calm()


def test_a_record_that_lacks_a_decision_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Promotions are made and not recorded: the next ones do not follow from it."""
    real = MemoryStorage.promote

    def promote(self: MemoryStorage, uid: str, attempts: Any, offered: bool, judged: Any) -> Any:
        return real(self, uid, attempts, offered, judged if 0 in attempts else ())

    monkeypatch.setattr(MemoryStorage, "promote", promote)
    caught = (caught_by(in_legs(seed)) for seed in range(1, RUNS))
    assert next((invariant for invariant in caught if invariant != "nothing"), "nothing") == "I4"
