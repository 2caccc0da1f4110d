"""Gateways as stories use them: one that is there, where clients and routes find it, and what can go wrong with it.

`traefik` splits exactly, `envoy` at random. Both are shared by all stories and stay when they are over.
"""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.cluster.gateway import install_gateway
from tests.cluster.provider import GATEWAY_NAMESPACE, GATEWAY_SERVICE
from tests.e2e.harness.api import GATEWAY_API
from tests.e2e.harness.installation import is_ready
from tests.e2e.harness.waiting import wait_for
from tests.gateway.install import install_envoy
from tests.gateway.status import CONTROLLER, HOLD
from tests.traffic.manifest import build_traffic_objects

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.provider import Cluster
    from tests.e2e.harness.api import Api, Object
    from tests.e2e.harness.world import World

INSTALL = {"traefik": install_gateway, "envoy": install_envoy}
KINDS = tuple(INSTALL)
SECONDS = 60
REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
STATE = 8081


@dataclass(frozen=True)
class Gateway:
    """One gateway: `kind` is its Deployment and service account, `name` the Gateway, `service` where it answers."""

    api: Api
    kind: str
    name: str
    service: str
    controller: str

    # where it is

    @property
    def url(self) -> str:
        """Where clients in the cluster find it; their Host header says for whom they ask."""
        return f"http://{self.service}.{GATEWAY_NAMESPACE}.svc"

    @property
    def parent_ref(self) -> Object:
        """What a route, or a DSPyDeployment, names it by."""
        return {"name": self.name, "namespace": GATEWAY_NAMESPACE}

    # what it says

    def find_conditions(self, route: Object) -> dict[str, Object]:
        """Its conditions of a route's current generation, by type; empty when it has said nothing of that yet."""
        return {
            condition["type"]: condition
            for parent in route.get("status", {}).get("parents", [])
            if (parent["controllerName"], parent["parentRef"]["name"]) == (self.controller, self.name)
            for condition in parent["conditions"]
            if condition["observedGeneration"] == route["metadata"]["generation"]
        }

    def is_current(self, route: Object) -> bool:
        """Whether it has taken a route as it is now, with all that it refers to."""
        found = self.find_conditions(route)
        return all(found.get(kind, {}).get("status") == "True" for kind in ("Accepted", "ResolvedRefs"))

    def wait_until_current(self, namespace: str, name: str, seconds: float = SECONDS) -> Object:
        """The route, once that is so."""

        def look() -> Object | None:
            route = self.api.get("HTTPRoute", namespace, name)
            return route if self.is_current(route) else None

        def tell() -> str:
            return str(self.api.get("HTTPRoute", namespace, name).get("status"))

        return wait_for(f"{self.kind} to take route {name}", look, seconds, tell=tell, poll=0.02)

    # what can go wrong

    def stop(self) -> None:
        """End data plane and controller: nobody is answered."""
        self._scale(0)

    def start(self) -> None:
        """Start both again and wait until they are ready."""
        self._scale(1)

    def restart(self) -> None:
        """Delete the pod, without a farewell to open connections, and wait until another is ready."""
        (pod,) = self.list_pods()
        self.api.delete("Pod", GATEWAY_NAMESPACE, pod["metadata"]["name"], grace=0)
        self._wait_for_pods(1, other_than=pod["metadata"]["uid"])

    @contextmanager
    def status_held(self) -> Iterator[None]:
        """For the time of the block it may write no status; traffic follows the routes as ever."""
        name = f"dspy-gateway-{self.kind}-status"
        binding = self.api.get("ClusterRoleBinding", "", name)
        self.api.delete("ClusterRoleBinding", "", name)
        try:
            wait_for("the right to be gone", lambda: not self._may_write_status(), SECONDS, poll=0.05)
            yield
        finally:
            kept = {key: binding[key] for key in ("apiVersion", "kind", "roleRef", "subjects")}
            self.api.apply(kept | {"metadata": {"name": name}})
            wait_for("the right to be back", self._may_write_status, SECONDS, poll=0.05)
            # Traefik does not try again by itself: it writes when something has changed.
            self._annotate("dspy-operator.io/test-poke", secrets.token_hex(3))

    @contextmanager
    def routes_held(self) -> Iterator[None]:
        """For the time of the block traffic stays as it was, while the status says that routes were taken.

        Only Envoy can: its controller does it on purpose.
        """
        if self.controller != CONTROLLER:
            raise ValueError(f"{self.kind} cannot hold its routes back")
        self._annotate(HOLD, "true")
        try:
            self._wait_until_held(held=True)
            yield
        finally:
            self.release()
            self._wait_until_held(held=False)

    def release(self) -> None:
        """Let routes be followed again, also those that a run held back which was ended in the middle."""
        self._annotate(HOLD, None)

    def list_pods(self) -> list[Object]:
        """Its pods: one, or none when it was stopped."""
        return self.api.list_("Pod", GATEWAY_NAMESPACE, f"app.kubernetes.io/name={self.kind}")

    def tell(self) -> str:
        """The end of its logs."""
        read, names = self.api.read_log, [pod["metadata"]["name"] for pod in self.list_pods()]
        # Of a second container if there is one; the log of none is empty.
        logs = (read(GATEWAY_NAMESPACE, name, 20, of) for name in names for of in ("", "controller"))
        return "\n".join(logs)

    def _scale(self, replicas: int) -> None:
        self.api.merge("Deployment", GATEWAY_NAMESPACE, self.kind, {"spec": {"replicas": replicas}})
        self._wait_for_pods(replicas)

    def _wait_for_pods(self, replicas: int, other_than: str = "") -> None:
        def is_done() -> bool:
            pods = self.list_pods()
            uids = {pod["metadata"]["uid"] for pod in pods}
            return len(pods) == replicas and other_than not in uids and all(is_ready(pod) for pod in pods)

        wait_for(f"{self.kind} with {replicas} pods", is_done, SECONDS, tell=self.tell)

    def _may_write_status(self) -> bool:
        account = f"system:serviceaccount:{GATEWAY_NAMESPACE}:{self.kind}"
        group, _, _ = GATEWAY_API.partition("/")
        action = {"group": group, "resource": "httproutes", "subresource": "status", "verb": "update"}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"user": account, "resourceAttributes": action},
        }
        return bool(self.api.call("POST", REVIEWS, review)["status"]["allowed"])

    def _annotate(self, name: str, value: str | None) -> None:
        self.api.merge("Gateway", GATEWAY_NAMESPACE, self.name, {"metadata": {"annotations": {name: value}}})

    def _wait_until_held(self, *, held: bool) -> None:
        (pod,) = self.list_pods()
        target = f"pods/{GATEWAY_NAMESPACE}/{pod['metadata']['name']}:{STATE}"
        wait_for(
            "the controller to heed its annotation",
            lambda: self.api.ask(target, "/state")["held"] is held,
            SECONDS,
            tell=self.tell,
            poll=0.05,
        )


