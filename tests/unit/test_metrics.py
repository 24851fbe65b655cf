"""Metrics and their page hold together, and a deleted experiment leaves no series."""

import pathlib
import re

from kubetune.metrics import catalog

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "metrics.md"
ROW = re.compile(r"^\| `(kubetune_\w+)` \| (\w+) \|([^|]*)\| ([^|]+) \|$", re.MULTILINE)


def test_the_page_says_of_each_metric_what_the_code_says() -> None:
    page = {
        name: (kind, text, tuple(label for label in labels.strip().split(", ") if label))
        for name, kind, labels, text in ROW.findall(PAGE.read_text(encoding="utf-8"))
    }
    assert page == dict(catalog.Metrics.documented())


def test_names_carry_their_unit_and_counters_end_in_total() -> None:
    for name, (kind, _, _) in catalog.Metrics.documented().items():
        assert name.endswith("_total") == (kind == "counter"), name
        assert kind != "histogram" or name.endswith("_seconds"), name


def test_a_deleted_experiment_leaves_no_series_and_others_stay() -> None:
    metrics = catalog.Metrics()
    for experiment in ("gone", "stays"):
        metrics.trials.labels("ns", experiment, "complete").set(3)
        metrics.trials_ended.labels("ns", experiment, "OOMKilled").inc()
        metrics.ask.labels("ns", experiment).observe(0.1)
    metrics.trials.labels("other", "gone", "complete").set(1)
    metrics.forget_experiment("ns", "gone")
    text = metrics.text().decode()
    assert 'experiment="gone",namespace="ns"' not in text
    assert 'kubetune_trials{experiment="stays",namespace="ns",state="complete"} 3.0' in text
    assert 'kubetune_trials{experiment="gone",namespace="other",state="complete"} 1.0' in text


def test_an_age_is_of_the_moment_it_is_read() -> None:
    metrics, now = catalog.Metrics(), [10.0]
    metrics.age_since(metrics.reconcile_age, lambda: 4.0, lambda: now[0])
    assert b"kubetune_reconcile_age_seconds 6.0\n" in metrics.text()
    now[0] = 11.0
    assert b"kubetune_reconcile_age_seconds 7.0\n" in metrics.text()


def test_requests_to_the_api_server_are_counted_by_verb_and_code() -> None:
    metrics = catalog.Metrics()
    metrics.observe_request("create", "jobs", 201, 0.02)
    metrics.observe_request("create", "jobs", 0, 5.0)
    text = metrics.text().decode()
    assert 'kubetune_api_requests_total{code="201",resource="jobs",verb="create"} 1.0' in text
    assert 'kubetune_api_requests_total{code="0",resource="jobs",verb="create"} 1.0' in text


def test_two_of_them_in_one_process_do_not_meet() -> None:
    first, second = catalog.Metrics(), catalog.Metrics()
    first.reports_accepted.inc()
    assert b"kubetune_reports_accepted_total 0.0" in second.text()


def test_measuring_by_name_is_by_the_metrics_kind() -> None:
    metrics = catalog.Metrics()
    experiment = {"namespace": "ns", "experiment": "x"}
    for value in (3.0, 2.0):
        metrics.observe("parallelism", value, {**experiment, "reason": "Spec"})
        metrics.observe("attempts_lost", value, {**experiment, "reason": "Evicted"})
        metrics.observe("ask", value, experiment)
        metrics.observe("queue_depth", value, {})
    sample = metrics.registry.get_sample_value
    assert sample("kubetune_parallelism", {**experiment, "reason": "Spec"}) == 2
    assert sample("kubetune_attempts_lost_total", {**experiment, "reason": "Evicted"}) == 5
    assert sample("kubetune_ask_seconds_sum", experiment) == 5
    assert sample("kubetune_ask_seconds_count", experiment) == 2
    assert sample("kubetune_queue_depth") == 2


def test_each_role_exports_its_own_and_what_both_stand_on() -> None:
    def names(role: catalog.Role | None) -> set[str]:
        text = catalog.Metrics(role).text().decode()
        return set(re.findall(r"^# TYPE (kubetune_\w+) ", text, re.MULTILINE))

    operator, gateway = names("operator"), names("gateway")
    assert operator & gateway == {
        "kubetune_database_up",
        "kubetune_api_requests_total",
        "kubetune_api_request_seconds",
    }
    assert operator | gateway == names(None)
    assert "kubetune_reports_accepted_total" in gateway
    assert "kubetune_certificate_expiry_timestamp_seconds" in operator
