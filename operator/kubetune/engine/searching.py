"""How a study is searched, for the record: sampler, pruner, seed, and the versions of what decides. Pure but for asking
which versions there are.

Recorded before the first trial, and whenever one of them changes: an upgrade, another stage, another pick of `auto`.
"""

import dataclasses
import functools
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence

import kubetune
from kubetune.api import names
from kubetune.api.spec import Algorithm, ExperimentSpec, Json
from kubetune.engine.samplers import Pick
from kubetune.engine.steering import IMAGE as IMAGE
from kubetune.engine.steering import SEARCH as SEARCH
from kubetune.storage.base import Steer

LIBRARIES = ("optuna", "numpy", "scipy", "cmaes", "scikit-learn")


@functools.cache
def versions() -> Mapping[str, str]:
    """Of kubetune, of Python, and of the libraries that samplers and pruners are made of, as far as they are there."""
    found = {"kubetune": kubetune.__version__, "python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def begun(spec: ExperimentSpec, recorded: Sequence[Steer]) -> ExperimentSpec:
    """The spec with what was settled when its study began, which no edit changes: what hyperband draws brackets by. It
    is the seed, so that a rerun has the same ones; without one, or by an older kubetune, the study's name."""
    first = next((each.detail for each in recorded if each.kind == SEARCH), None)
    name = names.study_name(spec.namespace, spec.name, spec.uid)
    by = str(spec.seed) if spec.seed is not None else name
    return dataclasses.replace(spec, brackets=by if first is None else str(first.get("brackets", name)))


def changed(recorded: Sequence[Steer], picked: Pick, pruner: Algorithm) -> list[Steer]:
    """What is to be recorded: nothing, if it is as it was."""
    detail: Json = {
        "sampler": _form(picked.spec.sampler),
        "reason": picked.reason,
        "pruner": _form(pruner),
        "seed": picked.spec.seed,
        "brackets": picked.spec.brackets,
        "versions": dict(versions()),
    }
    last = next((each.detail for each in reversed(recorded) if each.kind == SEARCH), None)
    return [] if last == detail else [Steer(SEARCH, picked.name, detail)]


def images(recorded: Sequence[Steer], seen: Mapping[str, tuple[str, int]]) -> list[Steer]:
    """What is to be recorded of images that trials run on. ``seen``: by digest, its name and a trial of it."""
    known = {each.subject for each in recorded if each.kind == IMAGE}
    return [
        Steer(IMAGE, digest, {"image": image, "digest": digest, "trial": trial})
        for digest, (image, trial) in sorted(seen.items(), key=lambda item: item[1][1])
        if digest not in known
    ]


def _form(algorithm: Algorithm) -> Json:
    return {"name": algorithm.name, "settings": dict(algorithm.settings)}
