"""One look at one experiment: observe, decide, act, status. Synchronous; a key is never in two hands at once.

The order of writes is DESIGN.md's: what is committed comes before what is done about it, so a kill anywhere between
two writes leaves something that the next look, by whichever operator, finds and finishes.
"""

import dataclasses
import logging
from collections.abc import Mapping

from kubetune.api import names
from kubetune.api.spec import ExperimentSpec, InvalidSpec, Json, NotYet
from kubetune.api.trial import Reason
from kubetune.controller import crew, epilogue_status, execution, observe, see_workers, status
from kubetune.controller.act import Act, Tools
from kubetune.controller.begun import Look
from kubetune.controller.decide import Limits, decide
from kubetune.controller.elastic import Elastic
from kubetune.controller.epilogue import Epilogue, Phases
from kubetune.controller.in_force import InForce, Judge
from kubetune.controller.observe import Memory
from kubetune.controller.pace import Pace
from kubetune.controller.plan import Finish, NewAttempt, Observed, Plan
from kubetune.controller.ports import ClusterUnavailable, Engine, Engines
from kubetune.engine import steering
from kubetune.settings import Settings
from kubetune.storage.base import Fenced, StorageUnavailable

AWAIT = 5.0  # seconds between two looks for what an experiment awaits
PASSES = 8  # looks in a row, each after trials that ended in the one before
RELEASE_INTERVAL = 10.0  # seconds between two looks at which checkpoints of ended trials may go
STATUS_INTERVAL = 1.0  # seconds between two writes of a status in which only figures changed
STATUS_GAP = 0.25  # seconds between two such writes, of all experiments
_FINAL = ("Complete", "Failed")
_TELLING = ("state", "reason", "observedGeneration", "execution")  # written at once
_PARALLELISM = {
    str(Reason.SPEC): "as many trials as parallelism.max allows may be in flight",
    str(Reason.NO_NODES): "pods find no node: only what is there is used, and a few pods wait for more",
    str(Reason.QUOTA): "a quota refuses more Jobs: what is there goes on, more is tried from time to time",
    str(Reason.FAIR_SHARE): "the limit on trials in flight is shared with other experiments",
}

logger = logging.getLogger(__name__)


