"""A backend that answers like a served program and costs nothing: for what is tested without one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.restricted import build_pod_spec

if TYPE_CHECKING:
    from tests.e2e.harness.api import Object

PORT = 8000
CODE = """
import json, os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAME = os.environ["NAME"]
BODY = json.dumps({"outputs": {"queue": ""}, "meta": {"revision": NAME, "track": NAME}}).encode()

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)
    def log_message(self, *_):
        pass

ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""


def build_backend(namespace: str, image: str, name: str, app: str = "triage") -> list[Object]:
    """Deployment and Service `APP-NAME` on port 80; it says its name as revision and track."""
    labels = {"app.kubernetes.io/name": f"{app}-{name}"}
    metadata = {"name": f"{app}-{name}", "namespace": namespace}
    service = {"selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": PORT}]}
    deployment = {
        "replicas": 1,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": build_pod(image, name)},
    }
    return [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": deployment},
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": service},
    ]


def build_pod(image: str, name: str) -> Object:
    """One container, under restricted Pod Security."""
    container = {
        "name": "backend",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", CODE],
        "env": [{"name": "NAME", "value": name}],
        "readinessProbe": {"httpGet": {"path": "/", "port": PORT}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "20m", "memory": "24Mi"}, "limits": {"memory": "96Mi"}},
    }
    return build_pod_spec(container, terminationGracePeriodSeconds=1)
