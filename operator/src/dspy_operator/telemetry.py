"""The operator's own metrics (`GET /metrics`): what `reconcile/` and the adapters did, never a user's text."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from dspy_operator.api.names import OperatorMetric
from dspy_operator.rollout.judging import MetricVerdict

WHOSE = ("namespace", "name")


class Telemetry:
    """One registry with every metric of the operator."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        self._info = Gauge(
            OperatorMetric.ROLLOUT_INFO, "1 for the phase it is in", [*WHOSE, "phase"], registry=self.registry
        )
        self._weight = Gauge(
            OperatorMetric.ROLLOUT_WEIGHT,
            "Percent of the traffic for the canary",
            WHOSE,
            registry=self.registry,
        )
        self._rollouts = Counter(
            OperatorMetric.ROLLOUTS, "Attempts that ended", ["outcome"], registry=self.registry
        )
        self._duration = Histogram(
            OperatorMetric.ROLLOUT_DURATION,
            "From the opening of an attempt to its end",
            ["outcome"],
            buckets=(60, 300, 900, 3600, 6 * 3600, 24 * 3600, 72 * 3600, 7 * 24 * 3600),
            registry=self.registry,
        )
        self._delta = Gauge(
            OperatorMetric.METRIC_DELTA,
            "Estimated drop, above 0 is worse",
            [*WHOSE, "metric"],
            registry=self.registry,
        )
        self._evidence = Gauge(
            OperatorMetric.EVIDENCE,
            "The sequential test; 1 fires",
            [*WHOSE, "metric", "kind"],
            registry=self.registry,
        )
        self._passes = Histogram(
            OperatorMetric.RECONCILE_SECONDS,
            "One pass",
            buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
            registry=self.registry,
        )
        self._errors = Counter(
            OperatorMetric.RECONCILE_ERRORS, "Passes that failed", ["kind"], registry=self.registry
        )
        self._queries = Counter(
            OperatorMetric.QUERIES, "Queries to Prometheus", ["result"], registry=self.registry
        )
        self._requests = Counter(
            "dspy_operator_api_requests_total",
            "Requests to the API server",
            ["verb", "resource", "code"],
            registry=self.registry,
        )
        self._rollback = Histogram(
            OperatorMetric.ROLLBACK_SECONDS,
            "From the verdict to the table in the last pod",
            buckets=(0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30),
            registry=self.registry,
        )
        self._phases: dict[tuple[str, str], str] = {}
        self._metrics: dict[tuple[str, str], set[str]] = {}

    def serve(self, port: int) -> None:
        """Answer scrapes in a thread of its own.

        Raises:
            OSError: the port is taken.
        """
        start_http_server(port, registry=self.registry)

    @contextmanager
    def time_pass(self) -> Iterator[None]:
        """Measure one pass."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._passes.observe(time.monotonic() - began)

    def count_request(self, verb: str, resource: str, code: str) -> None:
        """One request to the API server."""
        self._requests.labels(verb, resource, code).inc()

    def count_query(self, result: str) -> None:
        """One query to Prometheus: `ok` or `failed`."""
        self._queries.labels(result).inc()

    def count_reconcile_error(self, kind: str) -> None:
        """A pass failed."""
        self._errors.labels(kind).inc()

    def count_rollout(self, outcome: str, seconds: float) -> None:
        """An attempt ended after so many seconds."""
        self._rollouts.labels(outcome).inc()
        self._duration.labels(outcome).observe(seconds)

    def observe_rollback(self, seconds: float) -> None:
        """The last pod follows the rollback since so many seconds after the verdict."""
        self._rollback.observe(seconds)

    def show_rollout(self, namespace: str, name: str, phase: str, weight: int) -> None:
        """Where a resource is."""
        before = self._phases.get((namespace, name))
        if before is not None and before != phase:
            self._info.remove(namespace, name, before)
        self._phases[namespace, name] = phase
        self._info.labels(namespace, name, phase).set(1)
        self._weight.labels(namespace, name).set(weight)

    def show_metric(self, namespace: str, name: str, metric: MetricVerdict) -> None:
        """What one metric says of the canary."""
        self._metrics.setdefault((namespace, name), set()).add(metric.name)
        if metric.drop is not None:
            self._delta.labels(namespace, name, metric.name).set(metric.drop)
        self._evidence.labels(namespace, name, metric.name, "rollback").set(metric.evidence_rollback)
        self._evidence.labels(namespace, name, metric.name, "promote").set(metric.evidence_promote)

    def hide_metrics(self, namespace: str, name: str) -> None:
        """No attempt is open any more."""
        for metric in self._metrics.pop((namespace, name), set()):
            self._delta.remove_by_labels({"namespace": namespace, "name": name, "metric": metric})
            self._evidence.remove_by_labels({"namespace": namespace, "name": name, "metric": metric})

    def forget(self, namespace: str, name: str) -> None:
        """The resource is gone, and with it its series."""
        phase = self._phases.pop((namespace, name), None)
        if phase is not None:
            self._info.remove(namespace, name, phase)
            self._weight.remove(namespace, name)
        self.hide_metrics(namespace, name)
