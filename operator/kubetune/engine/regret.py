"""When there is too little left to gain (`stop.regretBound`): asked now and then, beside everything else, and recorded.

The bound is worked out in a sampler process (`regret_model`) while the experiment goes on. What comes of it is
committed (`Steer` of kind `REGRET`), and what follows is a function of the latest that was: a restart decides the same.
"""

import dataclasses
import logging
import math
import statistics
from collections.abc import Callable, Sequence

from kubetune.api.searcher import SamplerFailed
from kubetune.api.spec import ExperimentSpec, InvalidSpec, Json
from kubetune.api.stop import Regret
from kubetune.engine.courses import Course
from kubetune.engine.courses.noise import Noise
from kubetune.engine.history import History
from kubetune.engine.regret_model import Bound, bound
from kubetune.engine.samplers import gp
from kubetune.engine.sampling.asking import bare
from kubetune.engine.sampling.pool import Pool, Ticket
from kubetune.engine.sampling.wire import Doubt
from kubetune.engine.steering import REGRET as REGRET
from kubetune.storage.base import Steer

STEP, GROWTH = 5, 0.05  # so many COMPLETE trials more, and so large a share of them, and it is asked again
MOST = 150  # trials in the model; what it costs grows with their cube

logger = logging.getLogger(__name__)


def check(spec: ExperimentSpec) -> None:
    """Raises InvalidSpec: there can be no bound."""
    if spec.regret_bound is None:
        return
    if spec.sampler.name in ("pbt", "schedule"):
        raise InvalidSpec(
            "stop.regretBound",
            f"a trial of {spec.sampler.name} goes on from another's checkpoint, and its parameters alone do not say "
            "what it comes to; leave it out",
        )
    if not gp.installed():
        raise InvalidSpec(
            "stop.regretBound",
            "it needs scikit-learn, which this operator's image does not have; install kubetune with the chart's value "
            "image.extras=gp (docs/install.md), or take stop.noImprovement",
        )


def due(last: int, least: int) -> int:
    """At how many COMPLETE trials the bound is asked for. ``last``: how many there were the last time; 0: never."""
    return max(least, last + max(STEP, math.ceil(GROWTH * last)) if last else 0)


def error(folds: int, runs: Sequence[float], noise: Noise | None) -> float | None:
    """To what the mean of these runs of the best trial is known: its standard error. None: nobody knows.

    Of folds Nadeau and Bengio's (Machine Learning 52, 2003), as Makarova et al. take it: the runs have most of their
    training data in common, so that their variance over their number would be too little. Of replicates alone the
    variance is that of all trials' runs together, since two or three say little.
    """
    if len(runs) < 2 or not all(map(math.isfinite, runs)):
        return None
    if folds > 1:
        return math.sqrt((1 / len(runs) + 1 / (folds - 1)) * statistics.variance(runs))
    return None if noise is None else noise.deviation / math.sqrt(len(runs))


def state(spec: ExperimentSpec, last: Json | None, trouble: str = "") -> Regret | None:
    """What is known by the latest record. None: nobody asks."""
    limit = spec.regret_bound
    if limit is None:
        return None
    if last is None or last["complete"] < limit.min_trials:
        return Regret(trouble=trouble)
    below = last["error"] if limit.below is None else limit.below
    unknown = ""
    if below is None:
        unknown = "how well the best trial's value is known is not known yet; give stop.regretBound.below, or wait"
    elif below == 0:
        unknown = "the best trial's runs came all to the same, and nothing is below that; give stop.regretBound.below"
    return Regret(last["bound"], below, last["complete"], last["why"] or trouble or unknown)


@dataclasses.dataclass(frozen=True)
class _Asked:
    """A bound that is being worked out: by whom, over which space, and the record but for it."""

    ticket: Ticket | None
    space: object
    detail: Json


class Watch:
    """One experiment's. Not thread-safe.

    Args:
        pool, wake: as `Asking` has them.
    """

    def __init__(self, pool: Pool | None, wake: Callable[[], None], recorded: Sequence[Steer]) -> None:
        self._pool = pool
        self._wake = wake
        self._last = next((each.detail for each in reversed(recorded) if each.kind == REGRET), None)
        self._asked: _Asked | None = None
        self._failed = (0, "")  # at how many COMPLETE trials there was no answer, and why

    def state(self, spec: ExperimentSpec) -> Regret | None:
        return state(spec, self._last, self._failed[1])

    def look(self, spec: ExperimentSpec, history: History, course: Course, complete: int, order: int) -> Steer | None:
        """What is to be recorded of a bound that was asked for and is there; asks for the next one if it is time.

        Args:
            complete: how many COMPLETE trials there are.
            order: of what happened last in the history.
        """
        limit, known = spec.regret_bound, self.state(spec)
        if limit is None or known is None or known.reached:
            self._asked = None
            return None
        if self._asked is not None and self._asked.space != (spec.asked, spec.where):
            self._asked = None
        last = max(self._last["complete"] if self._last else 0, self._failed[0])
        if self._asked is None and complete >= due(last, limit.min_trials):
            self._asked = self._ask(spec, history, course, complete, order)
        return self._answer()

    def _ask(self, spec: ExperimentSpec, history: History, course: Course, complete: int, order: int) -> _Asked:
        params, values, penalties = history.ranked(MOST)
        best = history.best(1)
        detail: Json = {
            "complete": complete,
            "trials": len(history),
            "known": order,
            "best": best[0] if best else None,
            "error": error(spec.validation.folds, course.runs(best[0]), course.noise) if best else None,
        }
        doubt = Doubt(bare(spec), params, values[:, 0], penalties)
        if self._pool is not None:
            return _Asked(self._pool.submit(doubt, self._wake), (spec.asked, spec.where), detail)
        return _Asked(None, (spec.asked, spec.where), self._found(detail, bound(*doubt.given)))

    def _answer(self) -> Steer | None:
        asked = self._asked
        if asked is None:
            return None
        detail = asked.detail
        if asked.ticket is not None:
            try:
                answer = asked.ticket.answer(0.0)
            except SamplerFailed as failed:
                logger.warning("no regret bound: %s", failed)
                self._asked, self._failed = None, (detail["complete"], str(failed).strip().rpartition("\n")[2])
                return None
            if answer is None:
                return None
            detail = self._found(detail, answer.bound or Bound(None))
        self._asked, self._failed, self._last = None, (0, ""), detail
        return Steer(REGRET, "", detail)

    @staticmethod
    def _found(detail: Json, found: Bound) -> Json:
        return {**detail, "bound": found.value, "why": found.why}
