"""The traffic client as Kubernetes objects: a pod with its two files in a ConfigMap.

The pod runs under restricted Pod Security; its control port is 8081 (`client.py` says what it understands).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.restricted import build_pod_spec

HERE = Path(__file__).parent
TICKETS = HERE.parents[1] / "examples/support-triage/tickets.py"
CONTROL_PORT = 8081


def build_traffic_objects(
    namespace: str,
    image: str,
    url: str,
    *,
    rps: float = 20.0,
    name: str = "traffic",
    options: tuple[str, ...] = (),
) -> list[dict[str, Any]]:
    """ConfigMap and Pod of that name; `options` are more arguments of the client, like `--feedback 0.2`."""
    files = {"client.py": HERE / "client.py", "tickets.py": TICKETS}
    code = {file: path.read_text() for file, path in files.items()}
    command = [
        "python3",
        "/app/client.py",
        "--url",
        url,
        "--rps",
        str(rps),
        "--port",
        str(CONTROL_PORT),
        *options,
    ]
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _build_metadata(namespace, name), "data": code},
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": _build_metadata(namespace, name),
            "spec": _build_spec(name, image, command),
        },
    ]


def _build_metadata(namespace: str, name: str) -> dict[str, Any]:
    return {"name": name, "namespace": namespace, "labels": {"app.kubernetes.io/name": name}}


def _build_spec(name: str, image: str, command: list[str]) -> dict[str, Any]:
    container = {
        "name": "traffic",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "env": [{"name": "PYTHONDONTWRITEBYTECODE", "value": "1"}],
        "ports": [{"name": "control", "containerPort": CONTROL_PORT}],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": "control"}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "50m", "memory": "48Mi"}, "limits": {"memory": "192Mi"}},
        "volumeMounts": [{"name": "code", "mountPath": "/app", "readOnly": True}],
    }
    volumes = [{"name": "code", "configMap": {"name": name}}]
    return build_pod_spec(container, restartPolicy="Never", terminationGracePeriodSeconds=15, volumes=volumes)
