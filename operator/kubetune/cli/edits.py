"""What the command line writes: always the spec, always intent (docs/decisions/0003-stop-trials.md, 0120)."""

import secrets
from collections.abc import Sequence
from typing import Any

from kubetune.api import given, narrow, parameters, phases
from kubetune.api.space import Space
from kubetune.api.spec import Given
from kubetune.cli import explain, model, render, text
from kubetune.cli.access import Access
from kubetune.kube.client import Json


def suspend(resource: Json, wanted: bool) -> Json | None:
    """The change of the spec; None when it is so already. Raises Problem for an experiment that has ended."""
    shown = model.experiment(resource)
    if shown.ended:
        raise explain.Problem(
            f"experiment {shown.name} has ended ({shown.state}); there is nothing to suspend or resume"
        )
    return None if shown.suspend == wanted else {"suspend": wanted}


def stop(resource: Json, numbers: Sequence[int]) -> Json | None:
    """stopTrials with ``numbers`` merged in; None when all are there. Raises Problem if a trial does not exist yet."""
    shown = model.experiment(resource)
    if shown.ended:
        raise explain.Problem(f"experiment {shown.name} has ended ({shown.state}); no trial of it runs")
    for number in numbers:
        if not 0 <= number < shown.total:
            raise explain.no_trial(shown.name, number, shown.total)
    merged = sorted({*shown.stop_trials, *numbers})
    return None if merged == sorted(shown.stop_trials) else {"stopTrials": merged}


def enqueue(resource: Json, name: str, words: Sequence[str]) -> Json | None:
    """enqueue with one more set; None when the set of that name is there already, the same. Raises Problem for words
    that are no parameters of the experiment."""
    shown, spec = model.experiment(resource), resource.get("spec") or {}
    if shown.ended:
        raise explain.Problem(f"experiment {shown.name} has ended ({shown.state}); nothing more is tried")
    try:
        space = Space(parameters.parse(spec.get("parameters") or {}))
        made = given.read(space, Given(f"enqueue/{name}", shown.name, _set(space, words))).params
    except parameters.InvalidSpec as error:
        raise explain.Problem(str(error)) from None
    queue = list(spec.get("enqueue") or ())
    known = next((each for each in queue if each.get("name") == name), None)
    if known is not None and known.get("parameters") != made:
        raise explain.Problem(f"{shown.name} has a set named {name} with other values; choose another name")
    return {"enqueue": [*queue, {"name": name, "parameters": dict(made)}]} if known is None else None


def _set(space: Space, words: Sequence[str]) -> dict[str, Any]:
    """``lr=0.1`` as the type that the parameter has; what does not fit stays a text, for `given.read` to refuse."""
    return {name: _typed(space.parameters.get(name), value) for name, value in _pairs(words).items()}


