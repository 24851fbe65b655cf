"""What happens in one simulated run, drawn from its seed: experiments, how trials behave, what goes wrong and when."""

import dataclasses
import random
from typing import Any

from kubetune.api import names
from kubetune.api.spec import Json
from kubetune.simulator import trials

LOSSES = ("evict", "delete pod", "delete job", "cut off", "lose node")
HOLDS = ("hold job", "hold job in the foreground")
REFUSED_IMAGE = "refused:1"  # the API server takes no Job with it
MEMBERS = 6  # of a population: as many as a drawn parallelism is at most
STORM = 240.0  # seconds in which things go wrong; then it is calm


@dataclasses.dataclass(frozen=True)
class Change:
    """A person's edit: what of the spec is changed, when (seconds from the beginning). ``spec`` None: deleted."""

    time: float
    uid: str
    spec: Json | None

    @property
    def asks_again(self) -> bool:
        """An experiment that has ended may run again for it."""
        return not {"finalists", "refit", "test"}.isdisjoint(self.spec or {})


@dataclasses.dataclass(frozen=True)
class Scenario:
    """One run. Rates are probabilities at each request or event, until `STORM` is over."""

    seed: int
    experiments: tuple[Json, ...]
    odd: float = 0.0  # share of trials that do not just complete
    kinds: tuple[str, ...] = tuple(trials.ENDS)
    nodes: int = 2
    slots: int = 3
    crash: float = 0.0
    unavailable: float = 0.0
    lost_event: float = 0.0
    lag: float = 0.3  # seconds that a watch event takes at most
    queued: float = 0.05  # seconds at most until a write that nobody waits for arrives
    losses: tuple[tuple[float, str], ...] = ()  # (time, one of LOSSES or HOLDS)
    takeovers: tuple[float, ...] = ()  # a second operator starts while the first one lives
    quotas: tuple[tuple[float, float], ...] = ()  # (from, to): no Job may be created
    changes: tuple[Change, ...] = ()
    crash_at: int | None = None
    limit: int = 0  # trials in flight, of all experiments together; 0: none
    look: float = 0.0  # seconds that a look takes
    poisoned: frozenset[str] = frozenset()  # UIDs of experiments at which every look fails
    bound: float = 4000.0  # seconds after the last fault until everything must be over (I7)


_PRUNERS: tuple[Json, ...] = (
    {"name": "asha", "settings": {"reductionFactor": 2}},
    {"name": "hyperband", "settings": {"maxResource": 8, "reductionFactor": 2}},
    {"name": "bandit", "settings": {"slackAmount": 0.3, "delayEvaluation": 2}},
    {"name": "truncation", "settings": {"truncationPercentage": 30}},
    {"name": "patience", "settings": {"patience": 1, "pruner": {"name": "percentile", "settings": {"percentile": 25}}}},
    {"name": "plateau", "settings": {"patience": 2}},
)


def with_image(image: str, *args: str) -> Json:
    """A part of a spec: a template with this image and these arguments."""
    return {"template": {"spec": {"containers": [{"name": "trial", "image": image, "args": list(args)}]}}}


