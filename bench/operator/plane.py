"""The processes of one benchmark: etcd, API server, Prometheus, the operator itself.

Started by `__main__.py`, each below one directory; what was started is ended, and nothing else.
"""

import json
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.builds import tool
from tests.cluster.control_plane import LOOPBACK, ControlPlane, is_answering
from tests.cluster.images import OPERATOR_MEMORY
from tests.cluster.processes import Process
from tests.cluster.state import choose_ports

OPERATOR: str = "dspy-operator"
"""User of the operator in the audit log; the benchmark itself is `admin`."""
LEASE_NAMESPACE: str = "dspy-operator"
READY_SECONDS: float = 120.0
PORTS = ("prometheus", "pods", "operator-metrics", "operator-health")
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [{"level": "Metadata", "users": [OPERATOR]}, {"level": "None"}],
}


@dataclass(frozen=True)
class Plane:
    """Where everything is, and the operator's process."""

    control: ControlPlane
    directory: Path
    scrape_seconds: float

    @property
    def ports(self) -> dict[str, int]:
        """Free ports, chosen once."""
        return choose_ports(self.directory / "bench-ports.json", PORTS)

    @property
    def audit_log(self) -> Path:
        """One JSON line for each request of the operator."""
        return self.directory / "audit.log"

    @property
    def profile(self) -> Path:
        """Where a profiled operator leaves its statistics."""
        return self.directory / "operator.prof"

    @property
    def operator(self) -> Process:
        """The operator's process."""
        return Process("operator", self.directory)

    def url(self, name: str) -> str:
        """The address of one of the `PORTS`."""
        return f"http://{LOOPBACK}:{self.ports[name]}"

    def get(self, name: str, path: str) -> str:
        """The body of a GET."""
        with urllib.request.urlopen(self.url(name) + path, timeout=10) as answer:
            body: bytes = answer.read()
        return body.decode()

    def start_operator(self, *, profiled: bool = False) -> None:
        """Start the operator as its pod does, and wait until it is ready."""
        kubeconfig = self.directory / f"{OPERATOR}.kubeconfig"
        profiler = ["-m", "cProfile", "-o", str(self.profile)] if profiled else []
        environment = {
            **OPERATOR_MEMORY,
            "KUBECONFIG": str(kubeconfig),
            "DSPY_OPERATOR_PROMETHEUS_URL": self.url("prometheus"),
            "DSPY_OPERATOR_LEASE_NAMESPACE": LEASE_NAMESPACE,
            "DSPY_OPERATOR_METRICS_PORT": str(self.ports["operator-metrics"]),
            "DSPY_OPERATOR_HEALTH_PORT": str(self.ports["operator-health"]),
            "DSPY_OPERATOR_SAMPLE_STALE_AFTER": str(max(30.0, 2.5 * self.scrape_seconds)),
        }
        command = [sys.executable, *profiler, "-m", "dspy_operator", "run"]
        self.operator.start(command, environment, die_with_us=True)
        self.operator.wait_until(lambda: _is_ready(f"{self.url('operator-health')}/readyz"), READY_SECONDS)

    def find_operator(self) -> int:
        """The operator's pid; RuntimeError with its last words when it has ended."""
        pid = self.operator.find_pid()
        if pid is None:
            raise RuntimeError(f"the operator has ended.\n{self.operator.explain()}")
        return pid


@contextmanager
def run_plane(directory: Path, scrape_seconds: float) -> Iterator[Plane]:
    """Run etcd, API server and Prometheus until the block ends; the operator is started inside."""
    control = ControlPlane(directory, die_with_us=True)
    plane = Plane(control, directory, scrape_seconds)
    try:
        _start_api_server(plane)
        _start_prometheus(plane)
        yield plane
    finally:
        for name in ("operator", "prometheus", "kube-apiserver", "etcd"):
            control.process(name).stop()


def _start_api_server(plane: Plane) -> None:
    control = plane.control
    control.ensure_credentials()
    control.pki.ensure_certificate(OPERATOR, f"/O=system:masters/CN={OPERATOR}")
    control.ensure_client(OPERATOR)
    policy = plane.directory / "audit-policy.json"
    policy.write_text(json.dumps(AUDIT_POLICY))
    control.start_etcd()
    control.start_api_server(
        "--endpoint-reconciler-type=none",
        "--disable-admission-plugins=ServiceAccount",
        f"--audit-policy-file={policy}",
        f"--audit-log-path={plane.audit_log}",
    )


def _start_prometheus(plane: Plane) -> None:
    binary = shutil.which("prometheus") or tool("prometheus")
    target = f"{LOOPBACK}:{plane.ports['pods']}"
    interval = f"{plane.scrape_seconds:g}s"
    config = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval},
        "scrape_configs": [
            {"job_name": "pods", "honor_labels": True, "static_configs": [{"targets": [target]}]}
        ],
    }
    file = plane.directory / "prometheus.json"
    file.write_text(json.dumps(config))
    prometheus = plane.control.process("prometheus")
    arguments = [
        f"--config.file={file}",
        f"--storage.tsdb.path={plane.directory / 'prometheus'}",
        f"--web.listen-address={LOOPBACK}:{plane.ports['prometheus']}",
    ]
    prometheus.start([binary, *arguments], die_with_us=True)
    prometheus.wait_until(lambda: is_answering(f"{plane.url('prometheus')}/-/ready"), READY_SECONDS)


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.HTTPError):
        return False


def end_gracefully(plane: Plane, seconds: float = 60.0) -> None:
    """SIGTERM, and time to write a profile."""
    pid = plane.find_operator()
    subprocess.run(["kill", "-TERM", str(pid)], check=True)
    deadline = time.monotonic() + seconds
    while plane.operator.find_pid() is not None and time.monotonic() < deadline:
        time.sleep(0.2)
    plane.operator.stop()