def _pairs(words: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise explain.Problem(f"{word!r} is no parameter with its value; write for example lr=0.01")
        if name in found:
            raise explain.Problem(f"{name} is there twice; give it one value")
        found[name] = value
    return found


def _typed(parameter: parameters.Parameter | None, value: str) -> Any:
    if isinstance(parameter, parameters.Categorical):
        known = {text.exact(choice): choice for choice in parameter.choices}
        if value in known:
            return known[value]
        numbers = not any(isinstance(choice, str | bool) for choice in parameter.choices)
        return _number(value) if numbers else value
    return value if parameter is None else _number(value)


def _number(value: str) -> float | int | str:
    try:
        return int(value) if value.lstrip("+-").isdigit() else float(value)
    except ValueError:
        return value


def narrowed(resource: Json, words: Sequence[str]) -> Json:
    """The change of narrow: ``lr=0.001..0.01``, ``optimizer=adam,sgd``, and ``lr=`` for what is declared."""
    shown, spec = model.experiment(resource), resource.get("spec") or {}
    if shown.ended:
        raise explain.Problem(f"experiment {shown.name} has ended ({shown.state}); nothing more is asked for")
    before, change = spec.get("narrow") or {}, {}
    try:
        declared = parameters.parse(spec.get("parameters") or {})
        for name, value in _pairs(words).items():
            form = _form(declared.get(name), value) if value else None
            change[name] = form and {**dict.fromkeys(before.get(name) or {}), **form}  # None: dropped by the patch
        wanted = {name: form for name, form in (before | change).items() if form is not None}
        narrow.parse({name: _without_none(form) for name, form in wanted.items()}, declared)
    except parameters.InvalidSpec as error:
        raise explain.Problem(str(error)) from None
    return {"narrow": change}


def _form(parameter: parameters.Parameter | None, value: str) -> Json:
    if isinstance(parameter, parameters.Categorical):
        choices = [_typed(parameter, each) for each in value.split(",")]
        if isinstance(parameter.choices[0], bool):
            return {"bool": choices[0]}
        return {"choice" if isinstance(parameter.choices[0], str) else "values": choices}
    low, dots, high = value.partition("..")
    if not dots:
        raise explain.Problem(f"{value!r} is no range; write for example lr=0.001..0.01, lr=0.001.. or lr=..0.01")
    return {bound: _number(text) for bound, text in (("min", low), ("max", high)) if text}


def _without_none(form: Json) -> Json:
    return {key: value for key, value in form.items() if value is not None}


def run_narrow(access: Access, name: str, words: Sequence[str]) -> list[str]:
    access.edit(name, lambda resource: narrowed(resource, words) if words else {"narrow": None})
    what = " ".join(words) or "the whole declared space"
    return [f"{name} asks for {what} from now on; what runs goes on, what was found stays known"]


def run_suspend(access: Access, name: str, wanted: bool) -> list[str]:
    before = model.experiment(access.edit(name, lambda resource: suspend(resource, wanted)))
    if wanted:
        running = text.plural(before.active, "trial")
        return [
            f"experiment {name} is suspended: the pods of {running} go now",
            "they keep their numbers and parameters and start again on: kubectl tune resume " + name,
        ]
    return [f"experiment {name} goes on; follow it by: kubectl tune watch {name}"]


def run_enqueue(access: Access, experiment: str, words: Sequence[str], name: str | None) -> list[str]:
    chosen = name or f"q-{secrets.token_hex(4)}"
    access.edit(experiment, lambda resource: enqueue(resource, chosen, words))
    return [f"{chosen} of {experiment} is tried next, as soon as a slot is free: {' '.join(words)}"]


def scored_again(resource: Json, again: str) -> Json | None:
    """spec.test under another name; None when it has that one already, and waits. Raises Problem where there is no
    test, or it was scored under that name."""
    shown, spec = model.experiment(resource), resource.get("spec") or {}
    if not spec.get("test"):
        raise explain.Problem(f"experiment {shown.name} has no spec.test; it says how the test set is scored")
    if again in shown.scored:
        raise explain.Problem(f"{shown.name} has a scoring named {again} on record already; choose another name")
    return None if spec["test"].get("name") == again else {"test": {"name": again}}


def run_test(access: Access, name: str, again: str | None) -> list[str]:
    """The score; or another scoring is asked for by its name."""
    if again is None:
        shown = model.experiment(access.experiment(name))
        if not shown.test:
            hint = render.phase(shown) or "it is scored when the search is over, if spec.test says how"
            raise explain.Problem(f"the test set of {name} is not scored yet; {hint}")
        return [shown.test]
    access.edit(name, lambda resource: scored_again(resource, again))
    return [
        f"the test set of {name} is scored once more, as test.{again}; each scoring is on record",
        "the more often it is scored, the less it says about data that nobody has seen",
    ]


def retried(resource: Json, which: str | None) -> Json | None:
    """Another name for what failed after the search; None when it has one already. Raises Problem where nothing has
    failed, or where it would be a second look at the test set."""
    shown, spec = model.experiment(resource), resource.get("spec") or {}
    if not shown.failed_phase:
        hint = render.phase(shown) or f"where it stands: kubectl tune get {shown.name}"
        raise explain.Problem(f"nothing that comes after the search of {shown.name} has failed; {hint}")
    kind, _, name = shown.failed_phase.partition(".")
    if which not in (None, kind):
        raise explain.Problem(f"{which} of {shown.name} has not failed, but {shown.failed_phase} has")
    if kind == phases.TEST and shown.looked:
        raise explain.Problem(
            f"{shown.failed_phase} had reported before it failed, so the test set was looked at; to look again, ask by "
            f"name: kubectl tune test {shown.name} --again second-look"
        )
    if kind not in spec:
        raise explain.Problem(f"{shown.name} has no spec.{kind} any more; write it again to have it run")
    return {kind: {"name": _next(name)}} if (spec[kind].get("name") or "") == name else None


def _next(name: str) -> str:
    """retry-1, then retry-2; of a name of one's own mended-retry-1."""
    before, found, count = name.rpartition("retry-")
    if found and count.isdigit() and (not before or before.endswith("-")):
        return f"{before}retry-{int(count) + 1}"
    return f"{name[:30].rstrip('-')}-retry-1" if name else "retry-1"


def run_retry(access: Access, name: str, which: str | None) -> list[str]:
    after = access.edit(name, lambda resource: retried(resource, which))
    kind = model.experiment(after).failed_phase.partition(".")[0]
    again = ((after.get("spec") or {}).get(kind) or {}).get("name") if kind else None
    return [
        f"{phases.named(kind, again or '')} of {name} is run; what failed stays on record",
        f"follow it by: kubectl tune watch {name}",
    ]


def run_stop(access: Access, name: str, numbers: Sequence[int]) -> list[str]:
    access.edit(name, lambda resource: stop(resource, numbers))
    trials = ("trial " if len(numbers) == 1 else "trials ") + ", ".join(str(number) for number in numbers)
    return [
        f"{trials} of {name} told to stop: at the next report, or at the latest after the grace; what had ended stays"
    ]
