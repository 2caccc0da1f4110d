"""What Prometheus reads: every family and label of `contract.py` that this version feeds.

Counters of a revision exist, at 0, from the moment it is loaded: a judge must see a zero, not a gap.
"""

import itertools
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from dspy_server import contract
from dspy_server.contract import (
    CacheLabel,
    CacheResult,
    CacheTier,
    Degradation,
    Drop,
    ErrorClass,
    Label,
    Metric,
    ProgramState,
    ScoreSource,
    TokenKind,
)
from dspy_server.families import Families

disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus-client left it untyped

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text"
OPENMETRICS_CONTENT_TYPE: Final = f"{OPENMETRICS}; version=1.0.0; charset=utf-8"
"""0.005 s … 120 s, each 25 % above the last: what the judge of p95 can tell apart."""
SERVED_CODES: Final = ("200", "500", "502", "503", "504")
"""Codes of inference requests that enter the error rate, created at 0."""
INFERENCE_PATHS: Final = (contract.PATH_ASK, contract.PATH_STREAM, contract.PATH_V2_INFER)
"""Routes that ask a program."""

REVISION: Final[ContextVar[str]] = ContextVar("dspy_server_revision", default="")
"""The revision that answers this request; empty for a request that is not judged."""

_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,127}")
_RESERVED: Final = "dspy_"
_TOTAL: Final = "_total"


@dataclass(frozen=True)
class Moments:
    """How many scores, their sum, and the sum of their squares: always replaced as a whole."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0


@dataclass(frozen=True)
class RoutesView:
    """What the routing table and its programs are now, as `snapshot.py` sees them.

    Attributes:
        applied_at: Unix seconds when the table in force came into force.
        weights: revision, track, percent of each route of this workload.
        states: of each known revision.
        artifacts: sha256 and DSPy version of each loaded revision.
    """

    generation: int = 0
    applied_at: float = 0.0
    weights: tuple[tuple[str, str, int], ...] = ()
    states: Mapping[str, ProgramState] = field(default_factory=dict)
    artifacts: Mapping[str, tuple[str, str]] = field(default_factory=dict)


class UserCounter:
    """A counter of the user's own program (metric type `Ratio`); `program` and `revision` are added.

    Get one with `dspy_server.counter("triage_refusals_total")`, then call `inc()` inside `forward`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._values: dict[str, float] = {}
        self._lock = threading.Lock()

    def inc(self, amount: float = 1.0) -> None:
        """Add `amount` (not negative) for the revision that answers this request."""
        if not amount >= 0:
            raise ValueError("a counter only rises")
        revision = REVISION.get()
        with self._lock:
            self._values[revision] = self._values.get(revision, 0.0) + amount

    def get_values(self) -> dict[str, float]:
        """The count by revision."""
        with self._lock:
            return dict(self._values)

    def forget(self, revision: str) -> None:
        """Drop a retired revision."""
        with self._lock:
            self._values.pop(revision, None)


_USER_COUNTERS: Final[dict[str, UserCounter]] = {}


def counter(name: str) -> UserCounter:
    """The counter of that name, made at its first mention; the same object ever after.

    Raises:
        ValueError: the name is no Prometheus name, does not end in `_total`, or begins with `dspy_`.
    """
    if not _NAME.fullmatch(name) or not name.endswith(_TOTAL) or name.startswith(_RESERVED):
        raise ValueError(
            f"{name!r}: a counter's name is letters, digits and _, ends in _total, and is not dspy_…"
        )
    return _USER_COUNTERS.setdefault(name, UserCounter(name))


