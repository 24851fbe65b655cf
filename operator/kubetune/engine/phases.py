"""What comes after the search, as experiments of their own: the same engine and loop, a fixed list of parameter sets.

A phase's plan is made once, when it begins, and committed as the spec of its study: an edit changes what has not begun.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence

from kubetune.api import names, phases
from kubetune.api.phases import Once
from kubetune.api.spec import Algorithm, ExperimentSpec, Given, Json, Metrics, Objective, Params, Validation, duration
from kubetune.api.trial import Best, TrialRow, TrialState
from kubetune.engine import winner
from kubetune.storage.base import Version


def plan_finalists(spec: ExperimentSpec, best: Sequence[Best]) -> Json:
    """The best feasible trials of the search, and the seeds that each of them runs with."""
    assert spec.finalists is not None
    sets = [{"trial": each.number, "parameters": dict(each.params)} for each in best if not each.broken]
    one = spec.finalists
    return {"sets": sets, "seeds": [_seed(spec, place, one.phase) for place in range(one.replicates)]}


def _seed(spec: ExperimentSpec, replicate: int, phase: str) -> int:
    """31 bits by a hash: no run of the search had it, but for one chance in two thousand millions for each."""
    root = spec.uid if spec.seed is None else spec.seed
    return int.from_bytes(hashlib.sha256(f"{root}/{phase}/{replicate}".encode()).digest()[:4]) >> 1


def plan_once(spec: ExperimentSpec, once: Once, trial: int, params: Params, model: Version | None) -> Json:
    """One run with the winner's parameters, and what its pod has otherwise."""
    image = spec.template["spec"]["containers"][0].get("image", "")
    sets = [{"trial": trial, "parameters": dict(params)}]
    plan: Json = {"sets": sets, "seeds": [_seed(spec, 0, once.phase)], "form": once.form, "image": image}
    if model is not None:
        plan["model"] = {"version": model.number, "address": model.address, "digest": model.digest}
    return plan


def derive(spec: ExperimentSpec, phase: str, plan: Json) -> ExperimentSpec:
    """The phase as an experiment. Its runs are asked for replicate by replicate, so that all finalists have as many."""
    runs = [(one, replicate, seed) for replicate, seed in enumerate(plan["seeds"]) for one in plan["sets"]]
    which = phases.kind(phase)
    alone = which != phases.FINALISTS
    return dataclasses.replace(
        spec,
        uid=names.phase_uid(spec.uid, phase),
        objectives=_objectives(spec, which),
        constraints=() if alone else spec.constraints,
        metrics=Metrics() if which == phases.REFIT else spec.metrics,  # its model is told to the gateway
        template=phases.changed(spec.template, plan["form"]) if alone else spec.template,
        sampler=Algorithm("random"),  # never asked: what is given is whole
        pruner=Algorithm("none"),
        max_trials=len(runs),
        max_failed_trials=0 if alone else spec.max_failed_trials,
        trial_deadline=_deadline(plan["form"], which) if alone else spec.trial_deadline,
        no_improvement=None,
        regret_bound=None,
        stop_trials=frozenset(),
        execution="jobs",
        warm_start=(),
        narrow={},
        where=(),  # it holds of the winner; that random sets fulfil it too need not be
        stages=(),
        before=0,
        # Runs of finalists have seeds of their own, and are as many folds as trials were; refit and test are one run.
        validation=Validation(spec.validation.folds if which == phases.FINALISTS else 1),
        given=tuple(
            Given(f"{phase}/{one['trial']}.{replicate}", phase, one["parameters"]) for one, replicate, _ in runs
        ),
        finalists=None,
        refit=None,
        test=None,
        runs=tuple(_environment(which, plan, replicate, seed) for _, replicate, seed in runs),
        once=which == phases.TEST,
    )


def _deadline(form: Json, which: str) -> float | None:
    """Of its own alone: a trial's says nothing about a run on all the data."""
    return duration(str(form["deadline"]), f"{which}.deadline") if form.get("deadline") else None


def _objectives(spec: ExperimentSpec, which: str) -> tuple[Objective, ...]:
    if which == phases.REFIT:  # it need not be validated on anything; that it has told its model is what counts
        return (Objective(names.MODEL_METRIC, "maximize"),)
    return tuple(dataclasses.replace(objective, target=None) for objective in spec.objectives)


def _environment(which: str, plan: Json, replicate: int, seed: int) -> dict[str, str]:
    found = {names.ENV_PHASE: which, names.ENV_SEED: str(seed)}
    if which == phases.FINALISTS:
        found[names.ENV_REPLICATE] = str(replicate)
    if "model" in plan:
        found |= {names.ENV_MODEL: plan["model"]["address"], names.ENV_MODEL_DIGEST: plan["model"]["digest"]}
    return found


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
