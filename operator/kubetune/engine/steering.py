"""What people did to an experiment since it was last looked at: the spec compared with what is recorded. Pure."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from kubetune.api import phases
from kubetune.api.spec import Categorical, ExperimentSpec, Json, Parameter
from kubetune.storage.base import Steer

ENQUEUE, TAKE_BACK, STOP, NARROW, PHASE = "enqueue", "takeBack", "stop", "narrow", "phase"
STAGE, SEARCH, IMAGE = "stage", "search", "image"  # what begins: `stages`, `searching`
REGRET = "regret"  # what is left to gain: `regret`
_QUEUED = "enqueue/"  # before the name, in a set's source


def changes(recorded: Sequence[Steer], spec: ExperimentSpec, taken: Collection[str]) -> list[Steer]:
    """What is to be recorded, in the order of the spec.

    Args:
        recorded: all of it, in order.
        taken: sources of sets of which there are trials: nothing happens when they go, or change.
    """
    return [*_queue(recorded, spec, taken), *_stops(recorded, spec), *_narrow(recorded, spec), *_phases(recorded, spec)]


def _queue(recorded: Sequence[Steer], spec: ExperimentSpec, taken: Collection[str]) -> Iterator[Steer]:
    known: dict[str, Json | None] = {
        each.subject: each.detail if each.kind == ENQUEUE else None
        for each in recorded
        if each.kind in (ENQUEUE, TAKE_BACK)
    }
    wanted = {each.source.removeprefix(_QUEUED): each for each in spec.given if each.source.startswith(_QUEUED)}
    for name, given in wanted.items():
        if known.get(name) is None or (known[name] != given.params and given.source not in taken):
            yield Steer(ENQUEUE, name, dict(given.params))
    for name, params in known.items():
        if params is not None and name not in wanted and _QUEUED + name not in taken:
            yield Steer(TAKE_BACK, name, {})


def _stops(recorded: Sequence[Steer], spec: ExperimentSpec) -> Iterator[Steer]:
    known = {each.subject for each in recorded if each.kind == STOP}
    return (Steer(STOP, str(number), {}) for number in sorted(spec.stop_trials) if str(number) not in known)


def _narrow(recorded: Sequence[Steer], spec: ExperimentSpec) -> Iterator[Steer]:
    known = [each.detail for each in recorded if each.kind == NARROW]
    wanted = {name: _bounds(each) for name, each in sorted(spec.narrow.items())}
    if wanted != (known[-1] if known else {}):
        yield Steer(NARROW, "", wanted)


def _phases(recorded: Sequence[Steer], spec: ExperimentSpec) -> Iterator[Steer]:
    """What is asked for by a name: mostly once more."""
    known = {each.subject for each in recorded if each.kind == PHASE}
    return (Steer(PHASE, phase, {}) for phase in spec.after if phase != phases.kind(phase) and phase not in known)


def _bounds(parameter: Parameter) -> Json:
    if isinstance(parameter, Categorical):
        return {"choices": list(parameter.choices)}
    return {"min": parameter.low, "max": parameter.high}


def words(steer: Steer) -> tuple[str, str]:
    """(an event's reason, what is said)."""
    if steer.kind == ENQUEUE:
        return "Enqueued", f"{steer.subject} is to be tried: {_pairs(steer.detail)}"
    if steer.kind == TAKE_BACK:
        return "TakenBack", f"{steer.subject} is not to be tried any more"
    if steer.kind == STOP:
        return "StopRequested", f"trial {steer.subject} is to stop"
    if steer.kind == PHASE:
        return "PhaseAsked", f"{steer.subject} is to be run after the search"
    if steer.kind in _OURS:
        return _OURS[steer.kind](steer)
    if not steer.detail:
        return "Narrowed", "the whole space is asked for again"
    ranges = {name: form.get("choices") or f"{form['min']:g} to {form['max']:g}" for name, form in steer.detail.items()}
    return "Narrowed", f"from now on is asked for: {_pairs(ranges)}"


def _stage(steer: Steer) -> tuple[str, str]:
    detail = steer.detail
    best = ", ".join(map(str, detail["best"]))
    ranges = {name: _range(form) for name, form in detail["narrow"].items()}
    where = f"around trials {best}" if best else "in a part of the space" if ranges else "in the whole space"
    return "StageBegan", (
        f"stage {detail['stage']}, {steer.subject}, begins with trial {detail['first']}: {detail['sampler']}, at most "
        f"{detail['maxTrials']} trials, {where}" + (f": {_pairs(ranges)}" if ranges else "")
    )


def _search(steer: Steer) -> tuple[str, str]:
    detail = steer.detail
    sampler, pruner = (detail[which]["name"] for which in ("sampler", "pruner"))
    seed = "the UID as seed" if detail["seed"] is None else f"seed {detail['seed']}"
    used = ", ".join(f"{name} {version}" for name, version in detail["versions"].items())
    return "Searching", f"by {sampler}, pruner {pruner}, {seed}; {used}"


def _image(steer: Steer) -> tuple[str, str]:
    return "ImageSeen", f"{steer.detail['image']} is {steer.detail['digest']}, from trial {steer.detail['trial']} on"


def _regret(steer: Steer) -> tuple[str, str]:
    detail = steer.detail
    known = "" if detail["error"] is None else f"; the best one's value is known to ±{detail['error']:.3g}"
    left = f"no bound: {detail['why']}" if detail["bound"] is None else f"at most {detail['bound']:.3g} is left to gain"
    return "RegretBound", f"after {detail['complete']} complete trials {left}{known}"


_OURS: Mapping[str, Callable[[Steer], tuple[str, str]]] = {
    STAGE: _stage,
    SEARCH: _search,
    IMAGE: _image,
    REGRET: _regret,
}


def _range(form: Json) -> object:
    if "min" in form:
        return f"{form['min']:g} to {form['max']:g}"
    return next(iter(form.values()))


def _pairs(values: Json) -> str:
    return ", ".join(f"{name} = {value}" for name, value in values.items())
