"""A sampler process: answers one request after the other on the socket that is its standard input, until that closes.

It keeps the samplers that it has built and the pasts that they were shown, so that what it is sent and what they work
out again does not grow with the trials. Nothing depends on its having them: who asks sends a past whole if it must.
"""

import collections
import contextlib
import os
import signal
import socket
import sys
import time
import traceback
from typing import TypeAlias

from kubetune.api.spec import ExperimentSpec, ParamValue
from kubetune.engine import samplers
from kubetune.engine.columns import Columns, Points
from kubetune.engine.regret_model import bound
from kubetune.engine.sampling.pasts import Missing, Pasts
from kubetune.engine.sampling.wire import Answer, Doubt, Question, Receiver, Request, send

KEPT = 64  # samplers
_Known: TypeAlias = tuple[samplers.Sampler, Columns, Points]


class Answers:
    """Makes suggestions by request."""

    def __init__(self) -> None:
        self._samplers: collections.OrderedDict[str, tuple[ExperimentSpec, _Known]] = collections.OrderedDict()
        self._pasts = Pasts()

    def answer(self, request: Question) -> Answer:
        """Raises nothing: what a sampler raises is the answer."""
        try:
            if isinstance(request, Doubt):
                return Answer(bound=bound(*request.given))
            return Answer(params=tuple(self._suggest(request)))
        except Missing:
            return Answer(missing=True)
        except Exception:  # noqa: BLE001 - whatever it is, the asking side tells it and tries again
            return Answer(error=traceback.format_exc())

    def _suggest(self, request: Request) -> list[dict[str, ParamValue]]:
        begun = time.monotonic()
        sampler, columns, points = self._known(request.spec)
        view, made = self._pasts.whole(request.spec.uid, request.view), []
        for number in range(request.first, request.first + request.count):
            made.append(sampler.choose(view, number))
            if time.monotonic() - begun >= request.seconds:
                break
            row = columns.row(made[-1])
            view = view.asked(number, row, points.at(row), sampler.sight.running)
        return made

    def _known(self, spec: ExperimentSpec) -> _Known:
        before, known = self._samplers.pop(spec.uid, (None, None))
        if known is None or before != spec:
            known = samplers.build(spec), Columns(spec.parameters), Points(spec.parameters)
        self._samplers[spec.uid] = spec, known
        while len(self._samplers) > KEPT:
            self._samplers.popitem(last=False)
        return known


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal; the operator stops us by closing the socket
    end = socket.socket(fileno=os.dup(0))
    sys.stdout = sys.stderr
    receiver, answers = Receiver(end), Answers()
    with contextlib.suppress(EOFError, OSError):  # the operator is gone, or done with us
        send(end, Answer())
        while True:
            send(end, answers.answer(receiver.receive()))


if __name__ == "__main__":
    main()
