"""A RUNNING trial in memory: its row and its series, brought up to date by what the gateway committed."""

import dataclasses
from collections.abc import Sequence

from kubetune.api.trial import Finish, Lease, Reason, Report, TrialRow
from kubetune.engine.curve import Curve
from kubetune.engine.history import Past
from kubetune.engine.pruners import Pruner
from kubetune.storage import rules


def taught(row: TrialRow, one_series: bool) -> Past | None:
    """A RUNNING trial as samplers see it for what its ended legs came to, whatever it has reported since: so that it
    can be seen so again from the record. None: it has none, or what it came to was not kept."""
    if not row.legs:
        return None
    last, placing = row.legs[-1], row.legs[-1].placing
    if not one_series:
        values = tuple(sum(each) / len(row.legs) for each in zip(*(leg.values for leg in row.legs), strict=True))
        at = len(row.legs) - 1, last.values[0]
        return Past(row.number, row.state, row.params, values, at, member=row.member)
    if placing is None:
        return None
    return Past(row.number, row.state, row.params, last.values, placing.last, member=row.member)


class Live:
    """One trial from its ask, or from loading it, to its end."""

    def __init__(self, row: TrialRow, metric: str, maximize: bool, one_series: bool = True) -> None:
        """``one_series``: as `Course.one_series`."""
        self.row = row
        self.seen = row.last_seq  # the last sequence number taken in
        self.curve = Curve(maximize, row.number)
        self.curve.rung = row.rung
        self.judged: list[tuple[int, int | None, str | None]] = []  # (seq, rung, why to stop), to be recorded
        self._metric = metric
        self._one_series = one_series
        self._reporting = 1 if row.attempt == 1 else 0  # the attempt that reported last; 0: not known
        self._before: Curve | None = None  # what was reported by earlier attempts; None: nothing
        if not one_series:
            for leg, ended in enumerate(row.legs):
                self.curve.add(leg, ended.values[0])

    @property
    def past(self) -> Past:
        """The trial as samplers see it."""
        row = self.row
        return taught(row, self._one_series) or Past(
            row.number,
            row.state,
            row.params,
            row.legs[-1].values if row.legs else None,
            self.curve.last,
            member=row.member,
        )

    @property
    def prunable(self) -> bool:
        """Not told to stop yet, and not at its end by its own account (stopping it would only lose its value)."""
        return self.row.stop_requested is None and self.row.finish is None and not self.row.log_read

    def said(self, finish: Finish | None, log_read: bool) -> None:
        """The trial's own word on its end, and whether its log was read to the end."""
        if (finish, log_read) != (self.row.finish, self.row.log_read):
            self.row = dataclasses.replace(self.row, finish=finish, log_read=log_read)

    def resume(self, steps: Sequence[int], values: Sequence[float]) -> None:
        """The reports so far that count, in order of acceptance."""
        if self._one_series:
            for step, value in zip(steps, values, strict=True):
                self.curve.add(step, value)
            self._before = self.curve if self.row.attempt > 1 else None

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
            if not self._one_series:
                continue
            if report.attempt != self._reporting:
                self._go_on(report, pruner)
            if self._metric in report.metrics:
                self.curve.add(report.step, report.metrics[self._metric])
                if pruner is not None and why is None and self.prunable:
                    why = self.judge(pruner)
        return why

    def judge(self, pruner: Pruner) -> str | None:
        """What the pruner says of all that was taken in."""
        before = self.curve.rung
        why = pruner.prune(self.curve)
        if why is not None or self.curve.rung != before:
            self.judged.append((self.seen, self.curve.rung, why))
        return why

    def _go_on(self, report: Report, pruner: Pruner | None) -> None:
        """An attempt's first report says from where it goes on (`rules.chain`)."""
        self._reporting = report.attempt
        before, self._before = self._before, None
        whole = before is not None and before.last_step < report.step
        if before is None or (whole and before is self.curve):
            return
        if pruner is not None:
            pruner.withdraw(self.curve)
        self.curve = before if whole else before.before(report.step)

    def start_again(self, reason: Reason) -> None:
        """The attempt is given up: until the next one says where it goes on, what it reported does not count."""
        spoke = self._reporting == self.row.attempt
        self.row = rules.next_attempt(self.row, reason)
        if not self._one_series:
            return
        self._before = self.curve if spoke else self._before
        last = self.row.legs[-1].last_step if self.row.legs else None
        empty = Curve(self.curve.maximize, self.row.number)
        self.curve = self.curve.before(last + 1) if last is not None else empty

    def end_leg(self, row: TrialRow) -> None:
        """The leg has ended; ``row``: as the trial is then."""
        self.seen = max(self.seen, row.last_seq)
        self.row = row
        if self._one_series:
            self._before = self.curve
        else:
            self.curve.add(len(row.legs) - 1, row.legs[-1].values[0])
