"""Tables (Markdown) and plots (SVG) of what was run, and the page that shows them."""

import math
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence

from dev.bench.search import fidelity, picture
from dev.bench.search.catalogue import cache, problems
from dev.bench.search.entrants import BASELINE, entrants
from dev.bench.search.race import Run
from dev.bench.search.score import Row, Scale, beside, curve, rows

TITLES = {
    "single": "Twelve functions, one objective",
    "noisy": "Functions with noise",
    "multi": "Several objectives: hypervolume",
    "constrained": "Constraints",
    "conditional": "Conditional parameters",
    "training": "Trainings of scikit-learn",
    "fidelity": "Trials of many steps: samplers with pruners, at equal cost",
}


def least(runs: Iterable[Run]) -> dict[str, float]:
    """By problem, where it is known; of hypervolumes what is lacking is counted, so the least is 0."""
    known = {problem.name: problem.least for problem in problems() if problem.least is not None}
    known |= {problem.name: 0.0 for problem in problems() if problem.corner}
    curves = {run.problem for run in runs if run.family == "fidelity"}
    return known | {name: fidelity.PROBLEMS[name](cache()).least for name in curves}


def references() -> dict[str, str]:
    """The sampler of ours that a library's is compared with, by the library's name."""
    known = {entrant.name: entrant.reference for entrant in entrants() if entrant.reference}
    return known | {name: ours for name, (ours, _, _) in fidelity.OPTUNA.items()}


def table(family: str, runs: Sequence[Run]) -> str:
    """The family's tables, as Markdown."""
    scale = Scale(runs, least(runs), BASELINE)
    found = rows(runs, scale)
    seeds = len({run.seed for run in runs})
    names = sorted({run.problem for run in runs})
    budget = len(runs[0].reached)
    unit = "whole trials" if family == "fidelity" else "trials"
    lines = [
        f"{', '.join(names)}; {budget} {unit}; {seeds} {'seed' if seeds == 1 else 'seeds'}.",
        "",
        "| | problems | runs | normalised regret | 95 % | mean rank | reaches `random` | after trials | CPU a trial |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *(_line(row, budget) for row in found),
    ]
    pairs = list(_pairs(runs, scale))
    if pairs:
        lines += ["", "| | less its reference | 95 % |", "| --- | --- | --- |", *pairs]
    return "\n".join(lines) + "\n"


def _line(row: Row, budget: int) -> str:
    after = "" if row.after == float("inf") else f"{max(1, round(row.after * budget))}"
    name = row.entrant if row.entrant in references() else f"**`{row.entrant}`**"
    return (
        f"| {name} | {row.problems} | {row.runs} | {row.regret:.3f} | {_between(row.low, row.high, '.3f')} | "
        f"{'' if math.isnan(row.rank) else f'{row.rank:.1f}'} | {row.reached:.0%} | {after} | {_cost(row.cost)} |"
    )


def _between(low: float, high: float, form: str) -> str:
    return "" if math.isnan(low) else f"{low:{form}} to {high:{form}}"


def _cost(milliseconds: float) -> str:
    return f"{milliseconds:.0f} ms" if milliseconds >= 10 else f"{milliseconds:.1f} ms"


def _pairs(runs: Sequence[Run], scale: Scale) -> Iterable[str]:
    for library, own in references().items():
        found = beside(runs, scale, own, library)
        if found is not None:
            mean, low, high = found
            yield f"| `{own}` less {library} | {mean:+.3f} | {_between(low, high, '+.3f')} |"


def draw(family: str, runs: Sequence[Run]) -> str:
    scale = Scale(runs, least(runs), BASELINE)
    present = {run.entrant for run in runs}
    like = {name: own for name, own in references().items() if name in present}
    lines = {name: curve(runs, scale, name) for name in _in_order(present)}
    return picture.svg(TITLES[family], "part of the budget", "mean normalised regret", lines, like)


def _in_order(present: set[str]) -> list[str]:
    names = [entrant.name for entrant in entrants()]
    names += [name for name, *_ in fidelity.ENTRANTS] + list(fidelity.OPTUNA)
    return [name for name in dict.fromkeys(names) if name in present]


def write(page: pathlib.Path, found: Mapping[str, Sequence[Run]]) -> None:
    """The tables into the page, and the plots beside it."""
    figures = page.parent / "figures"
    figures.mkdir(exist_ok=True)
    for family, runs in found.items():
        (figures / f"search-{family}.svg").write_text(draw(family, runs))
        put(page, family, f"{table(family, runs)}\n![{TITLES[family]}](figures/search-{family}.svg)")


def put(page: pathlib.Path, name: str, shown: str) -> None:
    """Into the page, between the comments that have this name."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    text, count = re.subn(f"{begin}.*?{end}", lambda _: f"{begin}\n{shown}\n{end}", page.read_text(), flags=re.DOTALL)
    if not count:
        raise ValueError(f"{page} has no place for {name}: {begin}{end}")
    page.write_text(text)
