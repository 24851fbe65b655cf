"""What comes after the search, as experiments of their own: the same engine and loop, a fixed list of parameter sets.

A phase's plan is made once, when it begins, and committed as the spec of its study: an edit changes what has not begun.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence

from kubetune.api import names
from kubetune.api.phases import FINALISTS
from kubetune.api.spec import Algorithm, ExperimentSpec, Given, Json
from kubetune.api.trial import Best, TrialRow, TrialState
from kubetune.engine import winner


def plan_finalists(spec: ExperimentSpec, best: Sequence[Best]) -> Json:
    """The best feasible trials of the search, and the seeds that each of them runs with."""
    assert spec.finalists is not None
    sets = [{"trial": each.number, "parameters": dict(each.params)} for each in best if not each.broken]
    return {"sets": sets, "seeds": [_seed(spec, replicate) for replicate in range(spec.finalists.replicates)]}


def _seed(spec: ExperimentSpec, replicate: int) -> int:
    """31 bits by a hash: no run of the search had it, but for one chance in two thousand millions for each."""
    root = spec.uid if spec.seed is None else spec.seed
    return int.from_bytes(hashlib.sha256(f"{root}/{FINALISTS}/{replicate}".encode()).digest()[:4]) >> 1


def derive(spec: ExperimentSpec, phase: str, plan: Json) -> ExperimentSpec:
    """The phase as an experiment. Its runs are asked for replicate by replicate, so that all finalists have as many."""
    runs = [(one, replicate, seed) for replicate, seed in enumerate(plan["seeds"]) for one in plan["sets"]]
    return dataclasses.replace(
        spec,
        uid=names.phase_uid(spec.uid, phase),
        objectives=tuple(dataclasses.replace(objective, target=None) for objective in spec.objectives),
        sampler=Algorithm("random"),  # never asked: what is given is whole
        pruner=Algorithm("none"),
        max_trials=len(runs),
        no_improvement=None,
        stop_trials=frozenset(),
        execution="jobs",
        warm_start=(),
        narrow={},
        stages=(),
        before=0,
        given=tuple(
            Given(f"{phase}/{one['trial']}.{replicate}", phase, one["parameters"]) for one, replicate, _ in runs
        ),
        finalists=None,
        runs=tuple(
            {names.ENV_PHASE: phase, names.ENV_REPLICATE: str(replicate), names.ENV_SEED: str(seed)}
            for _, replicate, seed in runs
        ),
    )


def judge(spec: ExperimentSpec, plan: Json, rows: Iterable[TrialRow]) -> winner.Winner | None:
    """The winner by the finalists' runs; None: none has completed."""
    sets = plan["sets"]
    complete = [row for row in rows if row.state is TrialState.COMPLETE and row.values]
    finalists = []
    for place, one in enumerate(sets):
        mine = [row for row in complete if row.number % len(sets) == place]
        values = {row.number // len(sets): row.values[0] for row in mine if row.values}
        finalists.append(winner.Finalist(one["trial"], one["parameters"], values, _broken(mine)))
    objective = spec.objectives[0]
    return winner.judge(finalists, objective.direction == "maximize", objective.metric)


def _broken(rows: Sequence[TrialRow]) -> bool:
    """Whether a constraint is broken, in the mean of the runs."""
    known = [row.constraints for row in rows if row.constraints is not None]
    return any(sum(each.get(name, 0.0) for each in known) > 0 for name in (known[0] if known else ()))
