"""Every metric that operator and gateway export: names, help, labels, buckets.

One object holds them, made once by the wiring and handed to who measures, so that two of them (in tests, in the
simulator) do not meet in a global registry. Names and units follow Prometheus' conventions; docs/metrics.md has one
line for each, which a test compares with this file.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeAlias, TypeVar

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

EXPERIMENT = ("namespace", "experiment")

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SLOW = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

_Metric = TypeVar("_Metric", bound=MetricWrapperBase)

_untyped: Any = prometheus_client
_untyped.disable_created_metrics()  # a second series for each, which no dashboard reads


Role: TypeAlias = Literal["operator", "gateway"]


class Metrics:
    """The metrics of one process. Durations in seconds. Safe from any thread.

    ``role``: whose they are. The other role's metrics can be measured too, and are not exported: a gauge that nobody
    sets would say 0, and alerts would believe it. None: both (tests).
    """

    def __init__(self, role: Role | None = None) -> None:
        self.registry = CollectorRegistry()
        self._role = role
        prometheus_client.ProcessCollector(registry=self.registry)
        prometheus_client.PlatformCollector(registry=self.registry)
        prometheus_client.GCCollector(registry=self.registry)
        self._own: list[MetricWrapperBase] = []
        self._scoped: list[MetricWrapperBase] = []  # those with one series for each experiment
        self._part: Role | None = "operator"
        self._experiments()
        self._loop()
        self._part = "gateway"
        self._reporting()
        self._part = None
        self._surroundings()

    def _experiments(self) -> None:
        one = EXPERIMENT
        self.experiments = self._gauge("kubetune_experiments", "Experiments that this operator knows.")
        self.trials = self._gauge("kubetune_trials", "Trials by state.", *one, "state")
        self.trials_in_flight = self._gauge("kubetune_trials_in_flight", "Trials whose Job is there and runs.", *one)
        self.workers = self._gauge("kubetune_workers", "Workers that are not over, by state.", *one, "state")
        self.slots_leased = self._gauge("kubetune_slots_leased", "Slots of workers that run a trial.", *one)
        self.parallelism = self._gauge(
            "kubetune_parallelism", "Trials that may be in flight; 0 but for the reason in force.", *one, "reason"
        )
        self.trials_ended = self._counter("kubetune_trials_ended_total", "Trials ended, by reason.", *one, "reason")
        self.attempts_lost = self._counter(
            "kubetune_attempts_lost_total", "Attempts lost to infrastructure, by reason.", *one, "reason"
        )
        self.best_value = self._gauge("kubetune_best_value", "The best trial's objective value.", *one, "metric")
        self.regret_bound = self._gauge(
            "kubetune_regret_bound", "What the search has left to gain, at most.", *one, "metric"
        )
        self.slot_refill = self._histogram(
            "kubetune_slot_refill_seconds", "From a freed slot to the next trial's Job.", _SLOW, *one
        )
        self.ask = self._histogram(
            "kubetune_ask_seconds", "From asking the sampler to its answer's commit.", _SLOW, *one
        )

    def _reporting(self) -> None:
        # not by experiment: gateways do not learn when one is deleted, so such series would stay for ever
        self.report = self._histogram(
            "kubetune_report_seconds", "Gateway: from a report's arrival to its commit.", _FAST
        )
        self.reports_accepted = self._counter("kubetune_reports_accepted_total", "Gateway: reports committed.")
        self.reports_rejected = self._counter(
            "kubetune_reports_rejected_total", "Gateway: requests refused, by reason.", "reason"
        )
        self.handover = self._histogram(
            "kubetune_handover_seconds", "Gateway: from the end of a slot's trial to its next one.", _SLOW
        )
        self.logs_followed = self._gauge("kubetune_logs_followed", "Gateway: pods whose log is being followed.")

    def _loop(self) -> None:
        self.leader = self._gauge("kubetune_leader", "1: this operator leads, 0: it stands by.")
        self.queue_depth = self._gauge("kubetune_queue_depth", "Experiments waiting for a reconcile.")
        self.queue_wait = self._histogram("kubetune_queue_wait_seconds", "From due to the reconcile's begin.", _FAST)
        self.reconcile = self._histogram("kubetune_reconcile_seconds", "One reconcile of one experiment.", _SLOW)
        self.reconcile_errors = self._counter(
            "kubetune_reconcile_errors_total", "Reconciles that failed and will be repeated, by kind.", "kind"
        )
        self.sampler_restarts = self._counter(
            "kubetune_sampler_restarts_total", "Sampler processes that ended by themselves or hung, and were replaced."
        )
        self.reconcile_age = self._gauge(
            "kubetune_reconcile_age_seconds", "Since a worker last did its work well (the heartbeat's included)."
        )
        self.relist_age = self._gauge("kubetune_relist_age_seconds", "Since the cache was last compared with a list.")
        self.relist_corrections = self._counter(
            "kubetune_relist_corrections_total", "Changes that a list found before their watch told them.", "kind"
        )
        self.certificate_expiry = self._gauge(
            "kubetune_certificate_expiry_timestamp_seconds", "When the gateway's certificate ends (epoch seconds)."
        )
        self.watch_events = self._counter("kubetune_watch_events_total", "Watch events received.", "kind")
        self.api_write_limit = self._gauge(
            "kubetune_api_write_limit", "Creates and deletes of Jobs that may be in flight at once."
        )
        self.api_wait = self._histogram(
            "kubetune_api_wait_seconds", "From wanting a request to sending it, by rank.", _FAST, "rank"
        )

    def _surroundings(self) -> None:
        self.database_up = self._gauge("kubetune_database_up", "1: the database answered when last asked, else 0.")
        self.api_requests = self._counter(
            "kubetune_api_requests_total", "Requests to the API server (code 0: no answer).", "verb", "resource", "code"
        )
        self.api_request = self._histogram(
            "kubetune_api_request_seconds", "One request to the API server.", _FAST, "verb"
        )

    # measuring what several places measure alike

    def observe(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        """Of the metric with the attribute ``name``: set a gauge, add to a counter, observe in a histogram. Keeps
        `controller.ports.Meter`. Raises only for a name or labels that are not here."""
        metric = getattr(self, name)
        child = metric.labels(**labels) if labels else metric
        if isinstance(child, Gauge):
            child.set(value)
        elif isinstance(child, Counter):
            child.inc(value)
        else:
            child.observe(value)

    def observe_request(self, verb: str, resource: str, code: int, seconds: float, wait: float | None = None) -> None:
        """One request to the API server; fits `kube.client.Client`'s ``on_request``."""
        self.api_requests.labels(verb, resource, str(code)).inc()
        self.api_request.labels(verb).observe(seconds)

    def age_since(
        self, gauge: Gauge, last: Callable[[], float], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Let a gauge tell, whenever it is read, the seconds since ``last()`` (monotonic)."""
        gauge.set_function(lambda: monotonic() - last())

    def forget_experiment(self, namespace: str, experiment: str) -> None:
        """Remove the series of an experiment that was deleted."""
        for metric in self._scoped:
            metric.remove_by_labels({"namespace": namespace, "experiment": experiment})

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return prometheus_client.generate_latest(self.registry)

    @staticmethod
    def documented() -> Mapping[str, tuple[str, str, tuple[str, ...]]]:
        """name → (type, help, labels) of kubetune's own metrics: what docs/metrics.md must say."""
        return {
            described.name + ("_total" if described.type == "counter" else ""): (
                described.type,
                described.documentation,
                metric._labelnames,
            )
            for metric in Metrics()._own
            for described in metric.describe()
        }

    @property
    def _target(self) -> CollectorRegistry | None:
        return None if None not in (self._role, self._part) and self._role != self._part else self.registry

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return self._keep(Gauge(name, text, labels, registry=self._target), labels)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return self._keep(Counter(name, text, labels, registry=self._target), labels)

    def _histogram(self, name: str, text: str, buckets: Iterable[float], *labels: str) -> Histogram:
        return self._keep(Histogram(name, text, labels, registry=self._target, buckets=tuple(buckets)), labels)

    def _keep(self, metric: _Metric, labels: tuple[str, ...]) -> _Metric:
        self._own.append(metric)
        if labels[:2] == EXPERIMENT:
            self._scoped.append(metric)
        return metric
