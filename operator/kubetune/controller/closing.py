"""Why an experiment asks no more trials, and whether that completes or fails it. Pure."""

import dataclasses

from kubetune.api.spec import ExperimentSpec
from kubetune.api.trial import Counts, Reason
from kubetune.controller import outcome
from kubetune.controller.plan import Observed


@dataclasses.dataclass(frozen=True)
class Closing:
    """Why nothing new is asked. ``cut``: running trials are stopped; otherwise they run to their end."""

    reason: Reason
    message: str
    cut: bool


def final_state(reason: Reason, counts: Counts) -> str:
    """Complete or Failed."""
    if reason in (Reason.MAX_FAILED_TRIALS, Reason.START_FAILURES):
        return "Failed"
    if reason is Reason.EXPERIMENT_DEADLINE and not counts.complete:
        return "Failed"
    return "Complete"


def find_closing(spec: ExperimentSpec, seen: Observed, now: float) -> Closing | None:
    """Why no trial is to be asked any more; the first fact that holds. None: go on.

    The order keeps the reason from changing while the last trials are being stopped: those that fail for it count as
    failed, which must not turn a reached target or a deadline into `MaxFailedTrials`.
    """
    facts = (
        _target_reached,
        _no_improvement,
        _regret_bound,
        _start_failures,
        _deadline_passed,
        _too_many_failed,
        _space_exhausted,
        _max_trials,
    )
    return next((found for fact in facts if (found := fact(spec, seen, now))), None)


def _target_reached(spec: ExperimentSpec, seen: Observed, now: float) -> Closing | None:
    if not seen.target_reached:
        return None
    best = "" if seen.best is None else f": {spec.objectives[0].metric} = {seen.best:g}"
    return Closing(Reason.TARGET_REACHED, f"the target is reached{best}", cut=True)


def _no_improvement(spec: ExperimentSpec, seen: Observed, now: float) -> Closing | None:
    limit = spec.no_improvement
    if limit is None or seen.stagnation < limit.trials:
        return None
    best = "" if seen.best is None else f": the best is {spec.objectives[0].metric} = {seen.best:g}"
    than = f" of more than {limit.min_delta:g}" if limit.min_delta else ""
    return Closing(Reason.NO_IMPROVEMENT, f"{limit.trials} trials ended without an improvement{than}{best}", cut=True)


def _regret_bound(spec: ExperimentSpec, seen: Observed, now: float) -> Closing | None:
    if spec.regret_bound is None or seen.regret is None or not seen.regret.reached:
        return None
    best = "" if seen.best is None else f": the best is {spec.objectives[0].metric} = {seen.best:g}"
    return Closing(Reason.REGRET_BOUND, f"{seen.regret.sentence}{best}", cut=True)


def _start_failures(spec: ExperimentSpec, seen: Observed, now: float) -> Closing | None:
    """The same start failure three times in a row. It stays true while running trials are stopped for it: other ends
    may come between, but what nothing else explains was begun for this."""
    last = seen.recent_failures[:3]
    streak = len(last) == 3 and len(set(last)) == 1 and last[0] in outcome.START_FAILURES
    if not streak:
        begun = Reason.EXPERIMENT_ENDED in seen.recent_failures or any(
            row.stop_reason is Reason.EXPERIMENT_ENDED for row in seen.stirring.rows.values()
        )
        if not begun or _deadline_passed(spec, seen, now) or _too_many_failed(spec, seen, now):
            return None
        last = tuple(reason for reason in seen.recent_failures if reason in outcome.START_FAILURES)
    cause = last[0] if last else Reason.CONFIG
    what = {
        Reason.IMAGE: f"the image cannot be used ({', '.join(_images(spec))})",
        Reason.CONFIG: "the container cannot be started",
        Reason.JOB_REFUSED: "the API server refuses the Job",
    }[cause]
    message = f"three trials in a row failed to start: {what}"
    return Closing(Reason.START_FAILURES, f"{message}: {seen.last_failure}".rstrip(": ")[:1024], cut=True)


def _images(spec: ExperimentSpec) -> list[str]:
    pod = spec.template.get("spec") or {}
    containers = [*(pod.get("initContainers") or ()), *(pod.get("containers") or ())]
    return [str(container.get("image", "")) for container in containers]


def _deadline_passed(spec: ExperimentSpec, seen: Observed, now: float) -> Closing | None:
    ends = deadline(spec, seen)
    if not ends or now < ends[0]:
        return None
    return Closing(Reason.EXPERIMENT_DEADLINE, f"deadline.experiment of {spec.experiment_deadline:g} s is over", True)


def deadline(spec: ExperimentSpec, seen: Observed) -> list[float]:
    """When it is over (epoch seconds), if it has one."""
    if spec.experiment_deadline is None or seen.started is None:
        return []
    return [seen.started + spec.experiment_deadline]


def _too_many_failed(spec: ExperimentSpec, seen: Observed, now: float) -> Closing | None:
    if seen.counts.failed <= spec.max_failed_trials:
        return None
    message = f"{seen.counts.failed} trials failed; maxFailedTrials is {spec.max_failed_trials}"
    return Closing(Reason.MAX_FAILED_TRIALS, message, cut=True)


def _space_exhausted(spec: ExperimentSpec, seen: Observed, now: float) -> Closing | None:
    if not seen.exhausted:
        return None
    if spec.stages:
        return Closing(Reason.MAX_TRIALS, f"all {seen.counts.total} trials of the stages were made", cut=False)
    what = "its schedule is trained" if spec.sampler.name == "schedule" else "every point of the search space was tried"
    message = f"{what} ({seen.counts.total} trials)"
    return Closing(Reason.SPACE_EXHAUSTED, message, cut=False)


def _max_trials(spec: ExperimentSpec, seen: Observed, now: float) -> Closing | None:
    if seen.counts.total < spec.max_trials:
        return None
    return Closing(Reason.MAX_TRIALS, f"all {seen.counts.total} trials were made", cut=False)
