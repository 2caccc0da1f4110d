"""What all stories share: a running cluster with Prometheus, the images of this checkout, the operator from its chart.

Everything is idempotent: what runs already is taken as it is, and stays when the tests are over.
"""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from tests.cluster.addons import PROMETHEUS_ADDRESS, build_images, install_prometheus
from tests.cluster.builds import tool
from tests.cluster.choose import choose
from tests.cluster.state import locked
from tests.e2e.harness.api import open_api
from tests.e2e.harness.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.provider import Cluster
    from tests.e2e.harness.api import Api, Object

CHART = Path(__file__).parents[3] / "charts/dspy-operator"
RELEASE = OPERATOR_NAMESPACE = "dspy-operator"
OPERATOR_LABELS = "app.kubernetes.io/name=dspy-operator"
MONITORING = "dspy-monitoring"
PROMETHEUS = "prometheus"
READY_SECONDS = 120


@dataclass(frozen=True)
class Installation:
    """One cluster with everything in it; `images` are references by name."""

    cluster: Cluster
    api: Api
    images: dict[str, str]

    def query(self, text: str) -> list[Object]:
        """An instant query, asked of Prometheus itself."""
        answer = self.api.ask(f"services/{MONITORING}/{PROMETHEUS}:9090", f"/api/v1/query?query={text}")
        found: list[Object] = answer["data"]["result"]
        return found

    def scale_prometheus(self, replicas: int) -> None:
        """Stop Prometheus (0) or start it (1), and wait until it has or is ready."""
        self.api.merge("Deployment", MONITORING, PROMETHEUS, {"spec": {"replicas": replicas}})

        def is_done() -> bool:
            pods = self.api.list_("Pod", MONITORING, "app.kubernetes.io/name=prometheus")
            return len(pods) == replicas and all(is_ready(pod) for pod in pods)

        wait_for(f"Prometheus with {replicas} pods", is_done, READY_SECONDS)

    def list_operator_pods(self) -> list[Object]:
        """The operator's pods."""
        return self.api.list_("Pod", OPERATOR_NAMESPACE, OPERATOR_LABELS)

    def wait_for_operator(self) -> Object:
        """The one operator pod, once it is ready."""

        def find() -> Object | None:
            pods = self.list_operator_pods()
            return pods[0] if len(pods) == 1 and is_ready(pods[0]) else None

        return wait_for("a ready operator", find, READY_SECONDS, tell=lambda: self.read_operator_log(20))

    def read_operator_log(self, lines: int = 60) -> str:
        """The end of the operator's log."""
        names = [pod["metadata"]["name"] for pod in self.list_operator_pods()]
        return "\n".join(self.api.read_log(OPERATOR_NAMESPACE, name, lines) for name in names)


def is_ready(pod: Object) -> bool:
    """Whether a pod is Ready and not on its way out."""
    conditions = pod.get("status", {}).get("conditions", [])
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def build_values(images: dict[str, str]) -> Object:
    """The chart's values: looks, saved states and a Lease short enough for a rollout that takes a minute."""
    lease = {"LEASE_DURATION": "10", "LEASE_RENEW_DEADLINE": "7", "LEASE_RETRY": "1"}
    return {
        "image": images["dspy-operator"],
        "servingImage": images["dspy-server"],
        "prometheus": {"url": PROMETHEUS_ADDRESS},
        "operator": {
            "checkpointIntervalSeconds": 5,
            "lookTickSeconds": 1,
            "extraEnv": [{"name": f"DSPY_OPERATOR_{name}", "value": value} for name, value in lease.items()],
        },
    }


def install_operator(cluster: Cluster, images: dict[str, str]) -> None:
    """Install or upgrade the release by Helm, and wait until the operator is ready."""
    command = (
        *(tool("helm"), "upgrade", "--install", RELEASE, CHART, "--kubeconfig", cluster.kubeconfig),
        *("--namespace", OPERATOR_NAMESPACE, "--create-namespace", "--values", "-"),
        *("--take-ownership", "--force-conflicts", "--wait=legacy", "--timeout", f"{READY_SECONDS}s"),
    )
    with locked("operator"):  # Helm refuses two at once
        done = subprocess.run(
            command, input=yaml.safe_dump(build_values(images)), capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise RuntimeError(f"helm: {done.stderr}")


def install() -> tuple[Cluster, dict[str, str]]:
    """Make everything run; takes seconds when it does already."""
    cluster = choose()
    cluster.start()
    install_prometheus(cluster)
    images = build_images(cluster)
    install_operator(cluster, images)
    return cluster, images


@contextmanager
def open_installation() -> Iterator[Installation]:
    """Everything runs, and can be spoken to."""
    cluster, images = install()
    with open_api(cluster.kubeconfig) as api:
        installation = Installation(cluster, api, images)
        installation.wait_for_operator()
        yield installation
