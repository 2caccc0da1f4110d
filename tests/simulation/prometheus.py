"""Prometheus as the operator's reader gives it: samples of every pod at its last scrape, outages as values.

Called by the reconciler and its sampler under test, in the place of `metrics.reader.PrometheusReader`.
"""

import asyncio
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence

from tests.simulation.plan import FaultKind
from tests.simulation.pods import Kubelet, Pod
from tests.simulation.weather import Weather

from dspy_operator.api.names import ScoreSource
from dspy_operator.api.reasons import Reason
from dspy_operator.metrics.readings import IdleReading, Interest, PodReading, ProgramKey, Reading
from dspy_operator.rollout.judging import MetricConfig, Reference
from dspy_operator.rollout.model import Unmeasured

SCRAPE = 2.0
"""Seconds between scrapes."""
LOST_AFTER = 300.0
"""Seconds for which Prometheus shows the last sample of a pod that it cannot scrape."""
DEADLINE = 5.0
REFERENCE = Reference(mean=0.8, variance=0.16, source=ScoreSource.METRIC.value)


class SimPrometheus:
    """Scrapes while the loop runs."""

    def __init__(self, weather: Weather, kubelet: Kubelet, namespace: str) -> None:
        self._weather = weather
        self._kubelet = kubelet
        self._namespace = namespace
        self._scrape()

    def _scrape(self) -> None:
        weather = self._weather
        pods = sorted(self._kubelet.pods.items())
        missed = weather.rng.choice(pods)[0] if pods and weather.is_on(FaultKind.UNSCRAPED) else None
        for place, pod in pods:
            if place != missed:
                pod.samples.append((weather.time, self._kubelet.read(pod, weather.time)))
        weather.later(SCRAPE, self._scrape)

    async def read(self, interests: Sequence[Interest], *, at: float | None = None) -> Reading | Unmeasured:
        """One reading for all these programs."""
        outage = await self._fail()
        if outage is not None:
            return outage
        t = self._weather.time if at is None else at
        programs: dict[ProgramKey, Mapping[str, PodReading]] = {}
        unmeasured: dict[ProgramKey, Unmeasured] = {}
        for interest in interests:
            key = interest.key
            if self._weather.is_on(FaultKind.NONSENSE) and self._weather.rng.random() < 0.5:
                unmeasured[key] = Unmeasured(Reason.EVIDENCE_MISSING, "dspy_score_sum_total is nan")
            else:
                programs[key] = dict(self._list_readings(key[1], t, gauges_only=interest.gauges_only))
        return Reading(t, programs, unmeasured)

    def _list_readings(
        self, program: str, t: float, *, gauges_only: bool
    ) -> Iterator[tuple[str, PodReading]]:
        pods: list[Pod] = [*self._kubelet.pods.values(), *self._kubelet.past]
        for pod in pods:
            if pod.owner != program or pod.ended <= t or not pod.samples:
                continue
            index = bisect_right(pod.samples, t, key=lambda sample: sample[0]) - 1
            if index >= 0 and t - pod.samples[index][0] < LOST_AFTER:
                yield pod.name, pod.samples[index][1]

    async def read_reference(
        self,
        key: ProgramKey,
        revision: str,
        metrics: Sequence[MetricConfig],
        sources: Mapping[str, str] | None = None,
    ) -> Mapping[str, Reference] | Unmeasured:
        """Stable's last 24 hours."""
        assert key[0] == self._namespace, (revision, sources)
        return await self._fail() or {metric.name: REFERENCE for metric in metrics}

    async def read_generations(self) -> IdleReading | Unmeasured:
        """Which pods are scraped."""
        outage = await self._fail()
        if outage is not None:
            return outage
        generations: dict[ProgramKey, dict[str, int]] = {}
        for pod in self._kubelet.pods.values():
            if pod.samples:
                generations.setdefault((self._namespace, pod.owner), {})[pod.name] = (
                    pod.samples[-1][1].generation or 0
                )
        return IdleReading(self._weather.time, generations, {}, frozenset())

    async def read_p95(self) -> Mapping[ProgramKey, Mapping[str, float]]:
        """Nobody measures latency here."""
        return {}

    async def _fail(self) -> Unmeasured | None:
        if not self._weather.is_on(FaultKind.BLIND):
            return None
        await asyncio.sleep(DEADLINE)
        return Unmeasured(Reason.PROMETHEUS_UNREACHABLE, f"Prometheus: no answer within {DEADLINE:g} s")
