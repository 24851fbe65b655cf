"""The Jobs that a spec comes to, for the API server to judge before one is made: the search's, and those of what comes
after it. Pure."""

import dataclasses
import re
from collections.abc import Iterator

from kubetune.api import phases
from kubetune.api.spec import ExperimentSpec, Json
from kubetune.api.trial import Best, WorkerRow
from kubetune.controller import jobs, worker_jobs
from kubetune.controller.jobs import Wiring
from kubetune.engine import phases as plans
from kubetune.storage.base import Version

_ENTRY = re.compile(r"spec\.template\.spec\.(?:containers\[0\]\.)?(volumes|volumeMounts|env)\[(\d+)\]")


@dataclasses.dataclass(frozen=True)
class Rehearsed:
    """A Job, and which part of the spec has made it what it is: ``part``, which says ``form``."""

    what: str  # in words
    part: str
    form: Json
    body: Json

    def field(self, message: str) -> str:
        """The field of the spec that the server's ``message`` is about, as near as it tells."""
        found = _ENTRY.search(message)
        if found is None:
            return self.part
        part, place = found[1], int(found[2])
        pod = self.body["spec"]["template"]["spec"]
        entries = (pod if part == "volumes" else pod["containers"][0]).get(part) or []
        own = self.form.get(part) or []
        if place < len(entries) and entries[place] in own:
            return f"{self.part}.{part}[{own.index(entries[place])}]"
        return self.part


def jobs_of(spec: ExperimentSpec, in_workers: bool, wiring: Wiring) -> list[Rehearsed]:
    """The first Job of each form, the search's first. ``in_workers``: the search's is a worker's."""
    if in_workers:
        first = worker_jobs.build_worker(spec, WorkerRow(0, 1, 0.0), wiring)
    else:
        first = jobs.build_job(spec, 0, 1, jobs.sample(spec.parameters), wiring)
    return [Rehearsed("the Job", "template", {}, first), *_after(spec, in_workers, wiring)]


def _after(spec: ExperimentSpec, in_workers: bool, wiring: Wiring) -> Iterator[Rehearsed]:
    params = jobs.sample(spec.parameters)
    if spec.finalists is not None and in_workers:  # else they differ from the search's trials by their seeds alone
        plan = plans.plan_finalists(spec, [Best(0, (0.0,), params)])
        body = jobs.build_job(plans.derive(spec, spec.finalists.phase, plan), 0, 1, params, wiring)
        yield Rehearsed("a finalist's Job", "template", {}, body)
    model = None if spec.refit is None else Version(1, spec.refit.phase, "", "", "", params, 0.0)
    for once in (spec.refit, spec.test):
        if once is not None:
            plan = plans.plan_once(spec, once, 0, params, model)
            body = jobs.build_job(plans.derive(spec, once.phase, plan), 0, 1, params, wiring)
            which = phases.kind(once.phase)
            yield Rehearsed("its Job, that of a run after the search", which, once.form, body)
