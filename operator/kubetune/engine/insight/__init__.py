"""What the finished trials say about the search, looked at now and then."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from kubetune.api.insight import Insight
from kubetune.api.spec import ExperimentSpec
from kubetune.engine.courses import Course
from kubetune.engine.history import History
from kubetune.engine.insight import advice, effects, trust
from kubetune.engine.insight.importance import importances

LEAST = 20  # complete trials before anything is said about them
GROWTH = 1.1  # times as many, and they are looked at again
MOST = 2000  # trials looked at; of more, so many evenly spread ones

LastMetrics: TypeAlias = Callable[[Sequence[int]], Mapping[int, Mapping[str, float]]]  # of trials, by number

logger = logging.getLogger(__name__)


class Insights:
    """The latest insight, made anew when the trials are a tenth more: all of them together cost O(log trials) times
    one, which is 0.2 s of CPU at `MOST` trials of six parameters and 5 ms at fifty."""

    def __init__(self) -> None:
        self._spec: ExperimentSpec | None = None
        self._complete = 0
        self._latest = Insight()

    def of(
        self,
        spec: ExperimentSpec,
        history: History,
        complete: int,
        course: Course | None = None,
        metrics: LastMetrics = lambda _: {},
    ) -> Insight:
        """``complete``: how many COMPLETE trials there are."""
        more = complete >= max(LEAST, self._complete * GROWTH) and complete > self._complete
        if spec != self._spec or more:
            self._spec, self._complete = spec, complete
            try:
                self._latest = _look(spec, history, complete, course, metrics)
            except Exception:  # no insight is worth an experiment
                logger.exception("no insight into %s", spec.key)
        return self._latest


def _look(
    spec: ExperimentSpec, history: History, complete: int, course: Course | None, metrics: LastMetrics
) -> Insight:
    said = list(advice.before(spec))
    if complete < LEAST:
        return Insight(advice=tuple(said))
    params, values = history.complete(MOST)
    shares = importances(spec, params, values)
    if len(spec.objectives) == 1:
        said += advice.after(spec, params, values[:, 0], shares)
        top = history.best(advice.top(complete))
        if course is not None and course.noise is not None:
            said += trust.noise(
                course.noise, [(history[number].values or (0.0,))[0] for number in top], course.runs(top[0])
            )
        if spec.validation.train_metric is not None:
            said += trust.gap(spec, values[:, 0], list(metrics(top).values()))
    return Insight(shares, tuple(said), effects.told(spec, params, values))