def open_gateway(cluster: Cluster, api: Api, kind: str) -> Gateway:
    """Make sure that a gateway of that kind (`KINDS`) runs; takes about two seconds when it does."""
    INSTALL[kind](cluster)
    if kind == "traefik":
        gateway = Gateway(api, kind, "public", GATEWAY_SERVICE, "traefik.io/gateway-controller")
    else:
        gateway = Gateway(api, kind, kind, kind, CONTROLLER)
    gateway.release()
    return gateway


def with_gateway(obj: Object, hostname: str, *gateways: Gateway) -> Object:
    """A copy of a DSPyDeployment whose route hangs below these gateways, at that hostname."""
    changed = deepcopy(obj)
    parents = [gateway.parent_ref for gateway in gateways]
    changed["spec"].setdefault("traffic", {})["gateway"] = {"parentRefs": parents, "hostnames": [hostname]}
    return changed


def build_gateway_clients(
    gateway: Gateway,
    namespace: str,
    image: str,
    hostname: str,
    *,
    name: str = "traffic",
    headers: tuple[tuple[str, str], ...] = (),
    options: tuple[str, ...] = (),
) -> list[Object]:
    """Clients that ask a gateway for `hostname`, with more headers perhaps; silent until `Traffic.set_rate`."""
    pairs = (("Host", hostname), *headers)
    more = tuple(word for pair in pairs for word in ("--header", *pair))
    return build_traffic_objects(
        namespace, image, f"{gateway.url}/ask", rps=0, name=name, options=(*more, *options)
    )


def ask_through(world: World, gateway: Gateway, hostname: str) -> None:
    """Let the clients of a world ask a gateway instead of the Service; `World.start_traffic` lets them begin."""
    name = f"traffic-{gateway.kind}"
    image = world.installation.images["python"]
    options = ("--feedback", "0.1")
    world.api.apply(
        *build_gateway_clients(gateway, world.namespace, image, hostname, name=name, options=options)
    )
    wait_for("the clients", lambda: is_ready(world.api.get("Pod", world.namespace, name)), SECONDS)
    world.clients = name
