"""An operator's loop over real storage, gateway and agents; only the cluster is made up: a Job is a process here.

What kubelet and Job controller would tell of a worker's Job is told as its process lives and ends.
"""

import dataclasses
import os
import pathlib
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping
from typing import Any, cast

import kubetune_worker
from kubetune.api import names, spec
from kubetune.api.trial import TrialRow
from kubetune.controller import act
from kubetune.controller.cache import Cache
from kubetune.controller.cluster import KubeCluster
from kubetune.controller.jobs import Wiring
from kubetune.controller.reconcile import Reconciler
from kubetune.engine.engine import Engine
from kubetune.settings import Settings
from kubetune.simulator.api import ApiServer, Client
from kubetune.simulator.world import World as Virtual
from kubetune.storage import base, postgres
from tests import gateway_world

Json = dict[str, Any]


class Server(ApiServer):
    """Its UIDs are like nobody else's: the database is shared by the tests of a session."""

    def add(self, plural: str, body: Json) -> Json:
        metadata = body["metadata"]
        return super().add(plural, {**body, "metadata": {**metadata, "uid": metadata.get("uid") or str(uuid.uuid4())}})


class Quiet:
    """A meter and a recorder of events."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def observe(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        pass

    def event(self, about: spec.ExperimentSpec, kind: str, reason: str, message: str) -> None:
        self.events.append((reason, message))


@dataclasses.dataclass
class Agent:
    """A worker's Job: its process, and its pod as the API server has it."""

    job: Json
    pod: Json
    process: "subprocess.Popen[bytes]"
    told: bool = False


