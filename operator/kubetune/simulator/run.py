"""One run: everything put together, driven until all is over, and watched all the while."""

import dataclasses
import functools

from kubetune.api import names, phases
from kubetune.api import spec as api
from kubetune.api.spec import Json
from kubetune.controller import status
from kubetune.kube import errors
from kubetune.simulator import trials
from kubetune.simulator.api import ApiServer
from kubetune.simulator.invariants import Watchdog
from kubetune.simulator.nodes import Cluster
from kubetune.simulator.operators import SETTINGS, Chaos, Operator
from kubetune.simulator.scenario import HOLDS, REFUSED_IMAGE, STORM, Change, Scenario
from kubetune.simulator.trials import Behaviour, Ledger, Trials
from kubetune.simulator.violation import Violation
from kubetune.simulator.world import BEGIN, World
from kubetune.storage.memory import Database, MemoryStorage

AFTERMATH = 90.0  # seconds more, in which nothing may happen


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run came to. ``seconds``: of virtual time."""

    seed: int
    seconds: float
    trials: int
    jobs: int
    operators: int
    writes: int  # where an operator could have been killed
    names: frozenset[str]  # of the Jobs created
    states: tuple[str, ...]  # of the experiments
    reasons: tuple[str, ...]


class Run:
    """See `simulate`."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.world = World(scenario.seed)
        self.server = ApiServer(self.world)
        self.database, self.ledger = Database(), Ledger()
        self.chaos = Chaos(self.world, BEGIN + STORM)
        self.chaos.crash, self.chaos.unavailable = scenario.crash, scenario.unavailable
        self.chaos.lost_event, self.chaos.lag = scenario.lost_event, scenario.lag
        self.chaos.crash_at, self.chaos.queued = scenario.crash_at, scenario.queued
        self.chaos.look, self.chaos.poisoned = scenario.look, scenario.poisoned
        self.operators: list[Operator] = []
        gateway = MemoryStorage(self.world.clock, self.database, self.chaos.strike_gateway)
        self._storage = MemoryStorage(self.world.clock, self.database)
        made = Trials(self.world, gateway, self.ledger, self._behave, self._source, self._notify, self._saves)
        self.cluster = Cluster(self.world, self.server, scenario.nodes, scenario.slots, made.container)
        self.watchdog = Watchdog(
            self.server,
            self.cluster,
            self.database,
            self.ledger,
            scenario.unavailable > 0,
            scenario.limit,
            scenario.queued,
        )
        self.server.watchers.append(self.watchdog.watch)
        self.server.refuse = self._refuse
        self._sources: dict[str, str] = {}
        for resource in scenario.experiments:
            self._sources[resource["metadata"]["uid"]] = api.parse(resource).metrics.source
            self.server.add("experiments", resource)
        self._plan()

    def _plan(self) -> None:
        """Put everything that is known in advance on the calendar."""
        self.operator()
        for time, kind in self.scenario.losses:
            self.world.after(time, functools.partial(self._lose, kind))
        for time in self.scenario.takeovers:
            self.world.after(time, self.operator)
        for change in self.scenario.changes:
            self.world.after(change.time, functools.partial(self._change, change))

    # ---- what happens

    def operator(self) -> None:
        """One more operator starts."""
        name = f"operator-{len(self.operators) + 1}"
        settings = dataclasses.replace(SETTINGS, max_trials=self.scenario.limit)
        operator = Operator(
            name,
            self.world,
            self.server,
            self.database,
            self.chaos,
            self._replace,
            settings,
            self.watchdog.waited,
        )
        self.operators.append(operator)
        operator.start()

    def _replace(self) -> None:
        """One was killed: Kubernetes starts another."""
        self.world.soon(0.1, 15.0, self.operator)

    def _change(self, change: Change) -> None:
        found = self.server.of_uid("experiments", change.uid)
        if found is None:
            return
        self.world.note(f"{change.uid}: {change.spec}")
        if change.spec is None:
            self.server.remove("experiments", found)
            self.world.soon(0.1, 3.0, lambda: self._collect(change.uid))
            return
        if change.spec.get("suspend"):
            self.watchdog.suspended.add(change.uid)
        metadata = {**found["metadata"], "generation": found["metadata"]["generation"] + 1}
        self.server.put("experiments", {**found, "metadata": metadata, "spec": {**found["spec"], **change.spec}})

    def _collect(self, uid: str) -> None:
        """Owner references: the experiment's Jobs go with it, again and again until none comes any more."""
        for job in [job for job in self.server.all("jobs") if job["metadata"]["ownerReferences"][0]["uid"] == uid]:
            self.server.remove("jobs", job)
        if self.world.now < BEGIN + STORM + 60:
            self.world.after(10.0, lambda: self._collect(uid))

    def _lose(self, kind: str) -> None:
        dice, cluster = self.world.dice, self.cluster
        pods, jobs = list(cluster.pods.values()), self.server.all("jobs")
        self.world.note(f"loss: {kind}")
        if kind == "evict" and pods:
            cluster.evict(dice.choice(pods))
        elif kind == "delete pod" and pods:
            cluster.delete_pod(dice.choice(pods))
        elif kind == "delete job" and jobs:
            cluster.delete_job(dice.choice(jobs))
        elif kind in HOLDS and jobs:
            cluster.hold_job(dice.choice(jobs), dice.choice((5.0, 40.0, 400.0)), kind == HOLDS[1])
        elif kind == "cut off":
            cluster.cut_off(dice.choice(list(cluster.nodes.values())), dice.choice((10.0, 60.0, 300.0)))
        elif kind == "lose node":
            cluster.lose(dice.choice(list(cluster.nodes.values())))

    def _refuse(self, body: Json) -> errors.ApiError | None:
        pod = body["spec"]["template"]["spec"]
        if any(container["image"] == REFUSED_IMAGE for container in pod["containers"]):
            return errors.Invalid(422, "Invalid", f"image {REFUSED_IMAGE} is not allowed")
        now = self.world.now - BEGIN
        if any(begin <= now < end for begin, end in self.scenario.quotas):
            return errors.QuotaExceeded(403, "Forbidden", "exceeded quota: team-a")
        return None

    # ---- trials

    def _behave(self, uid: str, number: int) -> Behaviour:
        return trials.behaviour(f"{self.scenario.seed}/{uid}", number, self.scenario.odd, self.scenario.kinds)

    def _source(self, uid: str) -> str:
        tells = phases.kind(names.phase_of(uid)) == phases.REFIT  # its model, so it has a token
        return "push" if tells else self._sources[names.base_uid(uid)]

    def _saves(self, uid: str) -> bool:
        found = self.server.of_uid("experiments", uid)
        return found is not None and (found["spec"].get("fidelity") or {}).get("resume") == "checkpoint"

    def _notify(self, uid: str) -> None:
        for operator in self.operators:
            operator.notified(uid)

    # ---- to the end

    def finish(self) -> Result:
        """Raises Violation."""
        last = max([STORM, *(change.time for change in self.scenario.changes)])
        changes = self.scenario.changes  # what was refused is taken once the spec is mended
        begins_again = max(each.time for each in changes) if any(each.asks_again for each in changes) else 0.0
        bound, over = BEGIN + last + self.scenario.bound, None
        while over is None or self.world.now < over + AFTERMATH:
            if self.world.now >= bound:
                raise Violation("I7", f"not over {self.scenario.bound:g} s after the last fault: {self._left()}")
            if not self.world.step():
                raise Violation("I7", f"nothing will happen any more: {self._left()}")
            self.watchdog.step()
            if over is None and self.world.now >= BEGIN + begins_again and self._is_over():
                over = self.world.now
                self.watchdog.final(self._storage, self._behaviours())
        self.watchdog.final(self._storage, self._behaviours())
        return self._result()

    def _is_over(self) -> bool:
        if self.cluster.pods or self.server.all("jobs"):
            return False
        studies = self.database.studies
        for resource in self.scenario.experiments:
            uid = resource["metadata"]["uid"]
            if self._is_poisoned(resource):
                continue
            there = self.server.get("experiments", "team-a", resource["metadata"]["name"])
            if there is None:
                if uid in studies and studies[uid].deleted is None:
                    return False
            elif (there.get("status") or {}).get("state") not in ("Complete", "Failed") or self._status_lags(there):
                return False
        return True

    def _is_poisoned(self, resource: Json) -> bool:
        return resource["metadata"]["uid"] in self.scenario.poisoned

    def _status_lags(self, resource: Json) -> bool:
        told = resource["status"]["observedGeneration"], status.invalid_generation(resource["status"])
        return resource["metadata"]["generation"] not in told

    def _left(self) -> str:
        states = [(resource.get("status") or {}).get("state") for resource in self.server.all("experiments")]
        jobs = [job["metadata"]["name"] for job in self.server.all("jobs")]
        return f"states {states}, Jobs {jobs}, pods {list(self.cluster.pods)}"

    def _behaviours(self) -> dict[str, dict[int, Behaviour]]:
        return {
            uid: {number: self._behave(uid, number) for number in study.trials}
            for uid, study in self.database.studies.items()
        }

    def _result(self) -> Result:
        experiments = [each for each in self.server.all("experiments") if not self._is_poisoned(each)]
        statuses = [resource.get("status") or {} for resource in experiments]
        return Result(
            seed=self.scenario.seed,
            seconds=self.world.now - BEGIN,
            trials=sum(len(study.trials) for study in self.database.studies.values()),
            jobs=len(self.cluster.jobs_made),
            operators=len(self.operators),
            writes=self.chaos.writes,
            names=frozenset(self.watchdog.made),
            states=tuple(status["state"] for status in statuses),
            reasons=tuple(status["reason"] for status in statuses),
        )


def simulate(scenario: Scenario) -> Result:
    """Run a scenario to its end. Raises Violation, with the last of the run's story in a note."""
    run = Run(scenario)
    try:
        return run.finish()
    except Exception as error:
        story = "\n".join(run.world.trace[-40:])
        error.add_note(f"seed {scenario.seed}; resync {SETTINGS.resync:g} s; the story so far:\n{story}")
        raise
