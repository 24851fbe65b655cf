"""What a sampler process has been told of experiments' whole pasts, so that it need only be told what is new."""

import collections
import dataclasses

from kubetune.engine.ended import Log
from kubetune.engine.history import View

ROWS = 500_000  # trials, of all experiments together; 100 bytes each with six parameters


class Missing(Exception):  # noqa: N818
    """The beginning of the past was left out, and is not here."""


class Pasts:
    """By experiment; those that were not asked about for longest are forgotten first."""

    def __init__(self, rows: int = ROWS) -> None:
        self._rows = rows
        self._logs: collections.OrderedDict[str, Log] = collections.OrderedDict()

    def whole(self, uid: str, view: View) -> View:
        """The view with all of its past, which is kept.

        Raises:
            Missing: what was left out is not known, or was of another past.
        """
        past = view.past
        if past is None:
            return view
        log = self._logs.pop(uid, None)
        if log is None or log.key != past.key:
            if past.first:
                raise Missing
            log = Log(past, past.key)
        elif past.first > len(log):
            raise Missing
        else:
            log.extend(past)
        self._logs[uid] = log
        while len(self._logs) > 1 and sum(map(len, self._logs.values())) > self._rows:
            self._logs.popitem(last=False)
        return dataclasses.replace(view, past=log.upto(len(past)))
