"""A small Gateway API controller for Envoy, beside it in its pod: `python -m tests.gateway.controller`.

Standard library only. It watches, and writes Envoy's files (routes, clusters, each cluster's endpoints; replaced by
rename(2), which is what Envoy looks for) and the status of Gateways and routes. The Gateway's annotation
`dspy-operator.io/test-hold-routes: "true"` makes it leave the files as they are. `GET /state` on port 8081 says whether
it does, and which generation of each route Envoy was told.
"""

from __future__ import annotations

import http.client
import json
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

from tests.gateway.kube import Mirror, RefusedError, call
from tests.gateway.routing import DIRECTORY, Config, build_config, build_route_configuration, get_file
from tests.gateway.status import (
    build_condition,
    build_parents,
    date,
    find_gateways,
    is_accepted,
    is_held,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.gateway.kube import Key, Object

API = "/apis/gateway.networking.k8s.io/v1"
KINDS = {
    "classes": f"{API}/gatewayclasses",
    "gateways": f"{API}/gateways",
    "routes": f"{API}/httproutes",
    "services": "/api/v1/services",
    "slices": "/apis/discovery.k8s.io/v1/endpointslices",
}
STATE_PORT, ADMIN_PORT = 8081, 9901
TICK_SECONDS = 1.0
TAKEN_SECONDS = 3.0


@dataclass
class Files:
    """Envoy's files, written when they change and in an order in which no route ever names an unknown cluster."""

    directory: Path
    written: dict[str, str] = field(default_factory=dict)
    clusters: dict[str, Object] = field(default_factory=dict)
    endpoints: dict[str, Object] = field(default_factory=dict)

    def write(self, config: Config) -> None:
        """Tell Envoy; clusters that only the former routes named stay until the next time."""
        clusters, endpoints = self.clusters | config.clusters, self.endpoints | config.endpoints
        for name, resource in endpoints.items():
            self.replace(get_file(name), [resource])
        if self.replace("cds", list(clusters.values())):
            wait_for_clusters(clusters.keys())
        if self.replace("rds", [build_route_configuration(config)]):
            print(f"Envoy has {len(config.virtual_hosts)} hosts", file=sys.stderr, flush=True)
        self.clusters, self.endpoints = config.clusters, config.endpoints

    def exist(self) -> bool:
        """Whether Envoy was told anything yet, by this process or one before it in this pod."""
        return (self.directory / "rds.json").exists()

    def replace(self, name: str, resources: list[Object]) -> bool:
        """Replace one file by rename(2); whether it was different."""
        text = json.dumps({"resources": resources})
        if self.written.get(name) == text:
            return False
        temporary = self.directory / f".{name}.json"
        temporary.write_text(text)
        temporary.replace(self.directory / f"{name}.json")
        self.written[name] = text
        return True


def wait_for_clusters(names: Iterable[str]) -> None:
    """Wait until Envoy serves these clusters; at once when it does not run yet, as it will then read all files."""
    wanted = set(names)
    ends = time.monotonic() + TAKEN_SECONDS
    with suppress(OSError):
        while time.monotonic() < ends and not wanted <= ask_clusters():
            time.sleep(0.01)


def ask_clusters() -> set[str]:
    """The clusters that Envoy has warmed up."""
    connection = http.client.HTTPConnection("127.0.0.1", ADMIN_PORT, timeout=2)
    connection.request("GET", "/clusters?format=json")
    with connection.getresponse() as response:
        return {found["name"] for found in json.load(response).get("cluster_statuses", [])}


class Controller:
    """What is seen, and what follows from it."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.changed = threading.Event()
        self.mirrors = {name: Mirror(path, self.changed) for name, path in KINDS.items()}
        self.state: Object = {}

    def run(self) -> None:
        """Watch and write for ever."""
        for mirror in self.mirrors.values():
            mirror.start()
        for mirror in self.mirrors.values():
            mirror.listed.wait()
        while True:
            self.changed.clear()
            self.pass_once({name: mirror.get() for name, mirror in self.mirrors.items()})
            self.changed.wait(TICK_SECONDS)

    def pass_once(self, seen: dict[str, dict[Key, Object]]) -> None:
        """Write what should be written of what was seen: first Envoy's files, then the status that says so."""
        gateways = find_gateways(seen["classes"], seen["gateways"])
        held = is_held(gateways)
        told = self.state.get("routes", {})
        if not held or not self.files.exist():  # Envoy does not start without them
            accepted = [route for route in seen["routes"].values() if is_accepted(route, gateways)]
            self.files.write(build_config(accepted, seen["services"], seen["slices"].values()))
            told = {
                f"{r['metadata']['namespace']}/{r['metadata']['name']}": r["metadata"]["generation"]
                for r in accepted
            }
        self.state = {"held": held, "routes": told}
        self.write_statuses(seen, gateways)

    def write_statuses(self, seen: dict[str, dict[Key, Object]], gateways: dict[Key, Object]) -> None:
        """Classes, Gateways, routes: each only where it is not yet as it should be."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        names = {gateway["spec"]["gatewayClassName"] for gateway in gateways.values()}
        for (_, name), found in seen["classes"].items():
            if name in names:
                self.write_conditions(f"{KINDS['classes']}/{name}", found, ("Accepted",), now)
        for (namespace, name), found in gateways.items():
            path = f"{API}/namespaces/{namespace}/gateways/{name}"
            self.write_conditions(path, found, ("Accepted", "Programmed"), now)
        for (namespace, name), route in seen["routes"].items():
            parents = build_parents(route, gateways, seen["services"], now)
            if parents != route.get("status", {}).get("parents", []):
                path = f"{API}/namespaces/{namespace}/httproutes/{name}"
                self.update(path, route, {"parents": parents})

    def write_conditions(self, path: str, found: Object, kinds: tuple[str, ...], now: str) -> None:
        """These conditions as True."""
        before = found.get("status", {}).get("conditions", [])
        conditions = date([build_condition(kind) for kind in kinds], found, before, now)
        if conditions != before:
            self.update(path, found, {"conditions": conditions})

    def update(self, path: str, found: Object, changes: Object) -> None:
        """Write a status over the version that was seen; who was faster is seen next, and then it is tried again."""
        status = found.get("status", {}) | changes
        try:
            call("PUT", f"{path}/status", found | {"status": status})
        except (RefusedError, OSError, http.client.HTTPException) as error:
            print(f"{path}: {error}", file=sys.stderr, flush=True)


def serve_state(controller: Controller) -> None:
    """`GET /state`, and `GET /healthz`, which succeeds once Envoy's files are written."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(controller.state).encode()
            self.send_response(200 if controller.state else 503)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            """The kubelet asks every second."""

    server = ThreadingHTTPServer(("", STATE_PORT), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def main() -> None:
    """Run until the pod ends; an unexpected exception ends the process, and the kubelet starts another."""
    # The first process of a container would ignore it, and the pod's end would take its whole grace period.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    controller = Controller(Files(Path(DIRECTORY)))
    serve_state(controller)
    controller.run()


if __name__ == "__main__":
    main()
