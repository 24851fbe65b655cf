"""Builders for the engine's tests: a spec, and an experiment whose trials report and end on request."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from kubetune.api.spec import Algorithm, Categorical, Double, ExperimentSpec, Int, Objective, Parameter
from kubetune.api.trial import Reason, Report, TrialRow
from kubetune.engine.engine import Engine
from kubetune.storage import base

LOSS = Objective("loss", "minimize")
ACCURACY = Objective("accuracy", "maximize")
SPACE: dict[str, Parameter] = {
    "lr": Double(1e-5, 1e-1, log=True),
    "momentum": Double(0.0, 0.9, step=0.1),
    "layers": Int(1, 4),
    "optimizer": Categorical(("adam", "sgd")),
}
# One of every kind.
MIXED: dict[str, Parameter] = {
    "a": Double(0.0, 1.0),
    "b": Double(1e-4, 1.0, log=True),
    "n": Int(1, 64),
    "k": Int(1, 512, log=True),
    "s": Double(0.0, 2.0, step=0.25),
    "kind": Categorical(("x", "y", "z")),
    "flag": Categorical((False, True)),
    "size": Categorical(("S", "M", "L", "XL"), ordered=True),
    "one": Categorical(("same",)),
}


def spec(**changes: Any) -> ExperimentSpec:
    """A spec that runs: one objective, random search, no pruner, fields replaced by ``changes``."""
    plain = ExperimentSpec(
        namespace="team",
        name="digits",
        uid="uid-1",
        generation=1,
        objectives=(LOSS,),
        parameters=SPACE,
        template={},
        sampler=Algorithm("random"),
        pruner=Algorithm("none"),
    )
    return dataclasses.replace(plain, **changes)


def reports(*metrics: Mapping[str, float], attempt: int = 1) -> list[Report]:
    """One report per mapping, at steps 0, 1, …"""
    return [
        Report(seq=index + 1, attempt=attempt, step=index, metrics=each, time=float(index))
        for index, each in enumerate(metrics)
    ]


class Trials:
    """The trials' side of one experiment: what pods and the gateway would do."""

    def __init__(self, spec: ExperimentSpec, storage: Any) -> None:
        self.spec = spec
        self.storage: base.GatewayStorage = storage
        self._keys = itertools.count()

    def who(self, row: TrialRow) -> base.Identity:
        job = f"job-{row.number}-{row.attempt}"
        return base.Identity(
            self.spec.uid, self.spec.namespace, self.spec.name, row.number, row.attempt, job, f"pod-of-{job}"
        )

    def start(self, engine: Engine, count: int = 1) -> list[TrialRow]:
        """Ask for trials and record their Jobs."""
        rows = engine.ask(count)
        for row in rows:
            assert engine.record_job(row.number, row.attempt, self.who(row).job_uid)
        return rows

    def report(self, row: TrialRow, values: Sequence[float], metric: str = "loss", first: int = 0) -> None:
        """The metric at steps ``first``, ``first`` + 1, …"""
        incoming = [
            base.Incoming(self.who(row), f"key-{next(self._keys)}", first + index, {metric: value})
            for index, value in enumerate(values)
        ]
        for answer in self.storage.accept(incoming):
            assert isinstance(answer, base.Answer), answer

    def run(self, engine: Engine, *values: float, failure: Reason | None = None) -> TrialRow:
        """A whole trial: asked, reported, tailed, ended."""
        (row,) = self.start(engine)
        self.report(row, values)
        engine.tail()
        return engine.finish(row.number, row.attempt, failure, "")
