"""Bodies about checkpoints (docs/gateway-api.md), judged and read, and the answer to what to go on from. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from kubetune import s3
from kubetune.api import checkpoints
from kubetune.api.checkpoints import Checkpoint
from kubetune.gateway import wire
from kubetune.gateway.wire import BadRequest, Json
from kubetune.storage import base, rules

MOST_BYTES = 2**50
MOST_FILES = 100_000
MOST_LOCATIONS = 100  # in one body


def read_commit(body: bytes, who: base.Identity) -> Checkpoint:
    """`POST /v1/checkpoint`. Raises BadRequest; also where the location is another trial's, or another attempt's."""
    form = wire.read_object(body)
    _only(form, ("step", "location", "digest", "bytes", "files", "store"))
    location, digest = _own(form, who), form.get("digest")
    store = form.get("store", checkpoints.CLAIM)
    if store not in (checkpoints.CLAIM, checkpoints.S3):
        raise BadRequest("store: send claim or s3, or leave it out")
    if not isinstance(digest, str) or not checkpoints.DIGEST.fullmatch(digest):
        raise BadRequest("digest: send a SHA-256 as 64 hexadecimal digits in lower case")
    return Checkpoint(
        trial=who.number,
        attempt=who.attempt,
        step=_whole(form, "step", -rules.STEP_LIMIT, rules.STEP_LIMIT - 1),
        location=location,
        digest=digest,
        bytes=_whole(form, "bytes", 0, MOST_BYTES),
        files=_whole(form, "files", 1, MOST_FILES),
        store=store,
    )


def read_upload(body: bytes, who: base.Identity) -> str:
    """`POST /v1/checkpoint/upload`: the location that an object is to have. Raises BadRequest."""
    form = wire.read_object(body)
    _only(form, ("location", "bytes"))
    _whole(form, "bytes", 0, s3.MOST_BYTES)
    return _own(form, who)


def _own(form: Mapping[str, Any], who: base.Identity) -> str:
    location, own = _location(form.get("location"), "location"), f"{who.number}/{who.attempt}-"
    if not location.startswith(own):
        raise BadRequest(f"location: {location!r} is not this attempt's; begin it with {own}")
    return location


def read_resume(body: bytes) -> tuple[str | None, list[str]]:
    """`POST /v1/checkpoint/resume`: what the attempt goes on from, and which ones are damaged. Raises BadRequest."""
    form = wire.read_object(body)
    _only(form, ("location", "damaged"))
    location = form.get("location")
    found = None if location is None else _location(location, "location")
    return found, _locations(form.get("damaged", []), "damaged")


def read_removed(body: bytes) -> list[str]:
    """`POST /v1/checkpoint/removed`. Raises BadRequest."""
    form = wire.read_object(body)
    _only(form, ("locations",))
    return _locations(form.get("locations"), "locations")


def write_checkpoint(one: Checkpoint) -> Json:
    return {
        "trial": one.trial,
        "attempt": one.attempt,
        "step": one.step,
        "location": one.location,
        "digest": one.digest,
        "bytes": one.bytes,
        "files": one.files,
        "store": one.store,
        "time": one.time,
    }


def _locations(value: Any, where: str) -> list[str]:
    if not isinstance(value, list) or len(value) > MOST_LOCATIONS:
        raise BadRequest(f"{where}: send a list of at most {MOST_LOCATIONS} locations")
    return [_location(each, f"{where}[{index}]") for index, each in enumerate(value)]


def _location(value: Any, where: str) -> str:
    if not isinstance(value, str) or not checkpoints.LOCATION.fullmatch(value):
        raise BadRequest(f"{where}: send TRIAL/ATTEMPT-NAME, of letters, digits, '.', '_' and '-', such as 17/1-40-a9")
    return value


def _whole(form: Mapping[str, Any], name: str, low: int, high: int) -> int:
    value = form.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise BadRequest(f"{name}: send a whole number from {low} to {high}")
    return value


def _only(form: Mapping[str, Any], fields: Sequence[str]) -> None:
    unknown = sorted(form.keys() - set(fields))
    if unknown:
        raise BadRequest(f"{unknown[0][:80]}: there is no such field; the fields are {', '.join(fields)}")
