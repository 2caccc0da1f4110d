"""The resources of the benchmark: N DSPyDeployments with stable, then a canary that stays at 10 %."""

import asyncio
import hashlib
import json
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Final

from bench.operator.plane import LEASE_NAMESPACE

from dspy_operator.api import names
from dspy_operator.api.crd import build_crds
from dspy_operator.errors import Conflict, OperatorError
from dspy_operator.kube.client import Client
from dspy_operator.kube.resources import CONFIGMAPS, DSPYDEPLOYMENTS, DSPYROLLOUTS, Resource

Object = dict[str, Any]
NAMESPACES: Final = 5
WRITERS: Final = 8
PROGRAM_BYTES: Final = 20_000
CODE: Final = "class Program: ...\n"
NAMESPACE: Final = Resource("", "v1", "namespaces", "Namespace")
CRD: Final = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition")


@dataclass(frozen=True)
class Fleet:
    """N resources in a few namespaces."""

    client: Client
    size: int

    def list_keys(self) -> list[tuple[str, str]]:
        """(namespace, name) of each."""
        return [(f"team-{number % NAMESPACES}", f"bench-{number:03d}") for number in range(self.size)]

    async def prepare(self) -> None:
        """CRDs, namespaces, code."""
        for crd in build_crds().values():
            await self._create_global(CRD, crd)
        for namespace in [LEASE_NAMESPACE, *(f"team-{number}" for number in range(NAMESPACES))]:
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
            await self._create_global(NAMESPACE, body)
        await wait_until(self._is_served, "the custom resources are served", 60)
        for number in range(NAMESPACES):
            await self._create_config_map(f"team-{number}", "code", {"bench.py": CODE})

    async def create_stable(self) -> None:
        """One resource after the other, with its first artifact."""
        await _all(self._create_one(namespace, name) for namespace, name in self.list_keys())

    async def open_canaries(self) -> None:
        """A second artifact for each."""
        await _all(self._open_one(namespace, name) for namespace, name in self.list_keys())

    async def count_stable(self) -> int:
        """How many serve their first artifact."""
        found = await self.client.list_(DSPYDEPLOYMENTS, None)
        return sum((obj.get("status") or {}).get("phase") == "Healthy" for obj in found)

    async def count_canaries(self) -> int:
        """How many have their canary at 10 %, confirmed by their pods."""
        statuses = [obj.get("status") or {} for obj in await self.client.list_(DSPYROLLOUTS, None)]
        return sum(s.get("phase") == "Stepping" and bool(s.get("weightEffectiveAt")) for s in statuses)

    async def count_looks(self) -> int:
        """How many attempts have begun to judge."""
        statuses = [obj.get("status") or {} for obj in await self.client.list_(DSPYROLLOUTS, None)]
        return sum(bool(s.get("metrics")) and s.get("phase") == "Stepping" for s in statuses)

    async def _create_one(self, namespace: str, name: str) -> None:
        artifact = await self._create_program(namespace, name, 1)
        await self.client.create(DSPYDEPLOYMENTS, build_deployment(namespace, name, artifact))

    async def _open_one(self, namespace: str, name: str) -> None:
        artifact = await self._create_program(namespace, name, 2)
        patch = {"spec": {"program": {"artifact": artifact}}}
        await self.client.merge(DSPYDEPLOYMENTS, namespace, name, patch)

    async def _create_program(self, namespace: str, name: str, version: int) -> Object:
        text = json.dumps({"name": name, "version": version, "demos": "x" * PROGRAM_BYTES})
        config_map = f"{name}-artifact-{version}"
        await self._create_config_map(namespace, config_map, {names.PROGRAM_KEY: text})
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        return {"sha256": sha256, "configMap": {"name": config_map, "key": names.PROGRAM_KEY}}

    async def _create_config_map(self, namespace: str, name: str, data: dict[str, str]) -> None:
        metadata = {"name": name, "namespace": namespace}
        await self.client.create(CONFIGMAPS, {"metadata": metadata, "data": data})

    async def _create_global(self, resource: Resource, body: Object) -> None:
        try:
            await self.client.create(resource, body | {"metadata": body["metadata"] | {"namespace": None}})
        except Conflict:
            return

    async def _is_served(self) -> bool:
        try:
            await self.client.list_(DSPYDEPLOYMENTS, None)
            await self.client.list_(DSPYROLLOUTS, None)
        except OperatorError:
            return False
        return True


def build_deployment(namespace: str, name: str, artifact: Object) -> Object:
    """The resource: every default but the durations."""
    steps = [{"weight": 10, "minDuration": "240h", "deadline": "480h"}, {"weight": 100}]
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": 2,
            "image": "registry.example/bench:1",
            "program": {
                "module": "bench:Program",
                "source": {"configMap": {"name": "code"}},
                "artifact": artifact,
            },
            "lm": {"primary": {"model": "openai/gpt-4o-mini"}},
            "scoring": {"function": "bench:score"},
            "strategy": {"canary": {"steps": steps, "analysis": {"interval": "10s"}}},
        },
    }


async def wait_until(condition: Callable[[], Awaitable[bool]], what: str, seconds: float) -> float:
    """Ask every second; the seconds that it took, or TimeoutError."""
    began = time.monotonic()
    while not await condition():
        if time.monotonic() - began > seconds:
            raise TimeoutError(f"after {seconds:.0f} s still not: {what}")
        await asyncio.sleep(1)
    return time.monotonic() - began


async def _all(jobs: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all, a few at a time."""
    slots = asyncio.Semaphore(WRITERS)

    async def run(job: Coroutine[Any, Any, None]) -> None:
        async with slots:
            await job

    await asyncio.gather(*(run(job) for job in jobs))
