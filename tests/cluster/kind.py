"""A kind cluster, where Docker runs (kind is Kubernetes in Docker; it is built from its Go module)."""

from dataclasses import dataclass
from pathlib import Path

import yaml
from tests.cluster.builds import tool
from tests.cluster.debian import run
from tests.cluster.processes import ClusterError
from tests.cluster.provider import LoadableImage, saved
from tests.cluster.state import get_cache, locked, step, write_atomically
from tests.cluster.versions import get_version

CLUSTER = "dspy"


def build_kind_config() -> str:
    """One node, and the gateway's port (30080 in the cluster) on the loopback of this machine."""
    mapping = {"containerPort": 30080, "hostPort": 30080, "listenAddress": "127.0.0.1"}
    nodes = [{"role": "control-plane", "extraPortMappings": [mapping]}]
    return yaml.safe_dump({"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4", "nodes": nodes})


@dataclass(frozen=True)
class KindCluster:
    """The kind cluster named `dspy`."""

    directory: Path
    name: str = "kind"

    @property
    def kubeconfig(self) -> Path:
        """Our own file: the user's kubeconfig is not touched."""
        return self.directory / "kubeconfig"

    def is_running(self) -> bool:
        """Whether kind knows it."""
        return CLUSTER in run(tool("kind"), "get", "clusters").split()

    def start(self) -> None:
        """Create it, or write its kubeconfig again when it exists."""
        with locked("cluster"):
            tool("kubectl")
            config = self.directory / "kind.yaml"
            write_atomically(config, build_kind_config())
            at = ["--name", CLUSTER, "--kubeconfig", str(self.kubeconfig)]
            if self.is_running():
                run(tool("kind"), "export", "kubeconfig", *at)
                return
            with step("kind cluster"):
                image = get_version("KIND_NODE")
                run(
                    tool("kind"),
                    "create",
                    "cluster",
                    *at,
                    "--image",
                    image,
                    "--config",
                    config,
                    "--wait",
                    "180s",
                )

    def stop(self) -> None:
        """Delete it."""
        with locked("cluster"), step("delete the kind cluster"):
            if self.is_running():
                run(tool("kind"), "delete", "cluster", "--name", CLUSTER, "--kubeconfig", self.kubeconfig)

    def load_image(self, image: LoadableImage) -> str:
        """Copy an image into the node."""
        with saved(image) as archive:
            run(tool("kind"), "load", "image-archive", archive, "--name", CLUSTER)
        return image.reference

    def gateway_url(self) -> str:
        """There is no gateway in this cluster."""
        raise ClusterError("no gateway here")


def get_kind() -> KindCluster:
    """The kind cluster of this machine, running or not."""
    return KindCluster(get_cache() / "kind")
