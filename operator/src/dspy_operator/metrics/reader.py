"""Asks Prometheus: one state query and, where counters are needed, two or three of the same instant, for all rollouts.

Called by `reconcile/observe.py`. Blocking I/O runs in four threads of its own, so that a hung server blocks no other.
"""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from prometheus_api_client import PrometheusApiClientException, PrometheusConnect
from urllib3.util.retry import Retry

from dspy_operator.api.names import Label, Metric
from dspy_operator.api.reasons import Reason
from dspy_operator.metrics.queries import IDLE_QUERY, P95_QUERY, buckets_query, counters_query, state_query
from dspy_operator.metrics.readings import IdleReading, Interest, PodReading, ProgramKey, Reading
from dspy_operator.metrics.reference import History, build_references, list_histories
from dspy_operator.metrics.series import Row, build_pods, list_rows, split_clock
from dspy_operator.metrics.session import BoundedSession, QueryFailed
from dspy_operator.metrics.traffic import Traffic, build_traffic, list_traffic_queries
from dspy_operator.rollout.judging import MetricConfig, Reference
from dspy_operator.rollout.model import Unmeasured

THREADS: Final = 4
REMEMBERED: Final = 4096
SERVER_SHARE: Final = 0.8
"""Part of the deadline after which Prometheus itself should give a query up."""


