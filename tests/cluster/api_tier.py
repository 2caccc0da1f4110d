"""The API-only tier: etcd and a real kube-apiserver as ordinary processes, for tests that need no pods.

Needs no root. Custom resources, CEL, server-side apply, RBAC and the operator run against it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.control_plane import ControlPlane


@dataclass(frozen=True)
class ApiServer:
    """A running API server: its URL, a kubeconfig with every right, its authority's certificate."""

    url: str
    kubeconfig: Path
    ca: Path
    control_plane: ControlPlane


@contextmanager
def run_api_server(directory: Path, *, controllers: bool = False) -> Iterator[ApiServer]:
    """Run etcd and an API server below a directory until the block ends.

    Args:
        directory: empty, or of an earlier run, whose objects are then still there.
        controllers: run the controller manager too: garbage collection by owner, namespaces that end,
            default service accounts, ReplicaSets of Deployments. No pod ever starts.

    Raises:
        ClusterError: a program could not be built or did not become ready.
    """
    control_plane = ControlPlane(directory, die_with_us=True)
    try:
        control_plane.ensure_credentials()
        control_plane.start_etcd()
        # Without controllers nobody makes the service account "default", without which no pod is admitted.
        without = () if controllers else ("--disable-admission-plugins=ServiceAccount",)
        control_plane.start_api_server("--endpoint-reconciler-type=none", *without)
        if controllers:
            control_plane.start_controllers()
        yield ApiServer(control_plane.url, control_plane.kubeconfig, control_plane.pki.ca, control_plane)
    finally:
        for name in ("kube-controller-manager", "kube-apiserver", "etcd"):
            control_plane.process(name).stop()
