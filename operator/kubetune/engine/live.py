"""A RUNNING trial in memory: its row and its series, brought up to date by what the gateway committed."""

import dataclasses
from collections.abc import Sequence

from kubetune.api.trial import Finish, Lease, Reason, Report, TrialRow
from kubetune.engine.curve import Curve
from kubetune.engine.history import Past
from kubetune.engine.pruners import Pruner
from kubetune.storage import rules


class Live:
    """One trial from its ask, or from loading it, to its end."""

    def __init__(self, row: TrialRow, metric: str, maximize: bool) -> None:
        self.row = row
        self.seen = row.last_seq  # the last sequence number taken in
        self.curve = Curve(maximize, row.number)
        self.curve.rung = row.rung
        self._metric = metric

    @property
    def past(self) -> Past:
        """The trial as samplers see it."""
        return Past(self.row.number, self.row.state, self.row.params, last=self.curve.last, member=self.row.member)

    @property
    def prunable(self) -> bool:
        """Not told to stop yet, and not at its end by its own account (stopping it would only lose its value)."""
        return self.row.stop_requested is None and self.row.finish is None and not self.row.log_read

    def said(self, finish: Finish | None, log_read: bool) -> None:
        """The trial's own word on its end, and whether its log was read to the end."""
        if (finish, log_read) != (self.row.finish, self.row.log_read):
            self.row = dataclasses.replace(self.row, finish=finish, log_read=log_read)

    def resume(self, steps: Sequence[int], values: Sequence[float]) -> None:
        """The current attempt's reports so far, in order of acceptance."""
        for step, value in zip(steps, values, strict=True):
            self.curve.add(step, value)

    def held(self, lease: Lease | None, now: float) -> None:
        """The trial's attempt is on lease, by what the gateway committed."""
        if lease is None or lease == self.row.lease:
            return
        started = now if self.row.started is None else self.row.started
        self.row = dataclasses.replace(self.row, lease=lease, job_uid=lease.job_uid, started=started)

    def take(self, reports: Sequence[Report], pruner: Pruner | None = None) -> str | None:
        """Take in new reports in order; why to stop, if the pruner said so at one of them. Those of earlier attempts do
        not count."""
        why = None
        for report in reports:
            self.seen = report.seq
            if report.attempt != self.row.attempt:
                self.row = dataclasses.replace(self.row, last_seq=max(self.row.last_seq, report.seq))
                continue
            if report.seq > self.row.last_seq:
                self.row = rules.with_report(self.row, report)
            if self._metric in report.metrics:
                self.curve.add(report.step, report.metrics[self._metric])
                if pruner is not None and why is None and self.prunable:
                    why = pruner.prune(self.curve)
        return why

    def start_again(self, reason: Reason) -> None:
        """The attempt is given up: the next one begins with an empty series."""
        self.row = rules.next_attempt(self.row, reason)
        self.curve = Curve(self.curve.maximize, self.row.number)
