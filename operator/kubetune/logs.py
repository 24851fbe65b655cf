"""Structured logs: one JSON object a line, with the experiment and the trial it is about in every line that has one.

Fields are set once for a piece of work (`about`) and reach every line written in it, by whichever logger; kopf's,
aiohttp's and Optuna's lines take the same way out.
"""

import contextlib
import contextvars
import datetime
import json
import logging
import sys
import traceback
import types
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

FIELDS = ("namespace", "experiment", "trial", "attempt")

# What libraries say of their own affairs at a level that would drown ours.
_QUIETER: Mapping[str, int] = {
    "kopf.objects": logging.WARNING,
    "kopf.activities": logging.WARNING,
    "aiohttp.access": logging.WARNING,
    "urllib3": logging.WARNING,
    "optuna": logging.WARNING,
    "alembic": logging.INFO,
    "asyncio": logging.WARNING,
}

_NOTHING: Mapping[str, Any] = types.MappingProxyType({})
_about: contextvars.ContextVar[Mapping[str, Any]] = contextvars.ContextVar("kubetune_log_fields", default=_NOTHING)


@contextlib.contextmanager
def about(**fields: Any) -> Iterator[None]:
    """Lines written inside say what they are about: `FIELDS` by name; None is left out."""
    token = _about.set({**_about.get(), **{name: value for name, value in fields.items() if value is not None}})
    try:
        yield
    finally:
        _about.reset(token)


def configure(level: str = "INFO", form: str = "json", stream: TextIO | None = None) -> None:
    """Send every logger's lines to ``stream`` (standard error), as ``json`` or ``text``.

    Raises:
        ValueError: no such level or form.
    """
    if form not in ("json", "text"):
        raise ValueError(f"KUBETUNE_LOG_FORMAT={form!r}: write json or text")
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name, least in _QUIETER.items():
        logging.getLogger(name).setLevel(max(least, root.level))
    _take_over("optuna", "alembic")
    logging.captureWarnings(True)


def _take_over(*loggers: str) -> None:
    """Libraries that write by themselves: take their handlers away and let their lines pass on."""
    for name in loggers:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """What a line is about: from ``extra=`` of its call, else from `about`."""
    known = _about.get()
    found = {name: getattr(record, name, known.get(name)) for name in FIELDS}
    return {name: value for name, value in found.items() if value is not None}


def _time(record: logging.LogRecord) -> str:
    moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class JsonFormatter(logging.Formatter):
    """time, level, logger, message, then what it is about, then the exception's text."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **fields(record),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = "".join(traceback.format_exception(*record.exc_info)).rstrip()
        return json.dumps(line, ensure_ascii=False, default=str)


class TextFormatter(logging.Formatter):
    """For eyes: ``12:00:00.000 info  kubetune.controller  message  experiment=digits trial=3``."""

    def format(self, record: logging.LogRecord) -> str:
        told = " ".join(f"{name}={value}" for name, value in fields(record).items())
        level = record.levelname.lower()
        line = f"{_time(record)[11:-1]} {level:7} {record.name}  {record.getMessage()}" + (f"  {told}" if told else "")
        if record.exc_info and record.exc_info[0] is not None:
            line += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
        return line
