"""One DSPyDeployment under the real reconciler on a real API server; time, pods and Prometheus are the test's own.

A tick is ten seconds: the pods take the table, Prometheus is read, the reconciler passes until it is calm.
"""

import asyncio
import hashlib
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum, auto
from pathlib import Path
from typing import Any, Final

from dspy_operator.api import names
from dspy_operator.api.names import Metric
from dspy_operator.errors import LostAnswer, Transient
from dspy_operator.kube.client import Call, Client
from dspy_operator.kube.resources import (
    CONFIGMAPS,
    DEPLOYMENTS,
    DSPYDEPLOYMENTS,
    DSPYROLLOUTS,
    PODS,
    Resource,
)
from dspy_operator.manifests.routes import Table, parse_routes
from dspy_operator.metrics.readings import CounterKey, IdleReading, Interest, PodReading, Reading
from dspy_operator.reconcile.assembly import Ports, build_reconciler
from dspy_operator.reconcile.reconciler import Reconciler
from dspy_operator.reconcile.worklist import Key, Worklist
from dspy_operator.rollout.judging import MetricConfig, Reference
from dspy_operator.rollout.model import Unmeasured
from dspy_operator.settings import OperatorSettings
from dspy_operator.telemetry import Telemetry

TICK: Final = 10.0
RATE: Final = 10.0
"""Requests a second and pod; of the canary's scores each is 0.9, of stable's too."""
REPLICAS: Final = 2
CALM: Final = 0.3
"""Seconds without anything due after which the reconciler is done with what it knows."""
Object = dict[str, Any]
NAMESPACE_KIND: Final = Resource("", "v1", "namespaces", "Namespace")


class Fate(Enum):
    """What becomes of one write."""

    REFUSED = auto()
    LOST = auto()
    LANDED = auto()


class FaultyClient(Client):
    """The real client; the `broken`th patch of that kind of object from now on (0: none) has that fate.

    `meanwhile` happens once, while such a patch is on its way.
    """

    requests: Counter[str]
    writes: int = 0
    broken: int = 0
    of: Resource = DSPYROLLOUTS
    fate: Fate = Fate.REFUSED
    meanwhile: Callable[[], Awaitable[None]] | None = None

    async def _call(self, call: Call) -> Object | None:
        self.requests[f"{call.verb} {call.resource.plural}"] += 1
        if call.verb != "patch" or call.resource is not self.of:
            return await super()._call(call)
        self.writes += 1
        if self.meanwhile is not None:
            happen, self.meanwhile = self.meanwhile, None
            await happen()
        if self.writes != self.broken:
            return await super()._call(call)
        if self.fate is Fate.REFUSED:
            raise Transient(f"{call.what}: refused by the test")
        if self.fate is Fate.LANDED:
            await super()._call(call)
        raise LostAnswer(f"{call.what}: the test took the answer")


@dataclass
class Clock:
    """The API server's time, moved by the test."""

    time: float

    def learn(self, server_time: float) -> None:
        """What the real server says is not believed."""

    def now(self) -> float:
        return self.time

    def find_now(self) -> float:
        return self.time


class Leads:
    """The Lease is ours; the epoch rises when asked."""

    epoch = 1

    def is_valid(self) -> bool:
        return True

    async def raise_epoch(self) -> None:
        self.epoch += 1


class Silent:
    """Events go nowhere."""

    def record(self, obj: Object, type_: str, reason: str, note: str) -> None:
        """Say nothing."""


@dataclass
class Prometheus:
    """Every table that the pods have taken, with its time; counters follow from that, at any time of the past too."""

    clock: Clock
    tables: list[tuple[float, Table]] = field(default_factory=list)
    pods: tuple[str, ...] = ()

    def take(self, table: Table | None) -> None:
        """The pods see this table now."""
        known = self.tables[-1][1].generation if self.tables else 0
        if table is not None and table.generation > known:
            self.tables.append((self.clock.time, table))

    async def read(self, interests: list[Interest], *, at: float | None = None) -> Reading:
        t = self.clock.time if at is None else at
        current = [table for since, table in self.tables if since <= t]
        counted = self._count(t)
        counters = {
            key: value for revision, n in counted.items() for key, value in _list_counters(revision, n)
        }
        generation = current[-1].generation if current else None
        loaded = {route.revision: True for route in current[-1].routes} if current else {}
        pod = PodReading(generation, t, t, loaded, dict.fromkeys(loaded, "loaded"), counters)
        return Reading(t, {interest.key: dict.fromkeys(self.pods, pod) for interest in interests})

    async def read_reference(
        self,
        _key: Key,
        _revision: str,
        metrics: tuple[MetricConfig, ...],
        _sources: Mapping[str, str] | None = None,
    ) -> Mapping[str, Reference]:
        return {metric.name: Reference(mean=0.9, variance=0.09, source="metric") for metric in metrics}

    async def read_generations(self) -> IdleReading:
        return IdleReading(self.clock.time, {}, {}, frozenset())

    async def read_p95(self) -> Mapping[Key, Mapping[str, float]]:
        return {}

    def _count(self, t: float) -> dict[str, float]:
        """Requests of each revision until `t`."""
        counted: dict[str, float] = {}
        ends = [since for since, _ in self.tables[1:]] + [t]
        for (since, table), end in zip(self.tables, ends, strict=True):
            for route in table.routes:
                passed = max(0.0, min(end, t) - since)
                counted[route.revision] = (
                    counted.get(route.revision, 0.0) + RATE * passed * route.weight / 100
                )
        return counted


