"""Log lines: what they hold, and whose they are."""

import io
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from kubetune import logs


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    logs.configure("INFO", "json", stream)
    yield stream
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_its_time_in_utc(out: io.StringIO) -> None:
    logging.getLogger("kubetune.x").info("two\nlines and %s", "ü")
    (line,) = lines(out)
    assert {**line, "time": None} == {
        "time": None,
        "level": "info",
        "logger": "kubetune.x",
        "message": "two\nlines and ü",
    }
    assert line["time"].endswith("Z")


def test_lines_say_what_the_work_around_them_is_about(out: io.StringIO) -> None:
    logger = logging.getLogger("anybody's")
    with logs.about(namespace="ns", experiment="digits"):
        with logs.about(trial=0, attempt=None):
            logger.info("inner")
        logger.info("outer")
        logger.info("own", extra={"trial": 7})
    logger.info("none")
    told = [{name: line[name] for name in logs.FIELDS if name in line} for line in lines(out)]
    assert told == [
        {"namespace": "ns", "experiment": "digits", "trial": 0},
        {"namespace": "ns", "experiment": "digits"},
        {"namespace": "ns", "experiment": "digits", "trial": 7},
        {},
    ]


def test_one_threads_work_is_not_anothers(out: io.StringIO) -> None:
    with logs.about(experiment="digits"):
        thread = threading.Thread(target=logging.getLogger("x").info, args=("elsewhere",))
        thread.start()
        thread.join()
    assert "experiment" not in lines(out)[0]


def test_an_exception_is_in_its_line(out: io.StringIO) -> None:
    try:
        raise ValueError("boom")
    except ValueError:
        logging.getLogger("x").exception("failed")
    (line,) = lines(out)
    assert line["level"] == "error"
    assert line["exception"].endswith("ValueError: boom")


@pytest.mark.parametrize("name", ["kopf.reactor", "optuna.trial", "alembic.runtime", "asyncio"])
def test_other_libraries_lines_take_the_same_way(out: io.StringIO, name: str) -> None:
    logging.getLogger(name).warning("hear me")
    assert lines(out)[0]["logger"] == name


def test_the_form_for_eyes(out: io.StringIO) -> None:
    logs.configure("DEBUG", "text", out)
    logging.getLogger("kubetune.x").debug("hello", extra={"experiment": "digits", "trial": 3})
    assert out.getvalue().endswith(" debug   kubetune.x  hello  experiment=digits trial=3\n")


def test_a_wrong_form_is_named() -> None:
    with pytest.raises(ValueError, match="KUBETUNE_LOG_FORMAT='xml': write json or text"):
        logs.configure("INFO", "xml")