class Reconciler:
    """See `reconcile`. One for all experiments; safe from several threads as long as no two work on the same one."""

    def __init__(self, engines: Engines, tools: Tools, settings: Settings, elastic: Elastic | None = None) -> None:
        self._engines = engines
        self._tools = tools
        self._judge = Judge(engines, tools, settings.resync)
        self._elastic = elastic or Elastic()
        self._limits = Limits.of(settings)
        self._resync = settings.resync
        self._memories: dict[str, Memory] = {}
        self._pace = Pace(STATUS_GAP)
        self._phases = Phases(engines, tools, self._bring_together, settings.deletion_grace)

    def forget(self, uid: str) -> None:
        """The experiment is gone."""
        self._rest(uid)
        self._memories.pop(uid, None)

    def _rest(self, uid: str) -> None:
        """Nothing is left to do about an experiment, for now."""
        self._drop(uid)
        for each in self._family(uid):
            self._elastic.forget(each)

    def _drop(self, uid: str) -> None:
        for each in self._family(uid):
            self._engines.drop_engine(each)

    def _family(self, uid: str) -> list[str]:
        """What its search and its phases are known by."""
        memory = self._memories.get(uid)
        return [uid, *(names.phase_uid(uid, phase) for phase in (memory.phases if memory else ()))]

    def is_eager(self, uid: str) -> bool:
        """Short trials run in workers: each end is looked at as it comes."""
        memory = self._memories.get(uid)
        return memory is not None and execution.are_short(memory.timings.values())

    def reconcile(self, resource: Json) -> float | None:
        """Bring study, Jobs and status together.

        Returns:
            Seconds until the next look at the latest; None: when woken.

        Raises:
            ClusterUnavailable: all that was possible without the API server is done; come again.
            StorageUnavailable, Fenced and whatever else: the engine is dropped; come again (not when fenced).
        """
        uid = resource["metadata"]["uid"]
        memory = self._memories.setdefault(uid, Memory())
        memory.status = memory.status or resource.get("status") or None
        if self._rests(resource, memory.status):
            self._rest(uid)
            return None
        try:
            return self._reconcile(self._judge.find(resource, memory), memory)
        except InvalidSpec as error:
            self._without(resource, memory, error)
            return min(AWAIT, self._resync) if isinstance(error, NotYet) else self._resync
        except ClusterUnavailable:
            raise
        except (StorageUnavailable, Fenced):
            self._drop(uid)
            raise
        except Exception:
            self._drop(uid)
            self._elastic.stumbled(uid)
            raise

    def _rests(self, resource: Json, written: Mapping[str, object] | None) -> bool:
        """Ended, said so, and nothing left to clear away: not worth loading a study for. The status says it only
        after the database does."""
        metadata = resource["metadata"]
        return (
            written is not None
            and written.get("state") in _FINAL
            and metadata.get("generation", 0) in (written.get("observedGeneration"), status.invalid_generation(written))
            and all(job.deleting for job in self._tools.cluster.all_jobs(metadata["uid"]))
        )

    def _reconcile(self, found: InForce, memory: Memory) -> float | None:
        spec, engine = found.spec, found.engine
        for steer in found.steered:
            self._tools.cluster.event(spec, "Normal", *steering.words(steer))
        search = self._bring_together(spec, engine, memory)
        after = self._phases.look(spec, engine, memory, search)
        plan, seen = (search.plan, search.seen) if after is None else _told(search, after)
        self._measure(spec, engine, seen, plan)
        wait = self._status(found, memory, seen, plan, after)
        trouble = search.trouble or (after and after.trouble)
        if trouble:
            raise trouble
        if len(seen.running) == status.in_flight(seen):
            memory.freed.clear()  # nothing waits for these slots
        if plan.state in _FINAL and self._is_clear(search.seen, seen) and wait is None:
            self._rest(spec.uid)
            return None
        peace = None if memory.unanswered is None else max(0.0, memory.unanswered.until - self._tools.clock())
        return min(time for time in (plan.again_in, wait, peace, self._resync) if time is not None)

    def _bring_together(self, spec: ExperimentSpec, engine: Engine, memory: Memory) -> Look:
        """One study, its Jobs and the plan: the search's, or a phase's."""
        engine.tail()
        act = Act(spec, engine, memory, self._tools)
        plan, seen = self._passes(spec, engine, memory, act)
        self._release(spec, engine, memory)
        return Look(plan, seen, act.trouble)

    def _is_clear(self, *looks: Observed) -> bool:
        jobs = [job for seen in looks for job in (*seen.jobs, *(seen.crew.jobs if seen.crew else ()))]
        return all(job.deleting for job in jobs)

    def _passes(self, spec: ExperimentSpec, engine: Engine, memory: Memory, act: Act) -> tuple[Plan, Observed]:
        """Look and act until nothing follows at once; the last plan, and what is there after it."""
        act.take_in()
        plan, seen = self._look(spec, engine, memory)
        if act.reconsider(seen.force.current if seen.force else spec.parallelism):
            plan, seen = self._look(spec, engine, memory)
        over = {action.number for action in plan.actions if isinstance(action, Finish | NewAttempt)}
        engine.record_start({number: time for number, time in observe.starts(seen).items() if number in over})
        for _ in range(PASSES):
            act.carry_out(plan, seen)
            act.take_in()
            done = plan
            plan, seen = self._look(spec, engine, memory)
            if act.trouble is not None or not plan.actions or plan.actions == done.actions:
                break
        else:
            plan = dataclasses.replace(plan, again_in=0.0)
        engine.record_start(observe.starts(seen))
        engine.record_images(observe.images(spec, seen))
        if engine.ended is None and plan.state in _FINAL:  # planned, and not committed: nobody may read it yet
            plan = dataclasses.replace(done, again_in=0.0)
        return plan, seen

    def _look(self, spec: ExperimentSpec, engine: Engine, memory: Memory) -> tuple[Plan, Observed]:
        now = self._tools.clock()
        seen = observe.observe(spec, engine, self._tools.cluster, memory, now)
        force, memory.elastic = self._elastic.look(spec, seen, memory.refusals, memory.elastic, now)
        seen = dataclasses.replace(seen, force=force)
        plan = decide(spec, seen, now, self._limits)
        limited = dataclasses.replace(spec, parallelism=min(spec.parallelism, force.current))
        return crew.plan(plan, limited, seen, now, self._limits), seen

    def _release(self, spec: ExperimentSpec, engine: Engine, memory: Memory) -> None:
        """Checkpoints of trials that ended since the last time, or all of them at the end."""
        if spec.checkpoints is None:
            return
        now, over = self._tools.clock(), engine.ended is not None
        ended = engine.counts.finished, over
        if ended != memory.released and (over or now - memory.released_at >= RELEASE_INTERVAL):
            engine.release_checkpoints()
            memory.released, memory.released_at = ended, now

    # ---- what is told

    def _without(self, resource: Json, memory: Memory, error: InvalidSpec) -> None:
        """No spec is in force: say so; nothing is created."""
        metadata, faulty = resource["metadata"], not isinstance(error, NotYet)
        say = status.invalid if faulty else status.awaiting
        body = say(error, metadata.get("generation", 0), memory.status, self._tools.clock())
        if body == memory.status:
            return
        logger.log(logging.WARNING if faulty else logging.INFO, "the spec cannot be run: %s", error)
        self._tools.confirm()
        self._tools.cluster.write_status(metadata["namespace"], metadata["name"], metadata["uid"], body)
        memory.status, memory.written = body, self._tools.clock()
        kind = "Warning" if faulty else "Normal"
        self._tools.cluster.event(_stub(metadata), kind, str(body["reason"]), str(error))

    def _status(
        self, found: InForce, memory: Memory, seen: Observed, plan: Plan, after: Epilogue | None
    ) -> float | None:
        """Write the status if it changed. Seconds until it may be written, if that is put off."""
        now, before, spec = self._tools.clock(), memory.status or {}, found.spec
        engine = found.engine
        failed = None if memory.unanswered is None else (memory.unanswered.times, memory.unanswered.why)
        facts = status.Facts(
            engine.study,
            engine.best,
            engine.saved_steps,
            engine.insight,
            engine.infeasible,
            engine.sampler,
            failed,
            engine.warm_trials,
            engine.stage,
            engine.regret,
            epilogue_status.fields(after),
        )
        body = status.status(spec, plan, seen, facts, before, now, found.refused)
        if body == before:
            return None
        edited = status.invalid_generation(body) != status.invalid_generation(before)
        told, tells = _limited_by(before), _limited_by(body)
        urgent = edited or told != tells or any(body.get(field) != before.get(field) for field in _TELLING)
        if not urgent:
            if memory.turn is None:
                memory.turn = self._pace.turn(max(now, memory.written + STATUS_INTERVAL))
            if now < memory.turn:
                return memory.turn - now
        memory.turn = None
        self._tools.confirm()
        self._tools.cluster.write_status(spec.namespace, spec.name, spec.uid, body)
        self._pace.took(self._tools.clock() - now)
        memory.status, memory.written = body, now
        if (body["state"], body["reason"]) != (before.get("state"), before.get("reason")):
            logger.info("%s (%s): %s", plan.state, plan.reason, plan.message)
            kind = "Warning" if plan.state == "Failed" else "Normal"
            self._tools.cluster.event(spec, kind, str(plan.reason), f"{plan.state}: {plan.message}")
        elif tells in _PARALLELISM and told in _PARALLELISM and told != tells:
            self._tools.cluster.event(spec, "Normal", f"Parallelism{tells}", _PARALLELISM[tells])
        if "sampler" in body and body["sampler"] != before.get("sampler"):
            self._tools.cluster.event(spec, "Normal", "SamplerPicked", "{name}: {reason}".format(**body["sampler"]))
        if "winner" in body and (body["winner"] != before.get("winner")):
            self._tools.cluster.event(spec, "Normal", "Winner", body["winner"]["sentence"])
        if edited and found.refused is not None:
            message = status.refusal(found.refused, spec)
            logger.warning("the edited spec cannot be run: %s", message)
            self._tools.cluster.event(spec, "Warning", str(Reason.INVALID_SPEC), message)
        return None

    def _measure(self, spec: ExperimentSpec, engine: Engine, seen: Observed, plan: Plan) -> None:
        labels, observe_one = {"namespace": spec.namespace, "experiment": spec.name}, self._tools.meter.observe
        counts = engine.counts
        states = {
            "RUNNING": counts.running,
            "COMPLETE": counts.complete,
            "PRUNED": counts.pruned,
            "FAIL": counts.failed,
            **({"PAUSED": counts.paused} if engine.more_legs else {}),
        }
        for state, count in states.items():
            observe_one("trials", count, {**labels, "state": state})
        observe_one("trials_in_flight", status.in_flight(seen), labels)
        if seen.crew is not None:
            for each, workers in see_workers.census(seen.crew).items():
                observe_one("workers", workers, {**labels, "state": each})
            held = sum(row.lease is not None and row.lease.exit is None for row in seen.stirring.rows.values())
            observe_one("slots_leased", held, labels)
        current, reason = status.parallelism(spec, plan, seen)
        for each in _PARALLELISM:
            observe_one("parallelism", current if each == reason else 0, {**labels, "reason": each})
        if seen.best is not None:
            observe_one("best_value", seen.best, {**labels, "metric": spec.objectives[0].metric})
        if engine.regret is not None and engine.regret.bound is not None:
            observe_one("regret_bound", engine.regret.bound, {**labels, "metric": spec.objectives[0].metric})


def _told(search: Look, after: Epilogue) -> tuple[Plan, Observed]:
    """What is said of the whole: the search's figures, and what runs now."""
    if after.seen is None:
        return after.plan, search.seen
    counts, started, failures = search.seen.counts, search.seen.started, search.seen.recent_failures
    crew = search.seen.crew
    return after.plan, dataclasses.replace(
        after.seen, counts=counts, started=started, recent_failures=failures, best=search.seen.best, crew=crew
    )


def _limited_by(body: Mapping[str, object]) -> str:
    """Why the parallelism is what a status says it is."""
    found = body.get("parallelism")
    return str(found.get("reason")) if isinstance(found, Mapping) else ""


def _stub(metadata: Json) -> ExperimentSpec:
    """Enough of an experiment that cannot be parsed to hang an event on."""
    return ExperimentSpec(
        metadata["namespace"], metadata["name"], metadata["uid"], metadata.get("generation", 0), (), {}, {}
    )
