"""A cluster that is there already: the user's. We start and stop nothing, and push images to the registry they name."""

import os
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.builds import tool
from tests.cluster.debian import run
from tests.cluster.processes import ClusterError
from tests.cluster.provider import LoadableImage, kubectl, saved


@dataclass(frozen=True)
class ExistingCluster:
    """Somebody's cluster, and a registry (`host/path`) that its nodes pull from."""

    kubeconfig: Path
    registry: str
    name: str = "existing"

    def start(self) -> None:
        """Only look whether it answers."""
        kubectl(self, "get", "--raw", "/readyz")

    def stop(self) -> None:
        """Nothing: it was not started here."""

    def load_image(self, image: LoadableImage) -> str:
        """Push an image to the registry, with the credentials of `docker login` or `crane auth login`."""
        reference = f"{self.registry.rstrip('/')}/{image.reference.removeprefix('localhost/')}"
        with saved(image) as archive:
            run(tool("crane"), "push", archive, reference)
        return reference

    def gateway_url(self) -> str:
        """Not known of somebody's cluster."""
        raise ClusterError("no gateway here")


def get_existing() -> ExistingCluster:
    """The cluster of KUBECONFIG; ClusterError when that or IMAGE_REGISTRY is not given."""
    kubeconfig = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    registry = os.environ.get("IMAGE_REGISTRY", "")
    if not Path(kubeconfig).is_file():
        raise ClusterError(f"KUBECONFIG must name one file, and {kubeconfig!r} is none.")
    if not registry:
        raise ClusterError(
            "IMAGE_REGISTRY= must name a registry that the cluster's nodes pull from (`host/path`)."
        )
    return ExistingCluster(Path(kubeconfig), registry)
