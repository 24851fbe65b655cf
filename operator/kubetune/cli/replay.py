"""`kubectl tune replay`: an exported experiment decided again, with what came after its search."""

import json
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kubetune.cli import explain, model, text
from kubetune.kube.client import Json

EXPORTED = "{name} is no export of an experiment: write one by kubectl tune export NAME > {name}"
RUNNING = (
    "it had not ended, and may have gone on while its record was read page by page, which then looks like a "
    "difference: compare again once it has ended or is suspended"
)


def is_file(name: str) -> bool:
    """Whether a file is meant, and no experiment of the cluster (whose names have no dot, slash or -)."""
    return name == "-" or name.endswith(".json") or "/" in name or pathlib.Path(name).is_file()


def read(name: str) -> Json:
    """An exported experiment; ``-``: from standard input. Raises Problem."""
    try:
        content = sys.stdin.read() if name == "-" else pathlib.Path(name).read_text()
        document = json.loads(content)
    except OSError as error:
        raise explain.Problem(f"{name} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise explain.Problem(EXPORTED.format(name=name)) from error
    if not isinstance(document, dict) or "trials" not in document or "spec" not in document:
        raise explain.Problem(EXPORTED.format(name=name))
    if "record" not in document:
        raise explain.Problem(f"{name} was exported before kubetune kept the order of decisions; export it again")
    return document


def again(document: Mapping[str, Any], phase: str = "") -> tuple[list[str], bool]:
    """What is said of the export, of the search and of all that came after it, or of one phase; and whether all is the
    same. Raises Problem."""
    from kubetune.api import spec  # Optuna takes a second to load: only this command pays for it

    there_is(document, phase)
    try:
        said, same = _again(document, phase)
    except spec.InvalidSpec as error:
        raise explain.Problem(f"it cannot be decided again here: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise explain.Problem(f"the export cannot be understood: {type(error).__name__}: {error}") from error
    if not same and (document.get("status") or {}).get("state") not in model.ENDED:
        said.append(RUNNING)
    return said, same


def there_is(document: Mapping[str, Any], phase: str) -> None:
    """Raises Problem: the record has no such phase, or nothing was decided in it. Empty: no phase is asked for."""
    there = {each["phase"]: each["record"]["spec"] for each in document.get("phases", ())}
    if phase and phase not in there:
        listed = f"there are {', '.join(there)}" if there else "nothing came after the search yet"
        raise explain.Problem(f"there is no {phase} in the record; {listed}")
    if phase and there[phase] is None:
        raise explain.Problem(f"nothing was decided in {phase} yet")


def _again(document: Mapping[str, Any], phase: str) -> tuple[list[str], bool]:
    from kubetune.api import spec
    from kubetune.engine import again as engine
    from kubetune.storage import record_json

    metadata = {"generation": 0, "namespace": "default", **document["metadata"]}
    in_force = document["record"].get("spec") or document["spec"]  # an edit may have been refused
    wanted = spec.parse({"metadata": metadata, "spec": in_force})

    def read(of: Mapping[str, Any]) -> engine.Study:
        steering, warm = of["record"]["steering"], of["record"]["warm"]
        trials = [record_json.read_trial(one) for one in of["trials"]]
        return engine.Study(wanted, record_json.read_steering(steering), record_json.read_warm(warm), trials)

    search = read(document)
    found = [] if phase else [("", engine.replay(search), engine.versions(search))]
    before: list[engine.Phase] = []
    models = record_json.read_versions(document["record"].get("versions", ()))
    for each in document.get("phases", ()):
        if each["record"]["spec"] is None:
            continue  # its study was opened, and nothing is decided yet
        one = engine.Phase(each["phase"], each["record"]["spec"], read(each), _told(each.get("winner")))
        if phase in ("", one.name):
            found.append(
                (f"{one.name}: ", engine.replay_phase(search, before, one, models), engine.versions(one.study))
            )
        before.append(one)
    lines = [f"{name}{line}" for name, verdict, versions in found for line in _verdict(verdict, versions)]
    return lines, not any(verdict.different for _, verdict, _ in found)


def _told(winner: Mapping[str, Any] | None) -> Json | None:
    """As people were told of the winner, in the words of `engine.again.told`."""
    if winner is None:
        return None
    interval = winner.get("interval") or {"low": None, "high": None}
    mean = {"mean": winner["mean"]} if "mean" in winner else {}  # an infinite one has no place in a status
    return {
        "trial": winner["trial"],
        "runs": winner["runs"],
        "runnerUp": winner.get("runnerUp"),
        "low": interval["low"],
        "high": interval["high"],
        **mean,
    }


def _verdict(verdict: Any, versions: Sequence[str]) -> Iterator[str]:
    if not verdict.different and not verdict.same:
        yield "nothing is there that could be decided again"
    elif not verdict.different:
        asked, stops = text.plural(verdict.asked, "set"), text.plural(verdict.stops, "stop")
        same = [f"{asked} of parameters"]
        if not verdict.plans or verdict.stops or verdict.rungs:  # a phase's own runs are not pruned
            same += [stops, f"{text.plural(verdict.rungs, 'judgement')} to go on"]
        same += [text.plural(verdict.bounds, "regret bound")] if verdict.bounds else []
        same += [f"what followed {text.plural(verdict.legs, 'leg')}"] if verdict.legs else []
        same += [text.plural(verdict.promotions, "promotion")] if verdict.promotions else []
        same += [f"{text.plural(verdict.plans, 'decision')} about the phase"] if verdict.plans else []
        yield f"the same: {', '.join(same)}"
    else:
        of = verdict.different + verdict.same
        yield f"{text.plural(verdict.different, 'decision')} of {of} differ; the first:"
        yield from (f"  {each}" for each in verdict.differences)
    for note in verdict.notes:
        yield f"not decided again: {note}"
    if versions:
        said = "that may be why" if verdict.different else "which makes no difference here"
        yield f"versions differ ({said}): {'; '.join(versions)}"
