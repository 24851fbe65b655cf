"""One fault for each invariant, made by hand in a run that goes well: the check finds it at once.

`test_the_checks_can_fail` breaks the operator instead, and sees that the runs by chance find it.
"""

import dataclasses
from typing import Any

import pytest

from kubetune.api.spec import Json
from kubetune.api.trial import Ending, Lease, TrialState
from kubetune.simulator import invariants
from kubetune.simulator.nodes import Container, Pod
from kubetune.simulator.operators import SETTINGS
from kubetune.simulator.run import Run, simulate
from kubetune.simulator.scenario import Scenario, experiment
from kubetune.simulator.violation import Violation
from kubetune.simulator.world import BEGIN
from kubetune.storage.base import NewTrial, ToEnd
from kubetune.storage.memory import MemoryStorage, Study

UID = "uid-small"


def small(**spec: Any) -> Json:
    body = {"maxTrials": 30, "parallelism": {"max": 4}, "pruner": {"name": "none"}, **spec}
    return experiment("small", **body)


def begun(seconds: float = 20.0, **spec: Any) -> Run:
    """A run that has gone well for a while: some trials have ended, some run."""
    made = Run(Scenario(3, (small(**spec),)))
    while made.world.now < BEGIN + seconds:
        step(made)
    return made


def step(made: Run, count: int = 1) -> None:
    for _ in range(count):
        made.world.step()
        made.watchdog.step()


def study(made: Run) -> Study:
    return made.database.studies[UID]


def writer(made: Run) -> MemoryStorage:
    """Somebody who writes as the operator does."""
    storage = MemoryStorage(made.world.clock, made.database)
    storage.epoch = made.database.epoch
    return storage


def number_that(made: Run, ended: bool) -> int:
    return next(n for n, trial in study(made).trials.items() if (trial.row.state is not TrialState.RUNNING) == ended)


def copied(job: Json, **metadata: Any) -> Json:
    """As it was sent, with other metadata."""
    made = {key: job["metadata"][key] for key in ("name", "namespace", "labels", "ownerReferences")}
    return {"metadata": {**made, **metadata}, "spec": job["spec"]}


def a_job(made: Run) -> Json:
    """Of a trial that runs."""
    return made.cluster.live_jobs(60.0)[0]


def trial_of(made: Run, job: Json) -> Any:
    return study(made).trials[int(job["metadata"]["labels"]["kubetune.dev/trial"])]


def is_found(invariant: str) -> Any:
    return pytest.raises(Violation, match=f"^{invariant}: ")


def test_i1_two_jobs_of_one_trial() -> None:
    made = begun()
    with is_found("I1"):
        made.server.add("jobs", copied(a_job(made), name="another"))


def test_i1_a_job_of_an_attempt_that_is_over() -> None:
    made = begun()
    job = a_job(made)
    labels = {**job["metadata"]["labels"], "kubetune.dev/attempt": "7"}
    with is_found("I1"):
        made.server.add("jobs", copied(job, name="another", labels=labels))


def test_i2_more_jobs_than_asked_for() -> None:
    made = begun()
    job, found = a_job(made), made.server.of_uid("experiments", UID)
    assert found is not None
    spec = {**found["spec"], "parallelism": {"max": 1}}
    made.server.put("experiments", {**found, "metadata": {**found["metadata"], "generation": 2}, "spec": spec})
    made.world.now += 1.0  # a create that was under way is through by then
    made.cluster.delete_job(job)
    trial_of(made, job).row = dataclasses.replace(trial_of(made, job).row, job_uid=None)
    with is_found("I2"):
        made.server.add("jobs", copied(job))


def test_i2_more_leases_than_asked_for() -> None:
    made = begun()
    new = [NewTrial(len(study(made).trials) + index, {"x": 0.5, "k": 1}) for index in range(4)]
    writer(made).create_trials(UID, {}, new)
    for number in [number_that(made, False), *(trial.number for trial in new)]:
        row = study(made).trials[number].row
        study(made).trials[number].row = dataclasses.replace(row, lease=Lease("job", "pod", number))
    with is_found("I2"):
        made.watchdog.step()


def test_i3_a_number_is_left_out() -> None:
    made = begun()
    writer(made).create_trials(UID, {}, [NewTrial(len(study(made).trials) + 1, {"x": 0.5, "k": 1})])
    with is_found("I3"):
        made.watchdog.step()


