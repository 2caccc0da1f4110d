"""A cluster as tests and the demo see it, whichever of the three providers it comes from.

`choose` says which; `embedded`, `kind` and `existing` are the providers.
"""

from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Protocol

from tests.cluster.builds import tool
from tests.cluster.debian import run

GATEWAY_NAMESPACE = "dspy-gateway"
GATEWAY_SERVICE = "gateway"


class LoadableImage(Protocol):
    """An image on this machine: `localhost/NAME:HASH`."""

    @property
    def reference(self) -> str:
        """Its name and tag."""

    def write(self, stream: IO[bytes], without: Container[str] = ()) -> None:
        """Write it as one archive, with or without the layers whose digests the reader has."""


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

    def load_image(self, image: LoadableImage) -> str:
        """Make an image known to the nodes and return the reference that pods use."""

    def gateway_url(self) -> str:
        """Where a gateway of the cluster answers; ClusterError when it has none."""


def kubectl(cluster: Cluster, *arguments: str) -> str:
    """Run kubectl on a cluster and return what it prints; ClusterError with its words when it fails."""
    return run(tool("kubectl"), "--kubeconfig", cluster.kubeconfig, *arguments)


@contextmanager
def saved(image: LoadableImage) -> Iterator[Path]:
    """The image as a file, for the time of the block."""
    with TemporaryDirectory() as directory:
        archive = Path(directory) / "image.tar"
        with archive.open("wb") as file:
            image.write(file)
        yield archive
