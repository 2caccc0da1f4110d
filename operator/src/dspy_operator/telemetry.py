"""The operator's own Prometheus metrics.

Written by `reconcile/reporting.py` and by the hooks of the clients; served by `__main__.py`.
"""

import math
from contextlib import AbstractContextManager
from threading import Lock
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    start_http_server,
)

from dspy_operator.api.names import OperatorMetric
from dspy_operator.rollout.judging import MetricVerdict

API_REQUESTS: Final = "dspy_operator_api_requests_total"
IDLE: Final = "Idle"
WHO: Final = ("namespace", "name")
OUTCOMES: Final = ("Promoted", "RolledBack", "Aborted", "Superseded")
DAYS: Final = tuple(60.0 * minutes for minutes in (1, 5, 15, 60, 120, 360, 720, 1440, 2880, 4320, 10080))
"""Bounds for a rollout's whole length, 1 min to a week."""

PASS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ROLLBACK: Final = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class Telemetry:
    """All families of one operator, in a registry of its own."""

    def __init__(self) -> None:
        """Make the families; counters with known labels begin at 0, so that `increase()` sees the first one."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._lock = Lock()
        self._phases: dict[tuple[str, str], str] = {}
        self._build_state()
        self._build_work()

    def _build_state(self) -> None:
        """What is so now, per resource."""
        to = self.registry
        self._info = Gauge(
            OperatorMetric.ROLLOUT_INFO, "1 for the current phase.", [*WHO, "phase"], registry=to
        )
        self._weight = Gauge(OperatorMetric.ROLLOUT_WEIGHT, "Percent to the canary.", WHO, registry=to)
        self._delta = Gauge(
            OperatorMetric.METRIC_DELTA, "Estimated drop against stable.", [*WHO, "metric"], registry=to
        )
        self._evidence = Gauge(OperatorMetric.EVIDENCE, "1.0 decides.", [*WHO, "metric", "kind"], registry=to)

    def _build_work(self) -> None:
        """What was done, over all resources."""
        to = self.registry
        self._rollouts = Counter(OperatorMetric.ROLLOUTS, "Ended rollouts.", ["outcome"], registry=to)
        self._durations = Histogram(
            OperatorMetric.ROLLOUT_DURATION, "From start to end.", ["outcome"], buckets=DAYS, registry=to
        )
        for outcome in OUTCOMES:
            self._rollouts.labels(outcome)
            self._durations.labels(outcome)
        self._rollbacks = Histogram(
            OperatorMetric.ROLLBACK_SECONDS, "From the verdict to the table in the last pod.",
            buckets=ROLLBACK, registry=to,
        )  # fmt: skip
        self._passes = Histogram(OperatorMetric.RECONCILE_SECONDS, "One pass.", buckets=PASS, registry=to)
        self._errors = Counter(OperatorMetric.RECONCILE_ERRORS, "Failed passes.", ["kind"], registry=to)
        self._queries = Counter(OperatorMetric.QUERIES, "Queries to Prometheus.", ["result"], registry=to)
        for result in ("ok", "failed"):
            self._queries.labels(result)
        self._requests = Counter(
            API_REQUESTS, "Requests to the API server.", ["verb", "resource", "code"], registry=to
        )

    def serve(self, port: int, address: str = "0.0.0.0") -> None:  # noqa: S104  Prometheus comes from outside
        """Serve `/metrics` in a thread of its own."""
        start_http_server(port, address, registry=self.registry)

    def time_pass(self) -> AbstractContextManager[object]:
        """Measures one pass over one resource."""
        return self._passes.time()

    def count_reconcile_error(self, kind: str) -> None:
        """A pass failed, for a kind of reason from `errors.py`."""
        self._errors.labels(kind).inc()

    def count_query(self, result: str) -> None:
        """Prometheus was asked: `ok` or `failed`."""
        self._queries.labels(result).inc()

    def count_request(self, verb: str, resource: str, code: str) -> None:
        """The API server was asked: verb and plural as RBAC names them, HTTP status, `timeout` or `error`."""
        self._requests.labels(verb, resource, code).inc()

    def count_rollout(self, outcome: str, seconds: float) -> None:
        """An attempt ended, so many seconds after it began."""
        self._rollouts.labels(outcome).inc()
        self._durations.labels(outcome).observe(max(0.0, seconds))

    def observe_rollback(self, seconds: float) -> None:
        """From a verdict until the table was in force in the last pod."""
        self._rollbacks.observe(max(0.0, seconds))

    def show_rollout(self, namespace: str, name: str, phase: str, weight: float) -> None:
        """Where a resource's rollout is; without one `Idle`, and no evidence."""
        with self._lock:
            before = self._phases.get((namespace, name))
            self._phases[namespace, name] = phase
        if before != phase:
            if before is not None:
                self._info.remove(namespace, name, before)
            self._info.labels(namespace, name, phase).set(1)
        self._weight.labels(namespace, name).set(weight)
        if phase == IDLE and before != IDLE:
            self._drop(namespace, name, self._delta, self._evidence)

    def show_metric(self, namespace: str, name: str, verdict: MetricVerdict) -> None:
        """What the last look said of one metric; NaN while there is no estimate."""
        place = (namespace, name, verdict.name)
        self._delta.labels(*place).set(math.nan if verdict.drop is None else verdict.drop)
        self._evidence.labels(*place, "rollback").set(verdict.evidence_rollback)
        self._evidence.labels(*place, "promote").set(verdict.evidence_promote)

    def forget(self, namespace: str, name: str) -> None:
        """The resource is gone, and with it its series."""
        with self._lock:
            self._phases.pop((namespace, name), None)
        self._drop(namespace, name, self._info, self._weight, self._delta, self._evidence)

    @staticmethod
    def _drop(namespace: str, name: str, *families: Gauge) -> None:
        for family in families:
            family.remove_by_labels({"namespace": namespace, "name": name})
