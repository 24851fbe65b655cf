"""The check of a population's segments finds what is wrong."""

import dataclasses

import pytest

from kubetune.api.trial import TrialRow, TrialState
from kubetune.simulator import segments
from kubetune.simulator.violation import Violation


def row(number: int, parent: int | None, created: float, ended: float) -> TrialRow:
    return TrialRow(number, TrialState.COMPLETE, {}, 1, created, ended=ended, parent=parent, member=0)


GOOD = {0: row(0, None, 0.0, 5.0), 1: row(1, 0, 5.0, 9.0)}


def test_what_is_right_passes() -> None:
    segments.all_trials(GOOD)


@pytest.mark.parametrize(
    ("number", "wrong"),
    [
        (0, {"state": TrialState.FAIL}),  # its child goes on from it all the same
        (0, {"ended": 6.0}),  # after its child began
        (1, {"parent": None}),  # though there was something to go on from
        (1, {"parent": None, "created": 4.0}),  # while another one ran
    ],
)
def test_what_is_wrong_is_found(number: int, wrong: dict[str, object]) -> None:
    changed = dataclasses.replace(GOOD[number], **wrong)  # type: ignore[arg-type]
    with pytest.raises(Violation, match="member 0"):
        segments.all_trials({**GOOD, number: changed})
