"""`kubectl tune watch`: looks again and again until the experiment ends, and draws what it sees."""

import shutil
import sys
import time
from typing import TextIO

from kubetune.cli import explain, model, progress
from kubetune.cli.access import Access

INTERVAL = 1.0  # seconds between two looks
PLAIN_INTERVAL = 2.0


class Looker:
    """What was seen so far. Trials that ended do not change, so only those after the first open one are read again."""

    def __init__(self, access: Access, name: str) -> None:
        self._access = access
        self._name = name
        self._uid = ""
        self._trials: dict[int, model.Trial] = {}
        self._settled = 0  # trials below this number have ended
        self._no_access = ""
        self._last: progress.Moment | None = None

    def look(self) -> progress.Moment:
        """Raises Problem if the experiment is not there, or at first if the API server is not."""
        note = ""
        try:
            resource = self._access.experiment(self._name)
            if resource["metadata"].get("uid", "") != self._uid:  # deleted and applied again: another study
                self._uid, self._trials, self._settled = resource["metadata"].get("uid", ""), {}, 0
            shown = model.experiment(resource)
        except explain.Problem as problem:
            if not problem.passing or self._last is None:
                raise
            shown, note = self._last.experiment, str(problem)
        note = note or self._read_trials(shown)
        self._last = progress.Moment(
            shown, [self._trials[number] for number in sorted(self._trials)], time.time(), note
        )
        return self._last

    def _read_trials(self, shown: model.Experiment) -> str:
        """What stands in the way, or nothing."""
        if self._no_access or not shown.total:
            return self._no_access
        try:
            for answer in self._access.trials(self._name, offset=self._settled):
                one = model.trial(answer)
                self._trials[one.number] = one
        except explain.NoReadAccess as problem:
            self._no_access = str(problem)
            return self._no_access
        except explain.Problem as problem:
            return str(problem)
        while self._settled in self._trials and self._trials[self._settled].state != "RUNNING":
            self._settled += 1
        return ""


class Screen:
    """The terminal: each picture is drawn over the last one."""

    def __init__(self, out: TextIO, plain: bool) -> None:
        self._out = out
        self._plain = plain
        self._height = 0

    def draw(self, moment: progress.Moment) -> None:
        size = shutil.get_terminal_size()
        lines = progress.picture(moment, size.columns - 1, self._plain)[: size.lines - 1]
        up = f"\x1b[{self._height}A" if self._height else ""
        self._out.write(up + "\r" + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J")
        self._out.flush()
        self._height = len(lines)


class Log:
    """No terminal: one line when something has happened."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._news: tuple[object, ...] = ()

    def draw(self, moment: progress.Moment) -> None:
        news = progress.news(moment)
        if news != self._news:
            self._news = news
            print(time.strftime("%H:%M:%S"), progress.line(moment), file=self._out, flush=True)


def ascii_only(out: TextIO) -> bool:
    """Whether blocks and bars cannot be written there."""
    return "utf" not in (getattr(out, "encoding", "") or "").lower()


def watch(access: Access, name: str, out: TextIO = sys.stdout) -> int:
    """Until the experiment ends. Returns 0 if it is Complete, else 1."""
    live = out.isatty()
    drawing: Screen | Log = Screen(out, ascii_only(out)) if live else Log(out)
    looker = Looker(access, name)
    while True:
        moment = looker.look()
        drawing.draw(moment)
        if moment.experiment.ended and not moment.experiment.edited:
            print("", *progress.ending(moment), sep="\n", file=out, flush=True)
            return 0 if moment.experiment.state == "Complete" else 1
        time.sleep(INTERVAL if live else PLAIN_INTERVAL)
