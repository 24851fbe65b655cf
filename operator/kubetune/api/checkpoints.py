"""Checkpoints: where an experiment's lie, what is known of each, and which of them may go. Pure."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from kubetune.api.parameters import InvalidSpec

KEEP = 2  # of each trial: should the latest be damaged, there is the one before
MOST_KEPT = 10
DEFAULT_PATH = "kubetune"
CLAIM = "claim"  # where a checkpoint lies: on the experiment's volume claim,
S3 = "s3"  # or in the installation's bucket
# A checkpoint's location within its experiment: TRIAL/ATTEMPT-NAME.
LOCATION = re.compile(r"([0-9]{1,10})/([0-9]{1,10})-[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*", re.ASCII)
_LONGEST_KEY = 512


@dataclasses.dataclass(frozen=True)
class Place:
    """`spec.checkpoints`: a PersistentVolumeClaim of the namespace, and the folder on it below which each experiment
    has one of its own, by its UID. ``claim`` "": the installation's bucket, where the operator says what the keys begin
    with. ``keep``: the latest so many of a running trial stay."""

    claim: str
    path: str = DEFAULT_PATH
    keep: int = KEEP

    def folder(self, uid: str) -> str:
        """The experiment's own, on the claim."""
        return f"{self.path}/{uid}" if self.path else uid


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A committed checkpoint. ``time``: of the commit, seconds since the epoch."""

    trial: int
    attempt: int
    step: int
    location: str
    digest: str  # SHA-256, hexadecimal: of the manifest, which has that of each file
    bytes: int
    files: int
    store: str = CLAIM
    time: float = 0.0


@dataclasses.dataclass(frozen=True)
class Taken:
    """Another experiment's checkpoint that this one begins with, as it was found then. ``uid``: of the study that it is
    of, a refit's too; ``claim``, ``folder``: that study's own folder; both "" in the bucket."""

    source: str
    uid: str
    claim: str
    folder: str
    checkpoint: Checkpoint


@dataclasses.dataclass(frozen=True)
class InitCheckpoint:
    """`spec.initCheckpoint`: what every trial starts from, read only. One of three: a folder on a claim of the
    namespace; an object of the namespace's own part of the installation's bucket; another experiment's checkpoint,
    which is ``taken`` when the experiment begins."""

    claim: str = ""
    path: str = ""
    key: str = ""  # of the object
    digest: str = ""  # SHA-256 of the object, hexadecimal
    source: str = ""  # the other experiment's name
    trial: int | None = None  # of it; None: its refit's, or the best trial's
    taken: Taken | None = None

    @property
    def in_store(self) -> bool:
        """Trials get it from the object storage."""
        return bool(self.key) or (self.taken is not None and self.taken.checkpoint.store == S3)


def placed(given: InitCheckpoint, taken: Taken) -> InitCheckpoint:
    """With what was found of the other experiment: on its claim only the checkpoint's own folder is mounted."""
    if taken.checkpoint.store == S3:
        return dataclasses.replace(given, taken=taken)
    path = f"{taken.folder}/{taken.checkpoint.location}"
    return dataclasses.replace(given, claim=taken.claim, path=path, digest=taken.checkpoint.digest, taken=taken)


@dataclasses.dataclass(frozen=True)
class Start:
    """The object that a trial starts from: a checkpoint of the study ``uid`` at ``location``, or (``uid`` "") whatever
    lies under the key ``location`` in the namespace's own part of the bucket."""

    uid: str
    location: str
    digest: str  # of the object


@dataclasses.dataclass(frozen=True)
class Kept:
    """A checkpoint as the database has it. ``released``: nobody needs it, it may be removed; then it is offered to
    nobody any more."""

    checkpoint: Checkpoint
    damaged: bool = False
    released: bool = False

    @property
    def good(self) -> bool:
        return not self.damaged and not self.released


@dataclasses.dataclass(frozen=True)
class Resumed:
    """An attempt of ``trial`` went on from a checkpoint: of its own trial or of another one (``source``)."""

    trial: int
    attempt: int
    source: int
    source_attempt: int
    step: int
    location: str
    time: float = 0.0


@dataclasses.dataclass(frozen=True)
class Leftover:
    """An experiment that is over (``deleted``: and its resource is gone), and what lies on its claim for nobody.
    ``keep``: locations of what stays. ``spec``: as it was kept."""

    uid: str
    namespace: str
    name: str
    spec: Mapping[str, Any]
    deleted: bool
    keep: tuple[str, ...]