def _list_counters(revision: str, n: float) -> list[tuple[CounterKey, float]]:
    source = (("source", "metric"),)
    return [
        (CounterKey(Metric.HTTP_REQUESTS, revision, (("code", "200"), ("route", "/ask"))), n),
        (CounterKey(Metric.SCORE_SAMPLES, revision, source), n),
        (CounterKey(Metric.SCORE_SUM, revision, source), n * 0.9),
        (CounterKey(Metric.SCORE_SUMSQ, revision, source), n * 0.81),
    ]


class StillSampler:
    """Reads when the test says so; `is_past_away`: the next try to read Prometheus' past fails."""

    def __init__(self, prometheus: Prometheus) -> None:
        self._prometheus = prometheus
        self.clock = prometheus.clock
        self.latest: Reading | None = None
        self.is_past_away = False

    def want(self, interest: Interest, period: float) -> None:
        """The test knows when."""

    def drop(self, key: Key) -> None:
        self.latest = None

    def get_latest(self, _key: Key) -> Reading | None:
        return self.latest

    async def read_past(self, interest: Interest, at: float) -> Reading | Unmeasured:
        if self.is_past_away:
            self.is_past_away = False
            return Unmeasured("PrometheusUnreachable", "Prometheus: no answer within 5 s")
        return await self._prometheus.read([interest], at=at)


