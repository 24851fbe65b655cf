"""`kubectl tune schedule`: which parameters a trial trained with from which step on, along what it went on from. Pure.

A winner of population-based training is not a set of parameters but a sequence of them; `sampler` writes it as the
settings that train it again (docs/population-based-training.md).
"""

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kubetune.cli import explain, text
from kubetune.cli.model import Experiment, Trial

RETRIES = 10  # trials more than segments: those that fail are tried again


def lineage(rows: Iterable[Trial], number: int) -> list[Trial]:
    """The trial and all that it goes on from, the first one first. Raises Problem: there is no such trial."""
    known = {row.number: row for row in rows}
    if number not in known:
        raise explain.Problem(f"there is no trial {number}; they are listed by: kubectl tune trials NAME")
    line = [known[number]]
    while (parent := line[-1].parent) is not None:
        line.append(known[parent])
    return line[::-1]


def lines(shown: Experiment, line: Sequence[Trial]) -> list[str]:
    """The table."""
    metric = _metric(shown)
    last, count = line[-1], text.plural(len(line), "segment")
    head = f"trial {last.number} of {shown.name}: {metric} {_value(last)} after {count}"
    rows = [
        [str(one.number), _number(one.member), _steps(after, one), _value(one), text.parameters(one.parameters)]
        for after, one in _after(line)
    ]
    return [head, *text.table(["TRIAL", "MEMBER", "STEPS", metric.upper(), "PARAMETERS"], rows, [0, 1, 3])]


def as_json(shown: Experiment, line: Sequence[Trial]) -> dict[str, Any]:
    """For programs. ``after``: the last step of the segment before, null if there is none or steps begin anew."""
    return {
        "experiment": shown.name,
        "namespace": shown.namespace,
        "trial": line[-1].number,
        "metric": _metric(shown),
        "segments": [
            {
                "trial": one.number,
                "parent": one.parent,
                "member": one.member,
                "after": after,
                "to": one.last_step,
                "value": one.values[0] if one.values else None,
                "parameters": dict(one.parameters),
            }
            for after, one in _after(line)
        ],
    }


def sampler(shown: Experiment, line: Sequence[Trial]) -> list[str]:
    """YAML: what to put into an Experiment of the same parameters so that it trains once, by this schedule."""
    return [
        f"# Trial {line[-1].number} of {shown.namespace}/{shown.name}, {_metric(shown)} {_value(line[-1])}:"
        " for the spec of an Experiment with the same parameters.",
        "sampler:",
        "  name: schedule",
        "  settings:",
        "    segments:",
        *(f"    - {_flow(one.parameters)}" for one in line),
        f"maxTrials: {len(line) + RETRIES}  # it ends once the schedule is trained; segments that fail are tried again",
        "parallelism: {max: 1}",
    ]


def _after(line: Sequence[Trial]) -> list[tuple[int | None, Trial]]:
    """With each segment where the one before ended, if its own steps go on from there."""
    found: list[tuple[int | None, Trial]] = [(None, line[0])]
    for before, one in itertools.pairwise(line):
        counted = None not in (before.last_step, one.last_step) and (one.last_step or 0) > (before.last_step or 0)
        found.append((before.last_step if counted else None, one))
    return found


def _steps(after: int | None, one: Trial) -> str:
    if one.last_step is None:
        return "-"
    return f"to {one.last_step}" if after is None else f"{after + 1} to {one.last_step}"


def _metric(shown: Experiment) -> str:
    return shown.objectives[0][0] if shown.objectives else "value"


def _value(one: Trial) -> str:
    return text.number(one.values[0] if one.values else None)


def _number(given: int | None) -> str:
    return "-" if given is None else str(given)


def _flow(parameters: Mapping[str, Any]) -> str:
    """A YAML mapping on one line: JSON is one."""
    return json.dumps(dict(parameters), ensure_ascii=False)
