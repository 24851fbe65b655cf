"""Bodies and queries, judged: what is taken, and what is said of the rest."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubetune.gateway import wire


def read(body: object) -> list[wire.Reported]:
    return wire.read_reports(json.dumps(body).encode())


def test_one_report() -> None:
    assert read({"metrics": {"loss": 1, "acc": 0.5}, "step": 3, "key": "a"}) == [
        wire.Reported("a", 3, {"loss": 1.0, "acc": 0.5})
    ]


def test_a_gradient_is_kept_among_the_metrics() -> None:
    (report,) = read({"metrics": {"loss": 1}, "gradient": {"lr": -3, "momentum": 0.5}})
    assert report.metrics == {"loss": 1.0, "gradient:lr": -3.0, "gradient:momentum": 0.5}


def test_a_report_without_key_and_step_has_a_key_of_its_own() -> None:
    first, second = read({"reports": [{"metrics": {"loss": 1}}, {"metrics": {"loss": 1}}]})
    assert first.step is second.step is None
    assert first.key != second.key


@pytest.mark.parametrize("text", ["NaN", '"NaN"', '"nan"'])
def test_not_a_number_in_each_form(text: str) -> None:
    (report,) = wire.read_reports(f'{{"metrics": {{"loss": {text}}}}}'.encode())
    assert math.isnan(report.metrics["loss"])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('"Infinity"', math.inf),
        ('"-Infinity"', -math.inf),
        ("-Infinity", -math.inf),
        ("1e400", math.inf),
        ("1e-400", 0.0),
        ("12345678901234567890", 12345678901234567890.0),
    ],
)
def test_numbers_that_are_hardly_numbers(text: str, value: float) -> None:
    (report,) = wire.read_reports(f'{{"metrics": {{"loss": {text}}}}}'.encode())
    assert report.metrics["loss"] == value


def test_a_whole_step_may_come_as_a_float() -> None:
    assert read({"metrics": {"loss": 1}, "step": 3.0})[0].step == 3


LOSS = {"loss": 1}
BAD = {
    "": "body: not JSON",
    "\xff": "body: not JSON",
    "[" * 100_000: "body: not JSON",
    '{"metrics": {"loss": ' + "9" * 5000 + "}}": "body: not JSON",
    "[]": "body: [] is not a JSON object",
    "{}": "metrics: nothing is not an object of at least one metric",
    '{"metrics": {}}': "metrics: {} is not an object of at least one metric",
    '{"metrics": [1]}': "metrics: [1] is not an object",
    '{"metric": {"loss": 1}}': "metric: there is no such field; the fields are metrics, step, key and gradient",
    '{"metrics": {"loss": 1}, "gradient": 0.5}': "gradient: 0.5 is not an object, parameter to number",
    '{"metrics": {"loss": 1}, "gradient": {"lr": "steep"}}': "gradient.lr: 'steep' is not a number",
    '{"metrics": {"loss": 1}, "gradient": {"lr": "NaN"}}': "gradient.lr: nan is no slope; leave it out",
    '{"metrics": {"loss": 1}, "gradient": {"lr": 1e999}}': "gradient.lr: inf is no slope",
    json.dumps({"metrics": LOSS, "gradient": {"x" * 257: 1}}): "gradient: the name",
    json.dumps({"metrics": LOSS, "gradient": {f"p{n}": 1 for n in range(101)}}): "gradient: 101 parameters",
    '{"metrics": {"loss": 1}, "steps": 3}': "steps: there is no such field",
    '{"metrics": {"loss": "high"}}': "metrics.loss: 'high' is not a number",
    '{"metrics": {"loss": true}}': "metrics.loss: True is not a number",
    '{"metrics": {"loss": null}}': "metrics.loss: nothing is not a number",
    '{"metrics": {"loss": ' + "9" * 400 + "}}": "metrics.loss: a whole number of 400 digits is too large",
    '{"metrics": {"": 1}}': "metrics: the name '' has 0 characters",
    '{"metrics": {"kubetune.model": 1}}': "metrics: kubetune.model is kubetune's own",
    json.dumps({"metrics": {"x" * 257: 1}}): "has 257 characters; give it 1 to 256",
    json.dumps({"metrics": {f"m{number}": 1 for number in range(101)}}): "metrics: 101 of them; report at most 100",
    '{"metrics": {"loss": 1}, "step": 1.5}': "step: 1.5 is not a whole number",
    '{"metrics": {"loss": 1}, "step": true}': "step: True is not a whole number",
    '{"metrics": {"loss": 1}, "step": "3"}': "step: '3' is not a whole number",
    '{"metrics": {"loss": 1}, "step": 1e300}': "step: 1e+300 is out of range",
    '{"metrics": {"loss": 1}, "step": 9223372036854775808}': "out of range",
    '{"metrics": {"loss": 1}, "key": ""}': "key: '' is not a string of 1 to 128",
    '{"metrics": {"loss": 1}, "key": 5}': "key: 5 is not a string",
    '{"reports": []}': "reports: [] is not a list of at least one report",
    '{"reports": {}}': "reports: {} is not a list",
    '{"reports": [1]}': "reports[0]: 1 is not a report",
    '{"reports": [{"metrics": {"loss": 1}}, {"metrics": {"loss": "x"}}]}': "reports[1].metrics.loss: 'x' is not",
    '{"reports": [], "step": 3}': "step: there is no such field; beside reports nothing else is read",
    json.dumps({"reports": [{"metrics": LOSS}] * 1001}): "reports: 1001 of them; send at most 1000 at once",
}


@pytest.mark.parametrize(("body", "says"), BAD.items(), ids=[says[:40] for says in BAD.values()])
def test_what_is_wrong_is_said_with_its_place(body: str, says: str) -> None:
    with pytest.raises(wire.BadRequest) as caught:
        wire.read_reports(body.encode("latin-1"))
    assert says in str(caught.value)
    assert len(str(caught.value)) < 300


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {},
        optional={"metrics": json_values, "step": json_values, "key": json_values, "reports": json_values}
        | {"gradient": json_values},
    )
)
def test_any_json_is_taken_or_refused(body: object) -> None:
    try:
        reports = read(body)
    except wire.BadRequest:
        return
    assert all(report.metrics and 0 < len(report.key) <= 128 for report in reports)


def test_finish() -> None:
    assert wire.read_finish(b'{"status": "failed", "message": "no data"}') == ("failed", "no data")
    assert wire.read_finish(b'{"status": "complete"}') == ("complete", "")
    assert len(wire.read_finish(json.dumps({"status": "failed", "message": "x" * 9999}).encode())[1]) == 4096


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("{}", "status: nothing is none of complete, failed, pruned"),
        ('{"status": "done"}', "status: 'done' is none of complete, failed, pruned"),
        ('{"status": "failed", "message": 5}', "message: 5 is not a string"),
        ('{"status": "failed", "reason": "x"}', "reason: there is no such field"),
        ('{"status": []}', "status: [] is none of"),
    ],
)
def test_a_finish_that_is_none(body: str, says: str) -> None:
    with pytest.raises(wire.BadRequest, match=says.replace("[", r"\[").replace("]", r"\]")):
        wire.read_finish(body.encode())


def test_pages() -> None:
    assert wire.read_page({}) == (None, 0, 500)
    assert wire.read_page({"state": "complete", "offset": "10", "limit": "1000"}) == ("COMPLETE", 10, 1000)
