"""The server's Prometheus families: counters, gauges and histograms, most of them by program and revision.

`metrics.py` fills them and serves the page.
"""

from collections.abc import Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from dspy_server.contract import Label, Metric

DURATION_BUCKETS: Final = tuple(float(f"{0.005 * 24000 ** (k / 45):.4g}") for k in range(46))
SCORE_BUCKETS: Final = tuple(k / 20 for k in range(21))


class Families:
    """All families that are registered as they are; labels begin with program and revision."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._build_request_families()
        self._build_lm_families()
        self._build_program_families()

    def _build_request_families(self) -> None:
        self.http = self._counter(Metric.HTTP_REQUESTS, "Answered HTTP requests.", Label.ROUTE, Label.CODE)
        self.duration = self._histogram(
            Metric.REQUEST_DURATION,
            "Seconds from the request's body to its answer, successes.",
            DURATION_BUCKETS,
            Label.CACHE,
        )
        self.errors = self._counter(Metric.PROGRAM_ERRORS, "Failed requests by class.", Label.CLASS)
        self.rejected = self._counter(Metric.REJECTED, "Requests refused for load or size.", Label.REASON)
        self.inflight = Gauge(
            Metric.INFLIGHT, "Requests in progress.", [Label.PROGRAM, Label.REVISION], registry=self._registry
        )
        self.cache_requests = self._counter(
            Metric.CACHE_REQUESTS, "Answers sought in a cache.", Label.TIER, Label.RESULT
        )
        self.degraded = self._counter(Metric.DEGRADED, "Requests that no LM could answer.", Label.KIND)

    def _build_lm_families(self) -> None:
        self.lm_calls = self._counter(Metric.LM_REQUESTS, "Calls of an LM.", Label.MODEL, Label.STATUS)
        self.tokens = self._counter(Metric.TOKENS, "Tokens that providers reported.", Label.MODEL, Label.KIND)
        self.unpriced = self._counter(
            Metric.LM_UNPRICED, "Calls of an LM without a known price.", Label.MODEL
        )
        self.cost = self._counter(Metric.LM_COST, "List price of the tokens used, in USD.", Label.MODEL)
        self.lm_duration = self._histogram(
            Metric.LM_DURATION, "Seconds of one call of an LM.", DURATION_BUCKETS[::3], Label.MODEL
        )
        self.fallbacks = self._counter(
            Metric.FALLBACKS, "Calls that went on to the next target.", Label.FROM, Label.TO, Label.REASON
        )

    def _build_program_families(self) -> None:
        self.route_fallback = self._counter(
            Metric.ROUTE_FALLBACK, "Requests of an unloaded revision that stable answered."
        )
        self.route_errors = self._counter(
            Metric.ROUTE_ERRORS, "Tables and programs that could not be taken.", Label.REASON
        )
        self.parse_retries = self._counter(
            Metric.PARSE_RETRIES, "Second LM calls after an unreadable answer."
        )
        self.scoring_dropped = self._counter(
            Metric.SCORING_DROPPED, "Scores that do not count.", Label.REASON
        )
        self.scores = self._histogram(
            Metric.SCORE_DISTRIBUTION, "Scores, for dashboards.", SCORE_BUCKETS, Label.SOURCE
        )

    def _counter(self, name: Metric, text: str, *labels: Label) -> Counter:
        return Counter(name, text, [Label.PROGRAM, Label.REVISION, *labels], registry=self._registry)

    def _histogram(self, name: Metric, text: str, buckets: Sequence[float], *labels: Label) -> Histogram:
        names = [Label.PROGRAM, Label.REVISION, *labels]
        return Histogram(name, text, names, registry=self._registry, buckets=buckets)