@dataclass
class Attempt:
    """The resource, its reconciler with a client of its own, and what the test moves."""

    client: FaultyClient
    user: Client
    reconciler: Reconciler
    worklist: Worklist
    sampler: StillSampler
    prometheus: Prometheus
    clock: Clock
    key: Key

    async def tick(self, times: int = 1) -> None:
        """Ten seconds, then a look."""
        for _ in range(times):
            await self.read_after(TICK)
            self.worklist.add(self.key)
            await self.settle()

    async def read_after(self, seconds: float) -> None:
        """Time passes, the pods take the table, Prometheus is read."""
        self.clock.time += seconds
        self.prometheus.take(await self._find_table())
        self.sampler.latest = await self.prometheus.read([Interest(self.key)])

    async def tick_until_effective(self, step: int) -> float:
        """Until that step's weight is in effect; since when."""
        for _ in range(12):
            record = await self.get_record()
            if record.get("step") == step and record.get("weightEffectiveAt"):
                return datetime.fromisoformat(record["weightEffectiveAt"]).timestamp()
            await self.tick()
        raise AssertionError(f"step {step} is not in effect: {record}")

    async def settle(self) -> None:
        """Wait until nothing is due any more."""
        while self.worklist.find_next() < CALM:  # noqa: ASYNC110  no event says that nothing will come
            await asyncio.sleep(0.005)

    async def release(self, version: int) -> None:
        """A new artifact."""
        artifact = await self._create_artifact(version)
        await self.user.merge(DSPYDEPLOYMENTS, *self.key, {"spec": {"program": {"artifact": artifact}}})
        self.reconciler.note(self.key)
        await self.settle()

    async def promote(self) -> None:
        """As `kubectl dspy promote` does it."""
        nonce = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(self.clock.time))}Z"
        await self.user.annotate(DSPYDEPLOYMENTS, *self.key, {names.Command.PROMOTE.annotation: nonce})
        self.reconciler.note(self.key)
        await self.settle()

    def restart(self) -> None:
        """A new process knows nothing."""
        self.reconciler._memories.clear()
        self.sampler.latest = None
        self.reconciler.note(self.key)

    async def get_record(self) -> Object:
        """The status of the attempt, empty before it is there."""
        rollouts = await self.user.list_(DSPYROLLOUTS, self.key[0])
        record: Object = rollouts[0].get("status", {}) if rollouts else {}
        return record

    async def _find_table(self) -> Table | None:
        return parse_routes(await self.user.find(CONFIGMAPS, self.key[0], names.routes_name(self.key[1])))

    async def _create_artifact(self, version: int) -> Object:
        text = f'{{"version":{version}}}'
        name = f"artifact-{version}"
        metadata = {"name": name, "namespace": self.key[0]}
        await self.user.create(CONFIGMAPS, {"metadata": metadata, "data": {names.PROGRAM_KEY: text}})
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        return {"sha256": sha256, "configMap": {"name": name, "key": names.PROGRAM_KEY}}

    async def create(self) -> None:
        """The resource with its first artifact, and its pods."""
        namespace, name = self.key
        await self.user.create(NAMESPACE_KIND, {"metadata": {"name": namespace, "namespace": None}})
        metadata = {"name": "code", "namespace": namespace}
        await self.user.create(
            CONFIGMAPS, {"metadata": metadata, "data": {"triage.py": "class Triage: ...\n"}}
        )
        spec = build_spec(await self._create_artifact(1))
        await self.user.create(
            DSPYDEPLOYMENTS, {"metadata": {"name": name, "namespace": namespace}, "spec": spec}
        )
        self.reconciler.note(self.key)
        await self.settle()
        (deployment,) = await self.user.list_(DEPLOYMENTS, namespace)
        for number in range(REPLICAS):
            await self._create_pod(f"{name}-{number}", deployment["spec"]["template"])
        self.prometheus.pods = tuple(f"{name}-{number}" for number in range(REPLICAS))
        self.reconciler.note(self.key)
        await self.tick(2)

    async def _create_pod(self, name: str, template: Object) -> None:
        labels = {"labels": template["metadata"]["labels"]}
        metadata = {"name": name, "namespace": self.key[0], **labels}
        pod = await self.user.create(PODS, {"metadata": metadata, "spec": template["spec"]})
        meta = pod["metadata"]
        await self.user.patch_status(
            PODS,
            self.key[0],
            name,
            {"conditions": [{"type": "Ready", "status": "True"}]},
            uid=meta["uid"],
            resource_version=meta["resourceVersion"],
        )


def build_spec(artifact: Object) -> Object:
    """10 %, 50 %, 100 %, each for days: a person promotes."""
    steps = [{"weight": weight, "minDuration": "240h", "deadline": "480h"} for weight in (10, 50)]
    metrics = [{"name": "score", "type": "Score", "maxDrop": "5%"}]
    analysis = {"interval": "10s", "metrics": metrics}
    return {
        "replicas": REPLICAS,
        "image": "registry.example/triage:1",
        "program": {
            "module": "triage:Triage",
            "source": {"configMap": {"name": "code"}},
            "artifact": artifact,
        },
        "lm": {"primary": {"model": "openai/gpt-4o-mini"}},
        "scoring": {"function": "triage:score"},
        "strategy": {"canary": {"steps": [*steps, {"weight": 100}], "analysis": analysis}},
    }


@asynccontextmanager
async def open_attempt(kubeconfig: Path) -> AsyncIterator[Attempt]:
    """A resource of its own, whose stable revision serves."""
    user = await Client.from_environment(kubeconfig=str(kubeconfig))
    client = await FaultyClient.from_environment(kubeconfig=str(kubeconfig))
    client.requests = Counter()
    await user.list_(DSPYDEPLOYMENTS, None)
    clock = Clock(user.server_time)
    prometheus = Prometheus(clock)
    sampler, leads = StillSampler(prometheus), Leads()
    ports: Any = Ports(client, prometheus, leads, Silent(), Telemetry())  # type: ignore[arg-type]  # a fake
    reconciler = build_reconciler(ports, OperatorSettings(), monotonic=time.monotonic, jitter=lambda: 0.0)
    worklist = reconciler._parts.worklist
    changed: Any = {"sampler": sampler, "clock": clock}
    reconciler._parts = replace(reconciler._parts, **changed)
    key = (f"attempt-{uuid.uuid4().hex[:8]}", "triage")
    working = asyncio.create_task(reconciler.work())
    attempt = Attempt(client, user, reconciler, worklist, sampler, prometheus, clock, key)
    try:
        await attempt.create()
        yield attempt
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        await client.close()
        await user.close()
