"""A cluster as tests and the demo see it, whichever of the three providers it comes from.

`choose` says which; `embedded`, `kind` and `existing` are the providers.
"""

from pathlib import Path
from typing import Protocol

from tests.cluster.builds import tool
from tests.cluster.debian import run


class Cluster(Protocol):
    """A Kubernetes cluster with real pods."""

    @property
    def name(self) -> str:
        """What it is, for people: `embedded`, `kind`, `existing`."""

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig with every right on it."""

    def start(self) -> None:
        """Make it run, all nodes Ready and names resolved; nothing happens when it does already."""

    def stop(self) -> None:
        """End all that `start` began; nothing happens when it does not run."""

    def load_image(self, archive: Path) -> str:
        """Make an image's archive known to the nodes and return the reference that pods use."""

    def gateway_url(self) -> str:
        """Where a gateway of the cluster answers; ClusterError when it has none."""


def kubectl(cluster: Cluster, *arguments: str) -> str:
    """Run kubectl on a cluster and return what it prints; ClusterError with its words when it fails."""
    return run(tool("kubectl"), "--kubeconfig", cluster.kubeconfig, *arguments)
