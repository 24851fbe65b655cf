"""What is to run, what runs together, and the record of what has run."""

import dataclasses
import json
import pathlib
from collections.abc import Iterable

from dev.bench.search import fidelity
from dev.bench.search.catalogue import cache, problems
from dev.bench.search.entrants import entrants
from dev.bench.search.race import Run, shuffled


@dataclasses.dataclass(frozen=True)
class Heat:
    """All searchers on one problem with one seed."""

    family: str
    problem: str
    seed: int
    known: frozenset[str] = frozenset()  # searchers that have run, or are not to


def all_of(
    families: Iterable[str], seeds: int, quick: bool, known: Iterable[Run], without: frozenset[str] = frozenset()
) -> list[Heat]:
    done: dict[tuple[str, int], set[str]] = {}
    for run in known:
        done.setdefault((run.problem, run.seed), set()).add(run.entrant)
    names = [(problem.family, problem.name) for problem in problems() if problem.quick or not quick]
    names += [("fidelity", name) for name in (fidelity.QUICK if quick else fidelity.PROBLEMS)]
    return [
        Heat(family, name, seed, without.union(done.get((name, seed), ())))
        for seed in range(seeds)
        for family, name in names
        if family in families
    ]


def play(heat: Heat) -> list[Run]:
    return _play_fidelity(heat) if heat.family == "fidelity" else _play(heat)


def _play(heat: Heat) -> list[Run]:
    problem = next(each for each in problems() if each.name == heat.problem)
    suited = {each.name: each for each in entrants() if heat.family in each.families}
    made = []
    for name in shuffled(list(suited), heat.seed):
        if name not in heat.known:
            made.append(suited[name].run(problem, heat.seed))
    return [run for run in made if run is not None]


def _play_fidelity(heat: Heat) -> list[Run]:
    todo = fidelity.runs(fidelity.PROBLEMS[heat.problem](cache()), heat.seed)
    return [todo[name]() for name in shuffled(list(todo), heat.seed) if name not in heat.known]


def load(path: pathlib.Path) -> list[Run]:
    if not path.exists():
        return []
    forms = map(json.loads, path.read_text().splitlines())
    return [Run(**{**form, "reached": tuple(_number(value) for value in form["reached"])}) for form in forms]


def _number(value: float | None) -> float:
    return float("inf") if value is None else value


def dump(run: Run) -> str:
    form = dataclasses.asdict(run)
    form["reached"] = [None if value == float("inf") else round(value, 9) for value in run.reached]
    return json.dumps(form)
