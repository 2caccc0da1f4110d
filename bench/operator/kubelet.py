"""The part of a cluster that the API-only tier lacks: pods of Deployments, ready at once, that follow their table.

Runs beside the operator in the benchmark's process, which also answers Prometheus' scrapes for all pods.
"""

import asyncio
import json
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import aiohttp
from bench.operator.pages import Pages, Pod
from bench.operator.plane import Plane
from tests.cluster.control_plane import LOOPBACK
from tests.cluster.pki import ADMIN

from dspy_operator.api import names
from dspy_operator.kube.client import Client
from dspy_operator.kube.resources import CONFIGMAPS, DEPLOYMENTS, PODS, Resource

Object = dict[str, Any]
CHUNK: Final = 64 * 1024
WRITERS: Final = 8


class Kubelet:
    """Makes and keeps the pods."""

    def __init__(self, plane: Plane, client: Client) -> None:
        self._plane = plane
        self._client = client
        self._pods: dict[tuple[str, str], list[Pod]] = {}
        self._tables: dict[tuple[str, str], Object] = {}
        self._slots = asyncio.Semaphore(WRITERS)

    def list_pods(self) -> list[Pod]:
        """All pods of all programs."""
        return [pod for pods in list(self._pods.values()) for pod in pods]

    async def run(self) -> None:
        """Follow Deployments and routing tables until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_deployments(group))
            group.create_task(self._follow_tables())

    async def _follow_deployments(self, group: asyncio.TaskGroup) -> None:
        async for deployment in _watch(self._plane, DEPLOYMENTS):
            meta = deployment["metadata"]
            key = (meta["namespace"], meta["labels"][names.LABEL_INSTANCE])
            if key not in self._pods:
                self._pods[key] = []
                group.create_task(self._create_pods(key, deployment))

    async def _create_pods(self, key: tuple[str, str], deployment: Object) -> None:
        namespace, program = key
        for number in range(deployment["spec"]["replicas"]):
            name = f"{deployment['metadata']['name']}-{number}"
            async with self._slots:
                await self._create_pod(namespace, name, deployment["spec"]["template"])
            pod = Pod(namespace, name, program)
            self._pods[key].append(pod)
            if key in self._tables:
                _apply(pod, self._tables[key])

    async def _create_pod(self, namespace: str, name: str, template: Object) -> None:
        metadata = {"name": name, "namespace": namespace, **_pick(template["metadata"])}
        wanted = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        pod = await self._client.create(PODS, wanted)
        conditions = [
            {"type": kind, "status": "True"} for kind in ("Ready", "ContainersReady", "Initialized")
        ]
        status = {"phase": "Running", "podIP": "10.0.0.1", "conditions": conditions}
        meta = pod["metadata"]
        await self._client.patch_status(
            PODS, namespace, name, status, uid=meta["uid"], resource_version=meta["resourceVersion"]
        )

    async def _follow_tables(self) -> None:
        async for config_map in _watch(self._plane, CONFIGMAPS):
            meta = config_map["metadata"]
            program = meta["labels"][names.LABEL_INSTANCE]
            if meta["name"] != names.routes_name(program):
                continue
            key = (meta["namespace"], program)
            self._tables[key] = json.loads(config_map["data"][names.ROUTES_KEY])
            for pod in self._pods.get(key, ()):
                _apply(pod, self._tables[key])


def serve_metrics(port: int, list_pods: Callable[[], list[Pod]]) -> ThreadingHTTPServer:
    """Answer scrapes in a thread, until `shutdown`."""
    pages = Pages()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = pages.render(list_pods(), get_time())
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the standard library's name
            """Say nothing."""

    server = ThreadingHTTPServer((LOOPBACK, port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def get_time() -> float:
    """A pod's clock: seconds since 1970."""
    return time.time()  # noqa: TID251  the benchmark is the world, not the operator


def _apply(pod: Pod, table: Object) -> None:
    weights = {route["revision"]: route["weight"] for route in table["routes"]}
    pod.apply(table["generation"], weights, get_time())


def _pick(metadata: Object) -> Object:
    return {key: metadata[key] for key in ("labels", "annotations") if metadata.get(key)}


async def _watch(plane: Plane, resource: Resource) -> AsyncIterator[Object]:
    """Every managed object of a kind as it is now, and whenever it changes; the server ends a watch now and then."""
    pki = plane.control.pki
    context = ssl.create_default_context(cafile=pki.ca)
    context.load_cert_chain(pki.certificate(ADMIN), pki.key(ADMIN))
    query = {"watch": "1", "labelSelector": names.MANAGED_SELECTOR}
    url = plane.control.url + resource.path(None)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        while True:
            async with session.get(url, params=query, ssl=context) as answer:
                rest = b""
                async for chunk in answer.content.iter_chunked(CHUNK):
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        event = json.loads(line)
                        if event["type"] in {"ADDED", "MODIFIED"}:
                            yield event["object"]