class PrometheusReader:
    """Reads pods' metrics. Whatever goes wrong is a value: nothing here raises."""

    def __init__(
        self,
        url: str,
        *,
        deadline: float = 5.0,
        token_file: Path | None = None,
        on_query: Callable[[str], None] | None = None,
    ) -> None:
        """Make a reader; nothing is sent yet.

        Args:
            url: of Prometheus, or of anything that speaks its query API.
            deadline: seconds for one reading, all its queries included.
            token_file: a bearer token.
            on_query: told `ok` or `failed` of each query.
        """
        self._prometheus, self._history = (
            PrometheusConnect(
                url.rstrip("/"),
                retry=Retry(0, read=False),
                session=BoundedSession(deadline=deadline, token_file=token_file, allow_infos=allow_infos),
                method="POST",
            )
            for allow_infos in (False, True)
        )
        self._deadline = deadline
        self._on_query = on_query
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="prometheus")
        self._replicas: dict[ProgramKey, Mapping[str, str]] = {}

    def close(self) -> None:
        """Close connections and threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._prometheus.close()
        self._history.close()

    async def read(self, interests: Sequence[Interest], *, at: float | None = None) -> Reading | Unmeasured:
        """One reading for all open attempts.

        Args:
            interests: what each of them needs.
            at: an instant of the past (Unix seconds), to find the bases of the last look after a restart.
        """
        if not interests:
            return Unmeasured(Reason.EVIDENCE_MISSING, "no program was asked for")
        try:
            async with asyncio.timeout(self._deadline):
                t, rows = await self._query_all(interests, at)
        except (QueryFailed, TimeoutError) as error:
            return self._outage(error)
        return self._build_reading(t, rows, {interest.key for interest in interests})

    async def read_reference(
        self,
        key: ProgramKey,
        revision: str,
        metrics: Sequence[MetricConfig],
        sources: Mapping[str, str] | None = None,
    ) -> Mapping[str, Reference] | Unmeasured:
        """What the last 24 h of stable say of each metric; one without enough history is absent.

        Args:
            key: whose.
            revision: stable.
            metrics: to be judged.
            sources: per metric the score's source (`Auto` if absent), or the counter of a Ratio.
        """
        wanted = list_histories(metrics, sources or {})
        try:
            async with asyncio.timeout(self._deadline):
                answers = await asyncio.gather(
                    *(self._query(one.query(key, revision), computes=True) for one in wanted)
                )
        except (QueryFailed, TimeoutError) as error:
            return self._outage(error)
        histories: dict[History, Sequence[Row]] = dict(zip(wanted, answers, strict=True))
        return build_references(metrics, sources or {}, histories)

    async def read_generations(self) -> IdleReading | Unmeasured:
        """Which pods Prometheus sees, of all programs, by one query."""
        try:
            async with asyncio.timeout(self._deadline):
                t, rows = split_clock(await self._query(IDLE_QUERY))
        except (QueryFailed, TimeoutError) as error:
            return self._outage(error)
        return _build_idle(t, rows)

    async def read_p95(self) -> Mapping[ProgramKey, Mapping[str, float]]:
        """Per program and revision the p95 (seconds) of the last five minutes, by one query; empty if unknown."""
        try:
            async with asyncio.timeout(self._deadline):
                rows = await self._query(P95_QUERY, computes=True)
        except (QueryFailed, TimeoutError):
            return {}
        found: dict[ProgramKey, dict[str, float]] = {}
        for row in rows:
            if math.isfinite(row.value):
                found.setdefault(row.key, {})[row.revision] = row.value
        return found

    async def read_traffic(self, key: ProgramKey) -> Traffic | Unmeasured:
        """What a program was asked in a day, all revisions together; for forecasts."""
        try:
            async with asyncio.timeout(self._deadline):
                answers = await asyncio.gather(*(self._query(one) for one in list_traffic_queries(key)))
        except (QueryFailed, TimeoutError) as error:
            return self._outage(error)
        return build_traffic(answers)

    async def _query_all(self, interests: Sequence[Interest], at: float | None) -> tuple[float, list[Row]]:
        namespaces, programs = _places(interests)
        t, rows = split_clock(await self._query(state_query(namespaces, programs), at))
        counting = [interest for interest in interests if not interest.gauges_only]
        frozen = [interest for interest in counting if interest.les]
        open_ = [interest for interest in counting if not interest.les]
        parts = await asyncio.gather(
            self._query_counters(counting, t), self._query_buckets(frozen, t), self._query_buckets(open_, t)
        )
        return t, [*rows, *(row for part in parts for row in part)]

    async def _query_counters(self, interests: Sequence[Interest], t: float) -> list[Row]:
        if not interests:
            return []
        namespaces, programs = _places(interests)
        series = {name for interest in interests for name in interest.series}
        return await self._query(counters_query(namespaces, programs, series), t)

    async def _query_buckets(self, interests: Sequence[Interest], t: float) -> list[Row]:
        """The histograms of these programs: those with frozen limits need few bounds, the others all of them."""
        if not interests:
            return []
        namespaces, programs = _places(interests)
        les = {le for interest in interests for le in interest.les}
        rows = await self._query(buckets_query(namespaces, programs, les), t)
        keys = {interest.key for interest in interests}
        return [row for row in rows if row.key in keys]

    async def _query(self, query: str, at: float | None = None, *, computes: bool = False) -> list[Row]:
        """The rows of one instant query; only one that `computes` may come with Prometheus' advice on it."""
        prometheus = self._history if computes else self._prometheus
        params = {"timeout": f"{self._deadline * SERVER_SHARE:g}"}
        if at is not None:
            params["time"] = f"{at:.3f}"
        outcome = "failed"
        try:
            result: Any = await asyncio.get_running_loop().run_in_executor(
                self._threads, prometheus.custom_query, query, params
            )
            rows = list_rows(result)
            outcome = "ok"
        except (PrometheusApiClientException, KeyError, TypeError, RuntimeError) as error:
            raise QueryFailed(f"no usable answer ({type(error).__name__})") from error
        finally:
            if self._on_query is not None:
                self._on_query(outcome)
        return rows

    def _build_reading(self, t: float, rows: Sequence[Row], keys: set[ProgramKey]) -> Reading:
        mine: dict[ProgramKey, list[Row]] = {key: [] for key in keys}
        for row in rows:
            if row.key in mine:
                mine[row.key].append(row)
        programs: dict[ProgramKey, Mapping[str, PodReading]] = {}
        unmeasured: dict[ProgramKey, Unmeasured] = {}
        for key, its in mine.items():
            pods = build_pods(its, self._replicas.get(key, {}))
            if isinstance(pods, Unmeasured):
                unmeasured[key] = pods
            else:
                programs[key] = pods
                self._remember(key, pods)
        return Reading(t, programs, unmeasured)

    def _remember(self, key: ProgramKey, pods: Mapping[str, PodReading]) -> None:
        """Keep to one scraper per pod while the pod lives; what was read longest ago is forgotten first."""
        self._replicas.pop(key, None)
        self._replicas[key] = {pod: seen.replica for pod, seen in pods.items()}
        while len(self._replicas) > REMEMBERED:
            self._replicas.pop(next(iter(self._replicas)))

    def _outage(self, error: Exception) -> Unmeasured:
        text = f"no answer within {self._deadline:g} s" if isinstance(error, TimeoutError) else str(error)
        return Unmeasured(Reason.PROMETHEUS_UNREACHABLE, f"Prometheus: {text}")


def _places(interests: Sequence[Interest]) -> tuple[list[str], list[str]]:
    """The namespaces and the programs; what their product has too much is ignored."""
    return [interest.key[0] for interest in interests], [interest.key[1] for interest in interests]


def _build_idle(t: float, rows: Sequence[Row]) -> IdleReading:
    generations: dict[ProgramKey, dict[str, int]] = {}
    scores: dict[ProgramKey, dict[tuple[str, str], float]] = {}
    unlabelled: set[str] = set()
    for row in rows:
        namespace, program = row.key
        if not namespace or not row.pod:
            unlabelled.add(program)
        elif not math.isfinite(row.value):
            continue
        elif row.name == Metric.ROUTES_GENERATION:
            generations.setdefault(row.key, {})[row.pod] = int(row.value)
        elif row.revision:
            place = (row.revision, row.labels.get(Label.SOURCE, ""))
            counted = scores.setdefault(row.key, {})
            counted[place] = counted.get(place, 0.0) + row.value
    return IdleReading(t, generations, scores, frozenset(unlabelled))
