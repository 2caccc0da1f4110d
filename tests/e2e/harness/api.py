"""The API server as stories and the demo use it: plain HTTP through `kubectl proxy`, which logs in by any kubeconfig.

Objects are plain dicts. The pods' and Services' own HTTP endpoints are reached through the same door.
"""

from __future__ import annotations

import re
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from threading import local
from typing import TYPE_CHECKING, Any

import requests
from tests.cluster.builds import tool

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

Object = dict[str, Any]

OPERATOR_API = "dspy-operator.io/v1alpha1"
GATEWAY_API = "gateway.networking.k8s.io/v1"
MANAGER = "stories"
NOT_FOUND = 404
CALL_SECONDS = 30.0
PLURALS = {
    "Namespace": "namespaces",
    "ConfigMap": "configmaps",
    "Secret": "secrets",
    "Service": "services",
    "Pod": "pods",
    "Event": "events",
    "Deployment": "deployments",
    "ReplicaSet": "replicasets",
    "ControllerRevision": "controllerrevisions",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "ResourceQuota": "resourcequotas",
    "HorizontalPodAutoscaler": "horizontalpodautoscalers",
    "Lease": "leases",
    "Job": "jobs",
    "ClusterRoleBinding": "clusterrolebindings",
    "Gateway": "gateways",
    "HTTPRoute": "httproutes",
    "CustomResourceDefinition": "customresourcedefinitions",
    "DSPyDeployment": "dspydeployments",
    "DSPyRollout": "dspyrollouts",
}
VERSIONS = {
    "Event": "events.k8s.io/v1",
    "Deployment": "apps/v1",
    "ReplicaSet": "apps/v1",
    "ControllerRevision": "apps/v1",
    "PodDisruptionBudget": "policy/v1",
    "HorizontalPodAutoscaler": "autoscaling/v2",
    "Lease": "coordination.k8s.io/v1",
    "Job": "batch/v1",
    "ClusterRoleBinding": "rbac.authorization.k8s.io/v1",
    "Gateway": GATEWAY_API,
    "HTTPRoute": GATEWAY_API,
    "CustomResourceDefinition": "apiextensions.k8s.io/v1",
    "DSPyDeployment": OPERATOR_API,
    "DSPyRollout": OPERATOR_API,
}
CLUSTER_WIDE = {"Namespace", "CustomResourceDefinition", "ClusterRoleBinding"}


class RefusedError(Exception):
    """The API server, or what is behind it, did not do it; the text is what it said."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"HTTP {code}: {message}")
        self.code, self.message = code, message


@dataclass(frozen=True)
class Api:
    """One cluster's API server behind a local proxy."""

    url: str
    sessions: local

    def get(self, kind: str, namespace: str, name: str) -> Object:
        """One object; RefusedError when there is none."""
        return self.call("GET", build_path(kind, namespace, name))

    def find(self, kind: str, namespace: str, name: str) -> Object | None:
        """One object, or None."""
        try:
            return self.get(kind, namespace, name)
        except RefusedError as error:
            if error.code == NOT_FOUND:
                return None
            raise

    def list_(self, kind: str, namespace: str = "", labels: str = "") -> list[Object]:
        """All objects of a kind, in one namespace or everywhere."""
        path = build_path(kind, namespace)
        items: list[Object] = self.call("GET", path, params={"labelSelector": labels})["items"]
        return items

    def apply(self, *objects: Object) -> None:
        """Server-side apply, as `kubectl apply --server-side` does it."""
        for item in objects:
            meta = item["metadata"]
            path = build_path(item["kind"], meta.get("namespace", ""), meta["name"])
            params = {"fieldManager": MANAGER, "force": "true"}
            self.call("PATCH", path, item, params=params, content="application/apply-patch+yaml")

    def merge(self, kind: str, namespace: str, name: str, patch: Object, subresource: str = "") -> Object:
        """A JSON merge patch."""
        path = build_path(kind, namespace, name) + (f"/{subresource}" if subresource else "")
        return self.call("PATCH", path, patch, content="application/merge-patch+json")

    def delete(self, kind: str, namespace: str, name: str, *, grace: int | None = None) -> None:
        """Delete in the background; nothing happens when there is none."""
        options: Object = {"propagationPolicy": "Background"}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        try:
            self.call("DELETE", build_path(kind, namespace, name), options)
        except RefusedError as error:
            if error.code != NOT_FOUND:
                raise

    def ask(self, target: str, path: str, body: Object | None = None) -> Object:
        """JSON of an HTTP endpoint; `target` like `pods/NAMESPACE/NAME:PORT` or `services/NAMESPACE/NAME:PORT`."""
        return self.call("GET" if body is None else "POST", _build_proxy_path(target, path), body)

    def read(self, target: str, path: str) -> str:
        """Text of an HTTP endpoint."""
        return self._send("GET", _build_proxy_path(target, path)).text

    def read_log(self, namespace: str, pod: str, lines: int = 40, container: str = "") -> str:
        """The end of a pod's log, of one of its containers if named; empty when it has none."""
        try:
            path = f"{build_path('Pod', namespace, pod)}/log"
            return self._send("GET", path, params={"tailLines": str(lines), "container": container}).text
        except RefusedError:
            return ""

    def call(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        params: Mapping[str, str] | None = None,
        content: str = "application/json",
    ) -> Object:
        """One request; RefusedError when the answer is no success."""
        parsed: Object = self._send(method, path, body, params, content).json()
        return parsed

    def _send(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        params: Mapping[str, str] | None = None,
        content: str = "application/json",
    ) -> requests.Response:
        if not hasattr(self.sessions, "own"):
            self.sessions.own = requests.Session()
        response: requests.Response = self.sessions.own.request(
            method,
            self.url + path,
            json=body,
            params={name: value for name, value in (params or {}).items() if value},
            headers={"Content-Type": content},
            timeout=CALL_SECONDS,
        )
        if not response.ok:
            raise RefusedError(response.status_code, _get_message(response))
        return response


def _get_message(response: requests.Response) -> str:
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return response.text[:400]


def build_path(kind: str, namespace: str = "", name: str = "") -> str:
    """The URL path of a kind, in a namespace, of one object."""
    version = VERSIONS.get(kind, "v1")
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    within = f"/namespaces/{namespace}" if namespace and kind not in CLUSTER_WIDE else ""
    return f"{root}{within}/{PLURALS[kind]}" + (f"/{name}" if name else "")


def _build_proxy_path(target: str, path: str) -> str:
    kind, namespace, name = target.split("/")
    return f"/api/v1/namespaces/{namespace}/{kind}/{name}/proxy{path}"


@contextmanager
def open_api(kubeconfig: Path) -> Iterator[Api]:
    """Run `kubectl proxy` on a free loopback port for as long as it is needed."""
    command = (tool("kubectl"), "--kubeconfig", kubeconfig, "proxy", "--port=0", "--keepalive=20s")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as proxy:
        try:
            line = proxy.stdout.readline() if proxy.stdout else ""
            found = re.search(r"127\.0\.0\.1:\d+", line)
            if found is None:
                raise RefusedError(0, f"kubectl proxy did not start: {line}")
            yield Api(f"http://{found[0]}", local())
        finally:
            proxy.terminate()
