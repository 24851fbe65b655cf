"""What can go wrong at the API server, as classes: who calls decides by type, never by text or number.

Source of codes and reasons: Kubernetes' `metav1.Status`.
"""

import json
from collections.abc import Mapping
from typing import Any


class ApiError(Exception):
    """The API server said no.

    ``status``: the HTTP code (0: no answer came); ``reason``: Status.reason, e.g. ``AlreadyExists``.
    """

    def __init__(self, status: int, reason: str, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message or reason or f"HTTP {status}")
        self.status = status
        self.reason = reason
        self.message = message or reason or f"HTTP {status}"
        self.details = dict(details or {})


class NotFound(ApiError):  # noqa: N818
    """404: no such object, or its kind is not installed."""


class AlreadyExists(ApiError):  # noqa: N818
    """409: an object of that name is there."""


class Conflict(ApiError):  # noqa: N818
    """409: a precondition (UID, resourceVersion) or another field manager stands against it."""


class Gone(ApiError):  # noqa: N818
    """410: the list's continue token or the watch's resourceVersion is too old; start again."""


class Forbidden(ApiError):  # noqa: N818
    """403: not allowed, by RBAC or an admission policy."""


class QuotaExceeded(Forbidden):
    """403 by a ResourceQuota: it may pass when something ends."""


class NamespaceTerminating(Forbidden):
    """403: the namespace is being deleted; nothing new can be made in it."""


class Invalid(ApiError):  # noqa: N818
    """400 or 422: the object itself is wrong; sending it again is of no use."""


class Unavailable(ApiError):  # noqa: N818
    """No answer, or one that says `not now`: try again later. What was sent may have been carried out.

    ``retry_after``: seconds the server asked for, if it did.
    """

    def __init__(self, status: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(status, reason, message)
        self.retry_after = retry_after


class Unauthorized(Unavailable):
    """401: the credential was not taken, even after it was read again."""


_BY_STATUS: Mapping[int, type[ApiError]] = {
    400: Invalid,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    413: Invalid,
    415: Invalid,
    422: Invalid,
}


def from_response(status: int, body: bytes, headers: Mapping[str, str]) -> ApiError:
    """The error that a response of 400 or more means; its body is a `metav1.Status`, or whatever a proxy wrote."""
    reason, message, details = _status(body)
    if status == 401:
        return Unauthorized(status, reason, message)
    if status in (408, 429) or status >= 500:
        return Unavailable(status, reason, message, _retry_after(headers, details))
    return _kind(status, reason, message, details)(status, reason, message, details)


def _kind(status: int, reason: str, message: str, details: Mapping[str, Any]) -> type[ApiError]:
    if status == 409 and reason == "AlreadyExists":
        return AlreadyExists
    if status == 403 and "exceeded quota" in message:
        return QuotaExceeded
    if status == 403 and any(cause.get("reason") == "NamespaceTerminating" for cause in details.get("causes") or ()):
        return NamespaceTerminating
    return _BY_STATUS.get(status, ApiError)


def _status(body: bytes) -> tuple[str, str, Mapping[str, Any]]:
    try:
        parsed = json.loads(body)
    except ValueError:
        return "", body[:500].decode("utf-8", "replace").strip(), {}
    if not isinstance(parsed, dict):
        return "", str(parsed)[:500], {}
    message = parsed.get("message") or parsed.get("error") or ""  # `error`: the gateway's own answers, proxied
    details = parsed.get("details")
    return str(parsed.get("reason") or ""), str(message), details if isinstance(details, dict) else {}


def _retry_after(headers: Mapping[str, str], details: Mapping[str, Any]) -> float | None:
    given = headers.get("Retry-After") or details.get("retryAfterSeconds")
    try:
        return float(given) if given is not None else None
    except (TypeError, ValueError):  # a date: nobody's API server sends one
        return None
