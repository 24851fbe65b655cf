"""Objects of an S3-compatible store: addresses that are good for a while, and clearing up.

Source: AWS, "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)", which S3-compatible stores
implement. Addresses have the bucket in their path, as all such stores take it. Pure, but for `Objects`.
"""

import dataclasses
import datetime
import hashlib
import hmac
import math
from collections.abc import Collection, Mapping
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree

import urllib3

from kubetune.settings import Settings

EXPIRES = 3600  # seconds that an address is good for
MOST_BYTES = 5 * 2**30  # of an object that is sent at once
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def presign(
    method: str,
    address: str,
    region: str,
    access_key: str,
    secret_key: str,
    now: datetime.datetime,
    expires: int = EXPIRES,
    query: Mapping[str, str] | None = None,
) -> str:
    """The address with a signature: whoever has it may do this one thing until it expires.

    Args:
        address: scheme, host and path, not quoted.
        now: in UTC.
        expires: seconds, at most 604,800.
    """
    parts = urlsplit(address)
    host = parts.netloc.lower().removesuffix(_DEFAULT_PORTS.get(parts.scheme, ""))
    day, moment = now.strftime("%Y%m%d"), now.strftime("%Y%m%dT%H%M%SZ")
    scope = f"{day}/{region}/s3/aws4_request"
    path = quote(address[address.index(parts.netloc) + len(parts.netloc) :], safe="/~")
    signed = {
        **(query or {}),
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{access_key}/{scope}",
        "X-Amz-Date": moment,
        "X-Amz-Expires": str(expires),
        "X-Amz-SignedHeaders": "host",
    }
    text = "&".join(f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in sorted(signed.items()))
    request = "\n".join((method, path, text, f"host:{host}", "", "host", "UNSIGNED-PAYLOAD"))
    to_sign = "\n".join(("AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(request.encode()).hexdigest()))
    key = f"AWS4{secret_key}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    return f"{parts.scheme}://{host}{path}?{text}&X-Amz-Signature={signature}"


@dataclasses.dataclass(frozen=True)
class Store:
    """The installation's bucket, and the credential that trials never see."""

    endpoint: str  # https://host, no trailing slash
    bucket: str
    region: str
    prefix: str
    access_key: str
    secret_key: str = dataclasses.field(repr=False)

    @classmethod
    def of(cls, settings: Settings) -> "Store | None":
        """None: the installation has none."""
        if not settings.s3_endpoint or not settings.s3_bucket:
            return None
        return cls(
            settings.s3_endpoint.rstrip("/"),
            settings.s3_bucket,
            settings.s3_region,
            settings.s3_prefix.strip("/"),
            settings.s3_access_key,
            settings.s3_secret_key,
        )

    def folder(self, uid: str) -> str:
        """What the keys of an experiment's objects begin with."""
        return f"{self.prefix}/{uid}/" if self.prefix else f"{uid}/"

    def key(self, uid: str, location: str) -> str:
        """Of a checkpoint: one tar file."""
        return f"{self.folder(uid)}{location}.tar"

    def own_key(self, namespace: str, key: str) -> str:
        """Of an object that people put there for a namespace's experiments; no experiment has a UID such as `init`."""
        return f"{self.prefix}/init/{namespace}/{key}" if self.prefix else f"init/{namespace}/{key}"

    def url(self, method: str, key: str, query: Mapping[str, str] | None = None) -> str:
        """For one object, or ("") the bucket."""
        address = f"{self.endpoint}/{self.bucket}" + (f"/{key}" if key else "")
        now = datetime.datetime.now(datetime.UTC)
        return presign(method, address, self.region, self.access_key, self.secret_key, now, query=query)


class Unavailable(Exception):  # noqa: N818
    """The store does not do it now."""


class NoAnswer(Unavailable):
    """It was tried for a minute or so."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """An object. ``modified``: seconds since the epoch by the store's clock; infinite: it does not say."""

    key: str
    modified: float


@dataclasses.dataclass(frozen=True)
class Page:
    """A part of a list. ``token``: of the next one; "": this is the last."""

    entries: tuple[Entry, ...]
    token: str


class Objects:
    """Lists and deletes."""

    def __init__(self, store: Store, timeout: float = 20.0) -> None:
        self.store = store
        self._pool = urllib3.PoolManager(timeout=timeout, retries=urllib3.Retry(2, backoff_factor=0.2))

    def remove(self, uid: str, location: str) -> None:
        """One that is gone already is none too many. Raises Unavailable."""
        self._delete(self.store.key(uid, location))

    def remove_but(self, uid: str, keep: Collection[str]) -> None:
        """All of an experiment's own objects, but for these locations. Raises Unavailable."""
        stay = {self.store.key(uid, location) for location in keep}
        folder = self.store.folder(uid)
        for key in self._listed(folder):
            if key not in stay and key[len(folder) :].partition("/")[0].isdigit():  # a trial's; others are none of ours
                self._delete(key)

    def _delete(self, key: str) -> None:
        self._send("DELETE", key, {}, (200, 204, 404))

    def page(self, prefix: str, token: str = "") -> Page:
        """The first thousand keys that begin with this, or those that come after (``token``: of the page before).
        Raises Unavailable."""
        more = {"continuation-token": token} if token else {}
        text = self._send("GET", "", {"list-type": "2", "prefix": prefix, **more}, (200,))
        try:
            answer = ElementTree.fromstring(text)
        except ElementTree.ParseError as error:
            raise Unavailable(f"the list of {prefix} cannot be read: {error}") from error
        space = answer.tag.partition("}")[0] + "}" if answer.tag.startswith("{") else ""
        entries = [_entry(each, space) for each in answer.iter(f"{space}Contents")]
        following = answer.findtext(f"{space}NextContinuationToken") or ""
        return Page(tuple(each for each in entries if each.key.startswith(prefix)), following)

    def _listed(self, prefix: str) -> list[str]:
        found: list[str] = []
        token = ""
        while True:
            page = self.page(prefix, token)
            found += [each.key for each in page.entries]
            token = page.token
            if not token:
                return found

    def _send(self, method: str, key: str, query: Mapping[str, str], good: Collection[int]) -> bytes:
        try:
            response = self._pool.request(method, self.store.url(method, key, query), redirect=False)
        except urllib3.exceptions.HTTPError as error:
            raise NoAnswer(f"the object store does not answer: {error}") from error
        if response.status not in good:
            raise Unavailable(f"{method} {key}: {response.status} {response.data[:200].decode('utf-8', 'replace')}")
        return response.data


def _entry(form: ElementTree.Element, space: str) -> Entry:
    try:
        modified = datetime.datetime.fromisoformat(form.findtext(f"{space}LastModified") or "").timestamp()
    except ValueError:
        modified = math.inf
    return Entry(form.findtext(f"{space}Key") or "", modified)