class Operator:
    """One operator for one experiment. ``url``: of the gateway."""

    def __init__(
        self,
        world: gateway_world.World,
        gateway: gateway_world.Running,
        storage: postgres.PostgresStorage,
        resource: Json,
    ) -> None:
        self._world, self._gateway, self._storage = world, gateway, storage
        self.server = Server(Virtual(0))
        self.cache = Cache(300.0)
        self.quiet = Quiet()
        self.agents: list[Agent] = []
        self.resource = self.server.add("experiments", resource)
        self.server.watchers.append(self._watch)
        client: Any = Client(self.server, lambda where: None)
        self.reconciler = Reconciler(
            self,
            act.Tools(
                cluster=KubeCluster(client, self.cache, cast(Any, self.quiet)),
                clock=time.time,
                confirm=storage.confirm,
                wiring=lambda: Wiring(gateway.url, worker_image="kubetune/trial:test"),
                parallel=act.sequential,
                start=act.at_once,
                withdraw=lambda uid: None,  # nothing waits
                wake=lambda uid: self._woken.set(),
                meter=self.quiet,
                log_tail_bytes=1000,
            ),
            Settings(),
        )
        self._engines: dict[str, Engine] = {}
        self._woken = threading.Event()
        self._stop = threading.Event()
        storage.listen(lambda uid: self._woken.set(), self._stop)

    # ---- ports.Engines

    def engine(self, found: spec.ExperimentSpec) -> Engine:
        if found.uid not in self._engines:
            self._engines[found.uid] = Engine(found, self._storage, time.time)
        return self._engines[found.uid]

    def drop_engine(self, uid: str) -> None:
        self._engines.pop(uid, None)

    def kept_spec(self, uid: str) -> base.KeptSpec | None:
        return self._storage.load_spec(uid)

    def keep_spec(self, uid: str, kept: base.KeptSpec) -> None:
        self._storage.save_spec(uid, kept)

    def phases(self, uid: str) -> list[base.StudyRow]:
        return self._storage.phases(uid)

    def versions(self, uid: str) -> list[base.Version]:
        return self._storage.versions(uid)

    def trials(self, uid: str) -> list[TrialRow]:
        return self._storage.load_trials(uid)

    # ---- the loop

    @property
    def uid(self) -> str:
        return str(self.resource["metadata"]["uid"])

    @property
    def status(self) -> Json:
        found = self.server.get(
            "experiments", self.resource["metadata"]["namespace"], self.resource["metadata"]["name"]
        )
        return dict((found or {}).get("status") or {})

    def edit(self, **fields: Any) -> None:
        """Change the experiment's spec."""
        metadata = {**self.resource["metadata"], "generation": self.resource["metadata"]["generation"] + 1}
        changed = {**self.resource, "metadata": metadata, "spec": {**self.resource["spec"], **fields}}
        self.resource = self.server.put("experiments", changed)

    def turn(self) -> None:
        """Look once, after whatever woke us or a moment."""
        self._woken.wait(0.05)
        self._woken.clear()
        self._look_after_agents()
        self.reconciler.reconcile(self.resource)

    def run(self, until: Any, turns: int = 4000) -> None:
        """Turn until the condition holds."""
        for _ in range(turns):
            if until():
                return
            self.turn()
        raise AssertionError(f"it does not come about; the status is {self.status}, events {self.quiet.events}")

    def close(self) -> None:
        self._stop.set()
        for agent in self.agents:
            if agent.process.poll() is None:
                agent.process.kill()
            agent.process.wait()

    # ---- kubelet and Job controller

    def _watch(self, plural: str, raw: Json, deleted: bool) -> None:
        if plural == "jobs":
            self.cache.apply_job(raw, deleted)
            known = {agent.job["metadata"]["uid"]: agent for agent in self.agents}
            if deleted:
                known[raw["metadata"]["uid"]].process.terminate()
            elif raw["metadata"]["uid"] not in known:
                self.agents.append(self._start(raw))
        if plural == "pods":
            self.cache.apply_pod(raw, deleted)

    def _start(self, job: Json) -> Agent:
        metadata = job["metadata"]
        who = base.Worker(
            self.uid,
            metadata["namespace"],
            metadata["labels"][names.LABEL_EXPERIMENT],
            int(metadata["labels"][names.LABEL_WORKER]),
            metadata["uid"],
            f"pod-of-{metadata['uid']}",
        )
        template = job["spec"]["template"]
        pod = gateway_world.worker_pod(who)
        pod["metadata"] |= {"name": f"{metadata['name']}-x", "labels": template["metadata"]["labels"]}
        pod["spec"] = {**template["spec"], "nodeName": "here"}
        folder = self._world.folder / metadata["name"]
        folder.mkdir()
        (folder / "token").write_text(self._world.api.knows(who.of_trial(0, 1), metadata["uid"], pod))
        container = template["spec"]["containers"][0]
        environment = {each["name"]: each["value"].replace("$$", "$") for each in container["env"]}
        environment |= self._gateway.environment(folder / "token")
        environment |= {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(pathlib.Path(kubetune_worker.__file__).parent),
            "KUBETUNE_WORKER_DIRECTORY": str(folder),
        }
        assert container["command"] == ["python3", "/kubetune/kubetune_worker.py", "--"]
        command = [argument.replace("$$", "$") for argument in container["args"]]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, kubetune_worker.__file__, "--", *command], env=environment, stdout=log, cwd=folder
            )
        agent = Agent(job, pod, process)
        self.server.add("pods", self._told(pod, "Running", {"running": {}}))
        return agent

    def _told(self, pod: Json, phase: str, state: Json) -> Json:
        container = {"name": pod["spec"]["containers"][0]["name"], "state": state}
        return {**pod, "status": {"phase": phase, "containerStatuses": [container]}}

    def _look_after_agents(self) -> None:
        for agent in self.agents:
            code = agent.process.poll()
            if code is None or agent.told:
                continue
            agent.told = True
            phase = "Failed" if code else "Succeeded"
            terminated = {"exitCode": 128 - code if code < 0 else code, "reason": "Error" if code else "Completed"}
            self.server.put("pods", self._told(agent.pod, phase, {"terminated": terminated}))
            metadata = agent.job["metadata"]
            job = self.server.get("jobs", metadata["namespace"], metadata["name"])
            if job is not None and job["metadata"]["uid"] == metadata["uid"]:
                kind = {"type": "Failed", "reason": "BackoffLimitExceeded"} if code else {"type": "Complete"}
                self.server.put("jobs", {**job, "status": {"conditions": [{**kind, "status": "True"}]}})