def experiment(name: str, **spec: Any) -> Json:
    """A custom resource as the API server would show it, before it was seen by anyone."""
    body: Json = {
        "objective": {"metric": trials.METRIC, "direction": "maximize"},
        "parameters": {"x": {"double": [0, 1]}, "k": {"int": [1, 4]}},
        "sampler": {"name": "random"},
        "pruner": {"name": "median", "settings": {"nStartupTrials": 3, "nWarmupSteps": 1}},
        "maxTrials": 8,
        "parallelism": {"max": 2},
        "seed": 1,
        **with_image("trial:1", "--x=$(x)"),
    }
    metadata = {"name": name, "namespace": "team-a", "uid": f"uid-{name}", "generation": 1}
    return {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": metadata, "spec": {**body, **spec}}


def draw(seed: int) -> Scenario:
    """A run by chance: every seed another mixture of trials, people and faults."""
    dice = random.Random(seed)
    made = tuple(_experiment(dice, f"exp{number}") for number in range(dice.choice((1, 1, 1, 2))))
    more = random.Random(f"{seed}/more")
    made = tuple(_more(more, each) for each in made)
    after = random.Random(f"{seed}/after")
    made = tuple(_after(after, each) for each in made)
    calm = dice.random() < 0.1
    kinds = tuple(kind for kind in trials.ENDS if kind != "completes" and dice.random() < 0.6) or ("exits",)
    return Scenario(
        seed=seed,
        experiments=made,
        odd=dice.choice((0.0, 0.15, 0.4)),
        kinds=kinds,
        nodes=dice.randint(1, 3),
        slots=dice.randint(1, 3),
        crash=0.0 if calm else dice.choice((0.0, 0.005, 0.03)),
        unavailable=0.0 if calm else dice.choice((0.0, 0.01, 0.04)),
        lost_event=0.0 if calm else dice.choice((0.0, 0.05, 0.3)),
        lag=dice.choice((0.05, 0.5, 5.0)),
        losses=() if calm else (*_losses(dice), *_held(random.Random(f"{seed}/held"))),
        takeovers=() if calm else tuple(dice.uniform(1, STORM) for _ in range(dice.choice((0, 0, 1, 3)))),
        quotas=() if calm or dice.random() < 0.8 else ((dice.uniform(0, 60), dice.uniform(60, STORM)),),
        changes=tuple(change for each in made for change in _changes(seed, dice, each)),
        limit=dice.choice((0, 0, 0, 1, 2, 4)),
        queued=dice.choice((0.0, 0.5, 5.0)),
        look=random.Random(f"{seed}/look").choice((0.0, 0.0, 0.1, 1.0)),
    )


def in_workers(seed: int) -> Scenario:
    """The same mixture, with trials in workers, or in both."""
    dice, drawn = random.Random(f"workers/{seed}"), draw(seed)
    made = []
    for resource in drawn.experiments:
        spec = {key: value for key, value in resource["spec"].items() if key != "metrics"}
        container = {"name": "trial", "image": "trial:1", "command": ["train", "--x=$(x)"]}
        spec["template"] = {"spec": {"containers": [container]}}
        spec["execution"] = dice.choice(("workers", "workers", "workers", "auto"))
        spec["slotsPerWorker"] = dice.choice((1, 1, 2, 3))
        made.append({**resource, "spec": spec})
    kinds = tuple(kind for kind in drawn.kinds if kind not in ("image", "config")) or ("exits",)
    changes = [
        Change(dice.uniform(5, 120), each["metadata"]["uid"], {"execution": dice.choice(("jobs", "workers", "auto"))})
        for each in made
        if dice.random() < 0.2
    ]
    return dataclasses.replace(drawn, experiments=tuple(made), kinds=kinds, changes=(*drawn.changes, *changes))


def in_populations(seed: int) -> Scenario:
    """The same mixture, with trials that go on from each other."""
    drawn = draw(seed)
    sampler = {"name": "pbt", "settings": {"populationSize": MEMBERS, "quantileFraction": 0.4}}
    made = []
    for each in drawn.experiments:
        spec = {key: value for key, value in each["spec"].items() if key not in ("finalists", "refit", "test")}
        made.append({**each, "spec": {**spec, "sampler": sampler, "maxTrials": 2 * spec["maxTrials"]}})
    changes = [each for each in drawn.changes if not each.asks_again]
    return dataclasses.replace(drawn, experiments=tuple(made), changes=tuple(map(_longer, changes)))


def _longer(change: Change) -> Change:
    if change.spec is None or "maxTrials" not in change.spec:
        return change
    return dataclasses.replace(change, spec={**change.spec, "maxTrials": 2 * change.spec["maxTrials"]})


def in_stages(seed: int) -> Scenario:
    """The same mixture, each experiment in two or three stages."""
    dice, drawn = random.Random(f"stages/{seed}"), draw(seed)
    made = []
    for resource in drawn.experiments:
        spec = {key: value for key, value in resource["spec"].items() if key not in ("sampler", "maxTrials")}
        grid: Json = {"name": "grid", "settings": {"points": 2}}
        stages: list[Json] = [{"sampler": grid, "maxTrials": dice.choice((2, 20))}]
        for _ in range(dice.choice((1, 2))):
            sampler = dice.choice(({"name": "random"}, {"name": "random"}, grid))
            stages.append({"sampler": sampler, "maxTrials": dice.randint(1, 5), "narrow": {"to": 0.5}})
        made.append({**resource, "spec": {**spec, "maxTrials": 100, "stages": stages}})
    changes = [change for change in drawn.changes if "maxTrials" not in (change.spec or {})]
    return dataclasses.replace(drawn, experiments=tuple(made), changes=tuple(changes))


def in_legs(seed: int) -> Scenario:
    """The same mixture, with trials that are paused and promoted; in Jobs, in workers, or in both."""
    dice = random.Random(f"legs/{seed}")
    drawn = in_workers(seed) if dice.random() < 0.3 else draw(seed)
    made = tuple({**each, "spec": {**each["spec"], **_rungs(dice)}} for each in drawn.experiments)
    return dataclasses.replace(drawn, experiments=made)


def in_runs(seed: int) -> Scenario:
    """The same mixture, with trials of several runs: folds, replicates, or both; in Jobs, in workers, or in both."""
    dice = random.Random(f"runs/{seed}")
    drawn = in_workers(seed) if dice.random() < 0.3 else draw(seed)
    made = []
    for each in drawn.experiments:
        spec = {**each["spec"], "pruner": {"name": "none"}}
        kind = dice.choice(("folds", "replicates", "both"))
        if kind != "replicates":
            spec["validation"] = {"folds": dice.randint(2, 4)}
            spec["pruner"] = {"name": dice.choice(("none", "median"))}
        if kind != "folds":
            most = dice.randint(2, 4)
            spec["replicates"] = {"max": most, "min": dice.randint(1, most)}
        made.append({**each, "spec": spec})
    return dataclasses.replace(drawn, experiments=tuple(made))


def _rungs(dice: random.Random) -> Json:
    top, factor = dice.choice(((4, 2), (8, 2), (9, 3), (5, 2)))
    pruner: Json = {"name": "asha", "settings": {"type": "promotion", "reductionFactor": factor}}
    if dice.random() < 0.25:
        pruner["name"] = "hyperband"
    resume = dice.choice(("checkpoint", "restart"))
    return {"pruner": pruner, "fidelity": {"name": trials.RESOURCE, "min": 1, "max": top, "resume": resume}}


def _experiment(dice: random.Random, name: str) -> Json:
    spec: Json = {"maxTrials": dice.randint(1, 12), "parallelism": {"max": dice.randint(1, 5)}}
    spec["deadline"] = {"trial": "2m"}
    spec["maxFailedTrials"] = dice.choice((0, 2, 10))
    if dice.random() < 0.2:
        spec["sampler"] = {"name": "grid"}
        spec["parameters"] = {"x": {"values": [0.25, 0.5]}, "k": {"int": [1, 3]}}
    if dice.random() < 0.3:
        spec["metrics"] = {"from": "log"}
    if dice.random() < 0.15:
        spec["objective"] = {"metric": trials.METRIC, "direction": "maximize", "target": 0.9}
    if dice.random() < 0.1:
        spec["deadline"]["experiment"] = f"{dice.randint(20, 200)}s"
    return experiment(name, **spec)


def _more(dice: random.Random, made: Json) -> Json:
    """What came later has dice of its own, so that a seed's other choices stay as they were."""
    spec: Json = {}
    if dice.random() < 0.15:
        spec["stop"] = {"noImprovement": {"trials": dice.randint(1, 4), "minDelta": dice.choice((0, 0.1))}}
    if dice.random() < 0.4:
        spec["pruner"] = dice.choice(_PRUNERS)
    return {**made, "spec": {**made["spec"], **spec}}


def _after(dice: random.Random, made: Json) -> Json:
    """What comes after the search."""
    spec: Json = {}
    if dice.random() < 0.3:
        spec["finalists"] = {"top": dice.randint(1, 3), "replicates": dice.randint(1, 3)}
    if dice.random() < 0.3:
        spec["refit"] = {"args": ["--full-data"], "deadline": "2m"}
    if dice.random() < 0.3:
        spec["test"] = {"args": ["--score-test-set"], "deadline": "2m"}
    return {**made, "spec": {**made["spec"], **spec}}


def _losses(dice: random.Random) -> tuple[tuple[float, str], ...]:
    count = dice.choice((0, 0, 2, 6))
    return tuple((dice.uniform(2, STORM), dice.choice(LOSSES)) for _ in range(count))


def _held(dice: random.Random) -> tuple[tuple[float, str], ...]:
    count = dice.choice((0, 0, 0, 1, 4))
    return tuple((dice.uniform(2, STORM), dice.choice(HOLDS)) for _ in range(count))


def _changes(seed: int, dice: random.Random, resource: Json) -> list[Change]:
    uid, spec = resource["metadata"]["uid"], resource["spec"]
    found = _blunder(random.Random(f"{seed}/{uid}"), uid, spec)
    if dice.random() < 0.3:
        begin = dice.uniform(0.5, 60)
        found += [Change(begin, uid, {"suspend": True})]
        found += [Change(begin + dice.uniform(0.1, 60), uid, {"suspend": False})]
    if dice.random() < 0.4:
        found += [
            Change(dice.uniform(0.5, 120), uid, {"parallelism": {"max": dice.randint(1, 6)}})
            for _ in range(dice.randint(1, 3))
        ]
    if dice.random() < 0.2:
        found.append(Change(dice.uniform(1, 40), uid, {"maxTrials": spec["maxTrials"] + dice.randint(1, 4)}))
    if dice.random() < 0.2:
        numbers = sorted(dice.sample(range(spec["maxTrials"]), 1))
        found.append(Change(dice.uniform(1, 40), uid, {"stopTrials": numbers}))
    if dice.random() < 0.05:
        found.append(Change(dice.uniform(1, 100), uid, None))
    return found + _again(random.Random(f"{seed}/{uid}/again"), uid, spec)


def _again(dice: random.Random, uid: str, spec: Json) -> list[Change]:
    """What comes after the search is asked for by a name, before it has begun or after."""
    chosen = [which for which in ("finalists", "refit", "test") if which in spec and dice.random() < 0.2]
    return [Change(dice.uniform(20, 200), uid, {which: {**spec[which], "name": "again"}}) for which in chosen]


def _blunder(dice: random.Random, uid: str, spec: Json) -> list[Change]:
    """An edit that cannot be run, and the one that mends it; in between, maybe, somebody wants it all to stop."""
    if dice.random() >= 0.25:
        return []
    kind = dice.choice(("no such parameter", "no such pattern", "refused by the server"))
    blunder = {
        "no such parameter": with_image("trial:1", "--y=$(y)"),
        "no such pattern": {"metrics": {**spec.get("metrics", {}), "pattern": "("}},
        "refused by the server": with_image(REFUSED_IMAGE),
    }[kind]
    made, mended = dice.uniform(0.5, 60), dice.uniform(60, 150)
    found = [Change(made, uid, blunder)]
    if dice.random() < 0.3:
        found += [Change(made + dice.uniform(0, 5), uid, {"suspend": True})]
    mending = {**with_image("trial:2", "--x=$(x)"), "metrics": spec.get("metrics", {}), "suspend": False}
    return [*found, Change(mended, uid, mending)]
