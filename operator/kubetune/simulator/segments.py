"""What must be so of the segments of a population: each goes on from what ended well, no member twice at once."""

from collections.abc import Mapping

from kubetune.api.trial import TrialRow, TrialState
from kubetune.simulator.violation import check


def all_trials(rows: Mapping[int, TrialRow]) -> None:
    """At the end of a run."""
    for number, row in rows.items():
        if row.member is None:
            continue
        about = f"trial {number} of member {row.member} goes on from trial {row.parent}"
        if row.parent is not None:
            before = rows[row.parent]
            check(before.state is TrialState.COMPLETE and (before.ended or 0.0) <= row.created, "I1", about)
        earlier = [each for each in rows.values() if each.member == row.member and each.number < number]
        check(all((each.ended or 0.0) <= row.created for each in earlier), "I1", f"{about} while another one runs")
        if row.parent is None:
            good = [each.number for each in earlier if each.state is TrialState.COMPLETE]
            check(not good, "I1", f"{about}, though its trials {good} ended well")
