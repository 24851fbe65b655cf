"""Which trials merely run, so that a look need not judge them one by one. Pure, but for what `Roster` remembers.

Of a steady trial nothing follows, whatever the time: its recorded Job's pod runs, on a node that is there, nobody wants
it to stop, and it has not said that it has ended. Most trials are so at most looks; the cost of a look is that of the
others. Rows and views are never changed in place: one that is the same object as before is as it was.
"""

from collections.abc import Mapping, Sequence

from kubetune.api.trial import TrialRow
from kubetune.controller.plan import Apart, JobPhase, JobView


def is_steady(row: TrialRow, job: JobView, nodes_gone: frozenset[str]) -> bool:
    """Whether `decide` has nothing to do for it but to count it, unless the whole experiment is cut or suspended, or a
    person stops this very trial; and nothing is to be recorded of it."""
    pod = job.pod
    return (
        job.phase is JobPhase.RUNNING
        and not job.deleting
        and not job.worker
        and job.leased is None
        and pod is not None
        and pod.phase == "Running"
        and pod.scheduled
        and not pod.deleted
        and pod.node not in nodes_gone
        and (row.job_uid, row.attempt) == (job.uid, job.attempt)
        and row.started is not None
        and row.stop_requested is None
        and row.finish is None
        and row.lease is None
        and not row.offered
    )


class Roster:
    """One experiment's steady trials from look to look."""

    def __init__(self) -> None:
        self._steady: dict[int, tuple[TrialRow, JobView]] = {}
        self._nodes_gone: frozenset[str] = frozenset()

    def divide(self, running: Mapping[int, TrialRow], jobs: Sequence[JobView], nodes_gone: frozenset[str]) -> Apart:
        """The steady trials, and all that is not about one of them."""
        before = self._steady if nodes_gone == self._nodes_gone else {}
        steady: dict[int, tuple[TrialRow, JobView]] = {}
        others = []
        for job in jobs:
            number = job.number
            row, known = running.get(number), before.get(number)
            if known is not None and known[1] is job and known[0] is row:
                steady[number] = known
            elif row is not None and is_steady(row, job, nodes_gone):
                steady[number] = (row, job)
            else:
                others.append(job)
        self._steady, self._nodes_gone = steady, nodes_gone
        rows = {number: row for number, row in running.items() if number not in steady}
        return Apart(steady.keys(), rows, tuple(others))
