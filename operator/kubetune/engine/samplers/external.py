"""A searcher from outside: a plug-in of the operator's image, or an HTTP service of the experiment's namespace."""

import functools
import importlib.metadata
from collections.abc import Callable, Mapping

import numpy as np

from kubetune.api import searcher
from kubetune.api.parameters import Params, ParamValue, own
from kubetune.api.spec import ExperimentSpec, InvalidSpec
from kubetune.engine import options
from kubetune.engine.columns import Columns
from kubetune.engine.history import RUNNING, STATES, History, View
from kubetune.engine.samplers.base import Sampler, Sight, seed_of
from kubetune.engine.samplers.speaking import HttpSearcher

OPTIONS: Mapping[str, options.Option] = {
    "plugin": options.Text(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", "the name of an entry point"),
    "service": options.Text(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", "the name of a Service of the experiment's namespace"),
    "port": options.Whole(80, low=1),
    "path": options.Text(r"/[A-Za-z0-9._~/-]{0,200}", "a path, for example /tpe", default="/"),
    "timeout": options.Whole(60, low=1),  # seconds for one answer
}
SHOWN = 10_000  # trials that run

Make = Callable[[], searcher.Searcher]


class ExternalSampler(Sampler):
    """Keeps a searcher as long as what it was told is the beginning of what there is."""

    sight = Sight(running=SHOWN, whole=True)

    def __init__(self, spec: ExperimentSpec, make: Make) -> None:
        self._space = spec.space
        self._columns = Columns(spec.parameters)
        self._make = make
        self._searcher: searcher.Searcher | None = None
        self._told: tuple[int, int] = (0, 0)  # key of the past, and how much of it

    def immediate(self, history: History) -> bool:
        return False

    def choose(self, view: View, number: int) -> dict[str, ParamValue]:
        try:
            return self._checked(self._up_to_date(view).ask(number, self._running(view)))
        except BaseException:
            self._searcher = None  # whatever it was told
            raise

    def _up_to_date(self, view: View) -> searcher.Searcher:
        assert view.past is not None
        key, count = self._told
        if self._searcher is None or key != view.past.key or count > len(view.past):
            self._searcher, count = self._make(), 0
        new = view.past.rows(count, len(view.past))
        rows = zip(new.numbers.tolist(), new.states.tolist(), new.params.tolist(), new.values.tolist(), strict=True)
        if len(new.numbers):
            self._searcher.tell(
                [
                    searcher.Told(number, STATES[state].name, self._columns.decode(params), _values(values))
                    for number, state, params, values in rows
                ]
            )
        self._told = view.past.key, len(view.past)
        return self._searcher

    def _running(self, view: View) -> dict[int, Params]:
        rows = np.flatnonzero(view.states == RUNNING)
        return {int(view.numbers[row]): self._columns.decode(view.params[row].tolist()) for row in rows}

    def _checked(self, given: Params) -> dict[str, ParamValue]:
        """With the space's own values (JSON knows no difference between 3 and 3.0). Raises ValueError."""
        problem = self._space.problem(given)
        if problem is not None:
            raise ValueError(f"the searcher's answer cannot be a trial: {problem[1]}")
        return {name: own(self._space.parameters[name], given[name]) for name in self._space.order if name in given}


def _values(values: list[float]) -> tuple[float, ...] | None:
    return None if values[0] != values[0] else tuple(values)


def build(spec: ExperimentSpec) -> ExternalSampler:
    given = options.read("sampler", spec.sampler, OPTIONS)
    study = searcher.Study(
        spec.namespace, spec.name, spec.uid, seed_of(spec, 0), dict(spec.parameters), spec.objectives
    )
    if (given["plugin"] is None) == (given["service"] is None):
        raise InvalidSpec(
            "sampler.settings", "external needs either plugin (an entry point) or service (HTTP); give one of them"
        )
    if given["plugin"] is not None:
        return ExternalSampler(spec, functools.partial(_plugin(given["plugin"]), study))
    if given["port"] > 65535:
        raise InvalidSpec("sampler.settings.port", f"{given['port']} is no port; they end at 65535")
    address = f"http://{given['service']}.{spec.namespace}.svc:{given['port']}{given['path'].rstrip('/')}"
    return ExternalSampler(spec, functools.partial(HttpSearcher, study, address, float(given["timeout"])))


def _plugin(name: str) -> Callable[[searcher.Study], searcher.Searcher]:
    found = importlib.metadata.entry_points(group=searcher.GROUP)
    if name not in found.names:
        there = ", ".join(sorted(found.names)) or "none"
        raise InvalidSpec(
            "sampler.settings.plugin",
            f"the operator's image has no searcher {name!r} (entry points of {searcher.GROUP}: {there}); "
            "docs/own-searcher.md says how to put it in",
        )
    return lambda study: found[name].load()(study)