class Metrics(Families):
    """All families of one server, in a registry of its own.

    `timed` are the labels whose durations are there, at 0, from the start.
    """

    def __init__(
        self,
        program: str,
        models: Sequence[str] = (),
        *,
        dspy_version: str = "",
        timed: Sequence[CacheLabel] = (CacheLabel.MISS,),
    ) -> None:
        super().__init__(CollectorRegistry(auto_describe=False))
        self.program = program
        self._timed = tuple(timed)
        self._models = tuple(models)
        self._dspy_version = dspy_version
        self._lock = threading.Lock()
        self._moments: dict[tuple[str, ScoreSource], Moments] = {}
        self._revisions: set[str] = set()
        self._view: Callable[[], RoutesView] = RoutesView
        self._breakers: Callable[[], Mapping[str, int]] = dict
        self._registry.register(_StateCollector(self))

    def _list_families(self) -> Iterator[Counter | Gauge | Histogram]:
        yield from (
            self.http, self.duration, self.errors, self.lm_calls, self.tokens, self.unpriced, self.cost,
            self.lm_duration, self.fallbacks, self.rejected, self.inflight, self.route_fallback, self.route_errors,
            self.parse_retries, self.scoring_dropped, self.degraded, self.scores, self.cache_requests,
        )  # fmt: skip

    def bind(self, view: Callable[[], RoutesView]) -> None:
        """Read what is true now from `view` at each scrape."""
        self._view = view

    def add_revision(self, revision: str, sources: Iterable[ScoreSource]) -> None:
        """Create the children of a revision, at 0."""
        key = (self.program, revision)
        for path, code in itertools.product(INFERENCE_PATHS, SERVED_CODES):
            self.http.labels(*key, path, code)
        for label in self._timed:
            self.duration.labels(*key, label)
        for model in self._models:
            self.lm_calls.labels(*key, model, OK)
            self.unpriced.labels(*key, model)
            self.cost.labels(*key, model)
            self.lm_duration.labels(*key, model)
            for token_kind in TokenKind:
                self.tokens.labels(*key, model, token_kind)
        for single in (self.inflight, self.route_fallback, self.parse_retries):
            single.labels(*key)
        kinds = {self.errors: ErrorClass, self.scoring_dropped: Drop, self.degraded: Degradation}
        for family, values in kinds.items():
            for value in values:
                family.labels(*key, value)
        for tier, result in itertools.product(CacheTier, CacheResult):
            self.cache_requests.labels(*key, tier, result)
        with self._lock:
            self._revisions.add(revision)
            for source in sources:
                self._moments.setdefault((revision, source), Moments())

    def remove_revision(self, revision: str) -> None:
        """Forget a revision that retired long ago."""
        for family in self._list_families():
            family.remove_by_labels({Label.PROGRAM: self.program, Label.REVISION: revision})
        for user_counter in _USER_COUNTERS.values():
            user_counter.forget(revision)
        with self._lock:
            self._revisions.discard(revision)
            self._moments = {key: value for key, value in self._moments.items() if key[0] != revision}

    def bind_breakers(self, view: Callable[[], Mapping[str, int]]) -> None:
        """Read the state of each model's breaker from `view` at each scrape."""
        self._breakers = view

    def bind_disk_cache(self, get_bytes: Callable[[], float]) -> None:
        """Read at each scrape how much the disk tier of the LM cache takes."""
        text = "Bytes of the LM cache on disk."
        gauge = Gauge(Metric.CACHE_DISK_BYTES, text, [Label.PROGRAM], registry=self._registry)
        gauge.labels(self.program).set_function(get_bytes)

    def get_breakers(self) -> Mapping[str, int]:
        """The state of each model's breaker now."""
        return self._breakers()

    def observe_answer(
        self, revision: str, cache: CacheLabel, seconds: float, trace_id: str | None = None
    ) -> None:
        """Count one answer's seconds, with its trace as their example."""
        exemplar = None if trace_id is None else {"trace_id": trace_id}
        self.duration.labels(self.program, revision, cache).observe(seconds, exemplar)

    def add_score(self, revision: str, source: ScoreSource, score: float) -> None:
        """Count one score in [0, 1]."""
        key = (revision, source)
        with self._lock:
            old = self._moments.get(key, Moments())
            self._moments[key] = Moments(old.count + 1, old.total + score, old.squares + score * score)
        self.scores.labels(self.program, revision, source).observe(score)

    def get_moments(self) -> dict[tuple[str, ScoreSource], Moments]:
        """The moments by revision and source, all of one instant."""
        with self._lock:
            return dict(self._moments)

    def list_revisions(self) -> list[str]:
        """Revisions that have children."""
        with self._lock:
            return sorted(self._revisions)

    def get_view(self) -> RoutesView:
        """What the routing table is now."""
        return self._view()

    def get_dspy_version(self) -> str:
        """The running DSPy."""
        return self._dspy_version

    def render(self) -> bytes:
        """All families in Prometheus' text format."""
        return generate_latest(self._registry)

    def render_openmetrics(self) -> bytes:
        """All families as OpenMetrics: the same, and the exemplars."""
        return openmetrics.generate_latest(self._registry)  # type: ignore[no-untyped-call,no-any-return]


