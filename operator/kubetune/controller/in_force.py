"""Which spec is in force: the resource's own if it can be run, else the last one that could.

A spec is judged once per generation and committed before anything is done by it, so that an operator that comes later
has the same one in force. An edit that cannot be run stops nothing: it is said as condition Invalid, and the experiment
goes on as before, but for `spec.suspend`, which is obeyed in any case.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from kubetune.api import checkpoints
from kubetune.api import spec as api
from kubetune.api.spec import ExperimentSpec, InvalidSpec, Json, NotYet
from kubetune.controller import execution, rehearsal
from kubetune.controller.act import Tools
from kubetune.controller.observe import Memory, RefusedSpec
from kubetune.controller.ports import Engine, Engines, Exists, Refused
from kubetune.controller.rehearsal import Rehearsed
from kubetune.storage.base import KeptSpec, Steer


@dataclasses.dataclass(frozen=True)
class InForce:
    """What a look goes by. ``refused``: the resource says something else, which cannot be run."""

    spec: ExperimentSpec
    engine: Engine
    refused: RefusedSpec | None = None
    steered: Sequence[Steer] = ()  # recorded just now


class Judge:
    """Finds the spec in force. ``patience``: seconds until a spec that was refused is judged again, since the reason
    may lie outside of it (a service account that comes later)."""

    def __init__(self, engines: Engines, tools: Tools, patience: float) -> None:
        self._engines = engines
        self._tools = tools
        self._patience = patience

    def find(self, resource: Json, memory: Memory) -> InForce:
        """The spec in force, and the experiment's engine with it.

        Raises:
            NotYet: nothing is in force, and what it awaits may come.
            InvalidSpec: nothing is in force: the spec cannot be run, nor could an earlier one.
            ClusterUnavailable: the API server could not be asked.
            StorageUnavailable, Fenced: as the engine does.
        """
        offered = KeptSpec(resource["metadata"].get("generation", 0), resource.get("spec") or {})
        if not memory.kept_read:
            memory.kept = self._engines.kept_spec(resource["metadata"]["uid"])
            memory.kept_read = True
        refused = memory.refused
        if refused is None or refused.generation != offered.generation or self._tools.clock() >= refused.until:
            try:
                found = self._take(resource, offered, memory)
            except InvalidSpec as error:
                if isinstance(error, NotYet) and memory.kept is None:
                    raise
                refused = RefusedSpec(offered.generation, error, self._tools.clock() + self._patience)
            else:
                memory.refused = None
                return found
        memory.refused = refused
        kept = None if memory.kept == offered else _parsed(resource, memory.kept)
        if kept is None:
            raise InvalidSpec(refused.error.field, refused.error.message)
        engine = self._engines.engine(kept)
        kept = _placed(kept, engine)
        return InForce(kept, engine, refused, engine.update(kept))

    def _take(self, resource: Json, offered: KeptSpec, memory: Memory) -> InForce:
        """The resource's own spec, judged and committed if it is a new one. Raises InvalidSpec."""
        if memory.parsed is None or memory.parsed[0] != offered:
            memory.parsed = offered, api.parse(resource)
        spec = memory.parsed[1]
        engine = self._engines.engine(spec)
        spec = _placed(spec, engine)
        if memory.kept != offered:
            kept = _parsed(resource, memory.kept)
            self._dry_run(spec, None if kept is None else _placed(kept, engine), engine)
        steered = engine.update(spec)
        if memory.kept != offered:
            self._engines.keep_spec(spec.uid, offered)
            memory.kept = offered
        return InForce(spec, engine, steered=steered)

    def _dry_run(self, spec: ExperimentSpec, kept: ExperimentSpec | None, engine: Engine) -> None:
        """The server judges the Jobs before one is made of this spec: the search's, and of what comes after it, so that
        nothing fails at the end for what could be known at the beginning. Raises InvalidSpec with its words."""
        if kept is None and engine.counts.total:  # made with it already
            return
        if engine.ended and not spec.after:  # nothing more is made
            return
        known = [] if kept is None else self._jobs(kept, engine)
        for job in self._jobs(spec, engine):
            if job not in known:
                self._try(job)

    def _try(self, job: Rehearsed) -> None:
        try:
            self._tools.cluster.create_job(job.body, dry_run=True)
        except Exists:
            pass
        except Refused as refusal:
            if not refusal.passing:
                raise InvalidSpec(job.field(str(refusal)), f"the API server refuses {job.what}: {refusal}") from refusal

    def _jobs(self, spec: ExperimentSpec, engine: Engine) -> list[Rehearsed]:
        """The first Job of each form that is to be made of it. (`auto` begins with a trial's; a worker that the server
        refuses later fails a trial for that reason.)"""
        wanted = spec.execution == "workers" or (spec.execution == "auto" and bool(engine.workers))
        return rehearsal.jobs_of(spec, wanted and execution.obstacle(spec) is None, self._tools.wiring())


def _placed(spec: ExperimentSpec, engine: Engine) -> ExperimentSpec:
    """With the checkpoint of another experiment that was found when this one began."""
    given = spec.init_checkpoint
    if given is None or not given.source or engine.taken is None:
        return spec
    return dataclasses.replace(spec, init_checkpoint=checkpoints.placed(given, engine.taken))


def _parsed(resource: Mapping[str, Json], kept: KeptSpec | None) -> ExperimentSpec | None:
    """The kept spec with the resource's own word on `suspend`; None: there is none, or none that this version of
    kubetune can run."""
    if kept is None:
        return None
    suspend = (resource.get("spec") or {}).get("suspend")
    overlay = {"suspend": suspend} if isinstance(suspend, bool) else {}
    metadata = {**resource["metadata"], "generation": kept.generation}
    try:
        return api.parse({"metadata": metadata, "spec": {**kept.spec, **overlay}})
    except InvalidSpec:
        return None