def test_i3_more_than_max_trials() -> None:
    made = begun(2.0, maxTrials=4)
    writer(made).create_trials(UID, {}, [NewTrial(4, {"x": 0.5, "k": 1})])
    with is_found("I3"):
        made.watchdog.step()


def test_i4_another_value_than_the_last_one_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    real = MemoryStorage.finish_trials

    def better(ending: Ending) -> Ending:
        return dataclasses.replace(ending, values=ending.values and tuple(value + 1 for value in ending.values))

    def finish_trials(self: MemoryStorage, uid: str, endings: list[ToEnd]) -> Any:
        wrong = [dataclasses.replace(end, settle=lambda *given, end=end: better(end.settle(*given))) for end in endings]
        return real(self, uid, wrong)

    monkeypatch.setattr(MemoryStorage, "finish_trials", finish_trials)
    with is_found("I4"):
        simulate(Scenario(3, (small(maxTrials=5),)))


def test_i5_an_end_that_changes() -> None:
    made = begun()
    trial = study(made).trials[number_that(made, True)]
    trial.row = dataclasses.replace(trial.row, message="settled again")
    with is_found("I5"):
        made.watchdog.step()


@pytest.mark.parametrize("fault", ["changed", "gone"])
def test_i5_an_end_that_changes_and_nobody_tells(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What no write told of is found when everything is looked at."""
    monkeypatch.setattr(invariants, "FULL", 50)
    made = begun()
    number = number_that(made, True)
    trial = study(made).trials[number]
    if fault == "changed":
        trial._row = dataclasses.replace(trial.row, message="settled again")
    else:
        del study(made).trials[number]
    with pytest.raises(Violation, match=r"^I[35]: "):
        step(made, 51)


def test_i6_a_pod_that_is_left() -> None:
    made = Run(Scenario(3, (small(maxTrials=3),)))
    made.finish()
    made.cluster.pods["left"] = Pod("left", "team-a", "a Job", Container(lambda pod, exit_: lambda: None))
    with is_found("I6"):
        made.watchdog.final(made._storage, made._behaviours())


def test_i7_nothing_goes_on() -> None:
    made = Run(Scenario(3, (small(maxTrials=3),), bound=300.0))
    made.operators[0].stop()
    with is_found("I7"):
        made.finish()


def test_i7_the_status_says_another_end() -> None:
    made = Run(Scenario(3, (small(maxTrials=3),)))
    made.finish()
    found = made.server.of_uid("experiments", UID)
    assert found is not None
    made.server.put("experiments", {**found, "status": {**found["status"], "reason": "TargetReached"}})
    with is_found("I7"):
        made.watchdog.final(made._storage, made._behaviours())


def beside_a_poisoned_one(**scenario: Any) -> Scenario:
    return Scenario(3, (experiment("poison"), small(maxTrials=5)), poisoned=frozenset({"uid-poison"}), **scenario)


def test_i8_who_is_beside_a_poisoned_experiment_waits_for_nothing() -> None:
    """Every look at the poisoned one takes long and fails."""
    beside, alone = simulate(beside_a_poisoned_one(look=0.1)), simulate(Scenario(3, (small(maxTrials=5),), look=0.1))
    assert (beside.names, beside.reasons) == (alone.names, alone.reasons)
    assert beside.seconds < alone.seconds + 30.0


@pytest.mark.parametrize("name", ["a", "z"])
def test_i8_a_poisoned_experiment_keeps_no_share_of_a_limit(name: str) -> None:
    """The limit is one trial at a time, and the poisoned one comes before or after the other in every order."""
    pair = (experiment(name), small(maxTrials=5))
    found = simulate(Scenario(3, pair, poisoned=frozenset({f"uid-{name}"}), limit=1, bound=900.0))
    assert found.reasons == ("MaxTrials",)


def test_i8_one_hand_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    one_hand = dataclasses.replace(SETTINGS, reconcile_threads=1)
    monkeypatch.setattr("kubetune.simulator.run.SETTINGS", one_hand)
    with is_found("I8"):
        simulate(beside_a_poisoned_one(look=0.1))


def test_i9_a_job_that_is_created_twice() -> None:
    made = begun()
    job = a_job(made)
    made.server.remove("jobs", job)
    with is_found("I9"):
        made.server.add("jobs", copied(job))


def test_i9_a_job_of_no_trial() -> None:
    made = begun()
    labels = {**a_job(made)["metadata"]["labels"], "kubetune.dev/trial": "29"}
    with is_found("I9"):
        made.server.add("jobs", copied(a_job(made), name="another", labels=labels))
