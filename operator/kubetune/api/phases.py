"""What comes after the search, as the spec asks for it: the finalists' runs, the refit, the test."""

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

from kubetune.api.parameters import InvalidSpec

FINALISTS, REFIT, TEST = "finalists", "refit", "test"
POPULATIONS = ("pbt", "schedule")  # samplers whose trials are segments of longer lives

Json = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Finalists:
    """The best ``top`` trials are run again, ``replicates`` times each."""

    top: int
    replicates: int
    phase: str = FINALISTS  # with .NAME behind it where it has one


@dataclasses.dataclass(frozen=True)
class Once:
    """A phase of one run with the winner's parameters. ``form``: what its pod has otherwise than a trial's."""

    phase: str  # refit | test, likewise
    form: Json


def kind(phase: str) -> str:
    """finalists, refit or test, of a phase of any name."""
    return phase.partition(".")[0]


def named(which: str, name: str) -> str:
    """The phase that is asked for under a name; "": without one."""
    return f"{which}.{name}" if name else which


def finalists(spec: Mapping[str, Any], objectives: int) -> Finalists | None:
    """Raises InvalidSpec."""
    form = spec.get(FINALISTS)
    if form is None:
        return None
    _one_winner(spec, FINALISTS, objectives)
    phase = named(FINALISTS, form.get("name") or "")
    found = Finalists(int(form.get("top", 3)), int(form.get("replicates", 5)), phase)
    for name, value in (("top", found.top), ("replicates", found.replicates)):
        if value < 1:
            raise InvalidSpec(f"{FINALISTS}.{name}", f"needs a whole number of at least 1, but is {value}")
    return found


def once(spec: Mapping[str, Any], which: str, objectives: int) -> Once | None:
    """`spec.refit` or `spec.test`. Raises InvalidSpec."""
    form = spec.get(which)
    if form is None:
        return None
    _one_winner(spec, which, objectives)
    if which == TEST:
        _unseen(spec, form)
    kept = {key: value for key, value in form.items() if key != "name"}
    return Once(named(which, form.get("name") or ""), kept)


def changed(template: Json, form: Mapping[str, Any]) -> Json:
    """The template with what a phase has otherwise. ``command`` takes the place of the trial's command and arguments;
    without it, ``args`` come after the trial's; ``env``, ``volumes`` and ``volumeMounts`` beside them, by name."""
    made = copy.deepcopy(template)
    trial = made["spec"]["containers"][0]
    if form.get("command"):
        trial["command"], trial["args"] = list(form["command"]), list(form.get("args") or ())
    elif form.get("args"):
        trial["args"] = [*(trial.get("args") or ()), *form["args"]]
    if form.get("env"):
        new = {variable["name"] for variable in form["env"]}
        trial["env"] = [*(each for each in trial.get("env") or () if each["name"] not in new), *form["env"]]
    if form.get("volumeMounts"):
        trial["volumeMounts"] = [*(trial.get("volumeMounts") or ()), *form["volumeMounts"]]
    if form.get("volumes"):
        made["spec"]["volumes"] = [*(made["spec"].get("volumes") or ()), *form["volumes"]]
    return made


def _one_winner(spec: Mapping[str, Any], field: str, objectives: int) -> None:
    if objectives > 1:
        raise InvalidSpec(field, "several objectives have no one winner; leave it out, or keep one objective")
    if (spec.get("sampler") or {}).get("name") in POPULATIONS:
        raise InvalidSpec(field, "a population's result is a schedule, which no one trial has run; leave it out")


def _unseen(spec: Mapping[str, Any], form: Mapping[str, Any]) -> None:
    """The test's data is not where a trial of the search could see it."""
    pod = (spec.get("template") or {}).get("spec") or {}
    known = {volume.get("name") for volume in pod.get("volumes") or ()}
    seen = [_source(volume) for volume in pod.get("volumes") or ()]
    given = spec.get("initCheckpoint") or {}
    folder = str(given.get("path") or "").rstrip("/")
    for place, volume in enumerate(form.get("volumes") or ()):
        if volume.get("name") in known or (_source(volume) and _source(volume) in seen):
            raise InvalidSpec(
                f"{TEST}.volumes[{place}]",
                f"{volume.get('name')} is in template too, where every trial of the search could read the test set; "
                "take it out there, and keep the test set apart",
            )
        if _source(volume) == _given(given) and _within(form, volume.get("name"), folder):
            raise InvalidSpec(
                f"{TEST}.volumes[{place}]",
                f"{volume.get('name')} is the claim of initCheckpoint too, where every trial of the search could read "
                "the test set; name the checkpoint's folder in initCheckpoint.path, and keep the test set apart",
            )


def _given(form: Mapping[str, Any]) -> Any:
    """As `_source`: what initCheckpoint mounts; (): no claim. (Of another experiment it is the checkpoint alone.)"""
    return ("claim", form["claim"]) if form.get("claim") else ()


def _within(form: Mapping[str, Any], volume: Any, folder: str) -> bool:
    """Whether the test mounts a part of this folder of the volume alone; "": the folder is all of it."""
    paths = [str(each.get("subPath") or "") for each in form.get("volumeMounts") or () if each.get("name") == volume]
    return not folder or any(f"{path.strip('/')}/".startswith(f"{folder}/") for path in paths)


def _source(volume: Mapping[str, Any]) -> Any:
    """Where its data comes from; None: it is empty at first."""
    claim = volume.get("persistentVolumeClaim")
    if claim:
        return "claim", claim.get("claimName")
    return {key: value for key, value in volume.items() if key not in ("name", "emptyDir")} or None