def unneeded(kept: Sequence[Kept], keep: bool) -> list[Kept]:
    """Of one ended trial's checkpoints, in order of their commits, those that may go: all, but for the latest good one
    if it is to be kept."""
    stay = {each.location for each in candidates(kept)[: 1 if keep else 0]}
    return [each for each in kept if not each.released and each.checkpoint.location not in stay]


def superseded(kept: Sequence[Kept], keep: int) -> list[Kept]:
    """Of one running trial's checkpoints, in order of their commits, those that may go: all before the latest ``keep``
    good ones, and damaged ones."""
    good = [each for each in kept if each.good]
    stay = {each.checkpoint.location for each in good[-keep:]}
    return [each for each in kept if not each.released and each.checkpoint.location not in stay]


def candidates(kept: Sequence[Kept]) -> list[Checkpoint]:
    """Of one trial's checkpoints, in order of their commits, those to resume from: the latest first."""
    return [each.checkpoint for each in reversed(kept) if each.good]


def keep_of(spec: Mapping[str, Any] | None) -> int:
    """How many of a running trial's checkpoints stay, by its experiment's spec as it is kept."""
    form = (spec or {}).get("checkpoints") or {}
    return int(form.get("keep", KEEP))


def parse_place(spec: Mapping[str, Any]) -> Place | None:
    """`spec.checkpoints`. Raises InvalidSpec."""
    form = spec.get("checkpoints")
    if not form:
        return None
    if (spec.get("metrics") or {}).get("from", "push") != "push":
        raise InvalidSpec("checkpoints", "the trial commits them itself, as it reports: leave metrics.from at push")
    keep = int(form.get("keep", KEEP))
    if not 1 <= keep <= MOST_KEPT:
        raise InvalidSpec("checkpoints.keep", f"is {keep}; keep 1 to {MOST_KEPT}")
    if "s3" in form:
        if "claim" in form:
            raise InvalidSpec("checkpoints", "give claim (a volume) or s3: {} (the installation's bucket), not both")
        return Place("", "", keep)
    path = _path(str(form.get("path", DEFAULT_PATH)), "checkpoints.path")
    return Place(_claim(form.get("claim"), "checkpoints.claim"), path, keep)


def parse_given(spec: Mapping[str, Any]) -> InitCheckpoint | None:
    """`spec.initCheckpoint`. Raises InvalidSpec."""
    form = spec.get("initCheckpoint")
    if not form:
        return None
    given = [name for name in ("claim", "s3", "from") if form.get(name)]
    if len(given) > 1:
        raise InvalidSpec("initCheckpoint", f"give one of claim, s3 and from, not {' and '.join(given)}")
    if "s3" in given:
        _pushed(spec, "initCheckpoint.s3")
        return _object(form["s3"])
    if "from" in given:
        source, trial = form["from"].get("experiment"), form["from"].get("trial")
        if not isinstance(source, str) or not _NAME.fullmatch(source):
            raise InvalidSpec("initCheckpoint.from.experiment", f"{source!r} is no name; name another Experiment")
        return InitCheckpoint(source=source, trial=None if trial is None else int(trial))
    path = _path(str(form.get("path", "")), "initCheckpoint.path")
    return InitCheckpoint(_claim(form.get("claim"), "initCheckpoint.claim"), path)


def _object(form: Mapping[str, Any]) -> InitCheckpoint:
    key, digest = str(form.get("key", "")), str(form.get("sha256", ""))
    if len(key) > _LONGEST_KEY or not _KEY.fullmatch(key):
        raise InvalidSpec("initCheckpoint.s3.key", f"{key[:80]!r}: write a key such as resnet18.tar or team/weights.pt")
    if not DIGEST.fullmatch(digest):
        raise InvalidSpec("initCheckpoint.s3.sha256", "give the object's SHA-256 as sha256sum prints it, 64 digits")
    return InitCheckpoint(key=key, digest=digest)


def _pushed(spec: Mapping[str, Any], field: str) -> None:
    if (spec.get("metrics") or {}).get("from", "push") != "push":
        raise InvalidSpec(field, "the gateway tells the trial's client where it is: leave metrics.from at push")


def _claim(name: Any, field: str) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidSpec(field, f"{name!r} is no name; name a PersistentVolumeClaim of the experiment's namespace")
    return name


def _path(path: str, field: str) -> str:
    bare = path.rstrip("/")
    if bare and any(part in ("", ".", "..") for part in bare.split("/")):
        raise InvalidSpec(field, f"{path!r}: write a path within the claim, such as checkpoints or team/runs")
    return bare