OK: Final = "ok"
"""`status` of an LM call that answered; else the error's class."""
CANCELLED: Final = "cancelled"
"""`status` of an LM call whose answer nobody waited for."""


class _StateCollector(Collector):
    """Families that are read at the scrape and not counted: moments, the table, programs, the user's counters."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        yield from self._collect_moments()
        yield from self._collect_user_counters()
        yield from self._collect_table(self._metrics.get_view())
        yield from self._collect_programs(self._metrics.get_view())
        yield self._collect_breakers()

    def _collect_moments(self) -> Iterator[CounterMetricFamily]:
        labels = [Label.PROGRAM, Label.REVISION, Label.SOURCE]
        samples = CounterMetricFamily(Metric.SCORE_SAMPLES, "Scores.", labels=labels)
        total = CounterMetricFamily(Metric.SCORE_SUM, "Sum of the scores.", labels=labels)
        squares = CounterMetricFamily(Metric.SCORE_SUMSQ, "Sum of the squares of the scores.", labels=labels)
        for (revision, source), moments in self._metrics.get_moments().items():
            key = [self._metrics.program, revision, source]
            samples.add_metric(key, moments.count)
            total.add_metric(key, moments.total)
            squares.add_metric(key, moments.squares)
        yield from (samples, total, squares)

    def _collect_user_counters(self) -> Iterator[CounterMetricFamily]:
        zeros = dict.fromkeys(self._metrics.list_revisions(), 0.0)
        for user_counter in list(_USER_COUNTERS.values()):
            family = CounterMetricFamily(
                user_counter.name, "Counted by the program itself.", labels=[Label.PROGRAM, Label.REVISION]
            )
            for revision, value in {**zeros, **user_counter.get_values()}.items():
                family.add_metric([self._metrics.program, revision], value)
            yield family

    def _collect_breakers(self) -> GaugeMetricFamily:
        text = "Breaker of a model: 0 closed, 1 half-open, 2 open."
        family = GaugeMetricFamily(Metric.BREAKER_STATE, text, labels=[Label.PROGRAM, Label.MODEL])
        for model, state in self._metrics.get_breakers().items():
            family.add_metric([self._metrics.program, model], state)
        return family

    def _collect_table(self, view: RoutesView) -> Iterator[GaugeMetricFamily]:
        program = self._metrics.program
        generation = GaugeMetricFamily(
            Metric.ROUTES_GENERATION, "Generation of the table in force.", labels=[Label.PROGRAM]
        )
        generation.add_metric([program], view.generation)
        applied = GaugeMetricFamily(Metric.ROUTES_APPLIED, "When it came into force.", labels=[Label.PROGRAM])
        applied.add_metric([program], view.applied_at)
        weight = GaugeMetricFamily(
            Metric.ROUTE_WEIGHT, "Percent of a route.", labels=[Label.PROGRAM, Label.REVISION, Label.TRACK]
        )
        for revision, track, percent in view.weights:
            weight.add_metric([program, revision, track], percent)
        yield from (generation, applied, weight)

    def _collect_programs(self, view: RoutesView) -> Iterator[GaugeMetricFamily]:
        program, version = self._metrics.program, self._metrics.get_dspy_version()
        key = [Label.PROGRAM, Label.REVISION]
        loaded = GaugeMetricFamily(Metric.PROGRAM_LOADED, "Whether a program can answer.", labels=key)
        state = GaugeMetricFamily(Metric.PROGRAM_STATE, "What a program is now.", labels=[*key, Label.STATE])
        for revision, now in view.states.items():
            loaded.add_metric([program, revision], float(now is ProgramState.LOADED))
            for value in ProgramState:
                state.add_metric([program, revision, value], float(now is value))
        artifact = GaugeMetricFamily(
            Metric.ARTIFACT_INFO, "A loaded artifact.", labels=[*key, Label.SHA256, Label.DSPY_VERSION]
        )
        for revision, (sha256, written_by) in view.artifacts.items():
            artifact.add_metric([program, revision, sha256, written_by], 1)
        build = GaugeMetricFamily(
            Metric.BUILD_INFO, "This server.", labels=[Label.PROGRAM, Label.DSPY_VERSION]
        )
        build.add_metric([program, version], 1)
        yield from (loaded, state, artifact, build)
