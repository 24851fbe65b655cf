"""A sampler process as `kubetune.engine.sampling.process` is one, with samplers that misbehave on request.

``until``: a file that the sampler waits for; ``fatal``: a file at whose sight it takes the process down, removing it
first (so once) if ``once``; ``fails``: it raises an error; ``notes``: a file to which it adds its process's ID and the
number of trials in its past.
"""

import os
import pathlib
import time
from typing import Any

from kubetune.api.spec import ExperimentSpec, ParamValue
from kubetune.engine import samplers
from kubetune.engine.history import History, View
from kubetune.engine.samplers.random import RandomSampler
from kubetune.engine.sampling import process


class Odd(samplers.Sampler):
    """Random search, with a twist: what is drawn depends on the whole past."""

    sight = samplers.base.Sight(whole=True)

    def __init__(self, spec: ExperimentSpec) -> None:
        self._settings: dict[str, Any] = dict(spec.sampler.settings)
        self._random = RandomSampler(spec)

    def immediate(self, history: History) -> bool:
        return False

    def choose(self, view: View, number: int) -> dict[str, ParamValue]:
        while not pathlib.Path(self._settings.get("until", "/")).exists():
            time.sleep(0.01)
        fatal = pathlib.Path(self._settings.get("fatal", "/nowhere"))
        if fatal.exists():
            if self._settings.get("once"):
                fatal.unlink()
            os._exit(7)
        if self._settings.get("fails"):
            raise ZeroDivisionError("no way")
        past = 0 if view.past is None else len(view.past.numbers)
        if "notes" in self._settings:
            with open(self._settings["notes"], "a", encoding="ascii") as notes:
                print(os.getpid(), past, file=notes)
        return self._random.draw(number, 0 if view.past is None else int(view.past.numbers @ view.past.values[:, 0]))


ODD = {**samplers.SAMPLERS, "odd": Odd}

if __name__ == "__main__":
    samplers.SAMPLERS = ODD
    process.main()
