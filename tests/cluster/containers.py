"""Our own containerd, asked through `ctr`: its images, and the containers that are left when the kubelet is gone."""

import json
import subprocess
from contextlib import suppress
from pathlib import Path

from tests.cluster.debian import run
from tests.cluster.host import is_done
from tests.cluster.node import SOCKET
from tests.cluster.processes import ClusterError
from tests.cluster.provider import LoadableImage

CNI_RESULTS = Path("/var/lib/cni/results")
CTR = ("ctr", "--address", str(SOCKET), "--namespace", "k8s.io")


def is_ready() -> bool:
    """Whether containerd answers."""
    return is_done(*CTR, "version")


def choose_snapshotter(content: Path) -> str:
    """`overlayfs`, or `native` where the directory lies on an overlay itself (a checkout inside a container)."""
    content.mkdir(parents=True, exist_ok=True)
    kind = run("stat", "--file-system", "--format=%T", content).strip()
    return "native" if kind == "overlayfs" else "overlayfs"


def list_images() -> set[str]:
    """The references of all images."""
    return set(run(*CTR, "images", "ls", "-q").split())


def import_image(image: LoadableImage) -> None:
    """Import an image and unpack it; layers that containerd has are not sent again."""
    known = set(run(*CTR, "content", "ls", "-q").split())
    with subprocess.Popen(
        [*CTR, "images", "import", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as importing:
        stream, output = importing.stdin, importing.stdout
        if stream is None or output is None:
            raise AssertionError("both are pipes")
        with suppress(BrokenPipeError):  # what it says is better
            image.write(stream, known)
            stream.close()
        said = output.read().decode()
    if importing.returncode != 0:
        raise ClusterError(f"containerd did not take {image.reference}: {said.strip()}")


def delete_containers() -> list[Path]:
    """Kill and delete all containers; returns the network namespaces that their pods had."""
    namespaces = set()
    for container in run(*CTR, "containers", "ls", "-q").split():
        namespaces |= find_namespaces(container)
        for result in CNI_RESULTS.glob(f"*-{container}-*"):
            result.unlink()
        is_done(*CTR, "tasks", "kill", "--signal", "SIGKILL", "--all", container)
        is_done(*CTR, "tasks", "delete", "--force", container)
        is_done(*CTR, "containers", "delete", container)
    left = run(*CTR, "containers", "ls", "-q").split()
    if left:
        raise ClusterError(f"{len(left)} containers do not end: {' '.join([*CTR, 'containers', 'ls'])}")
    return sorted(namespaces)


def find_namespaces(container: str) -> set[Path]:
    """The network namespace in a container's specification, as a set of at most one."""
    spec = json.loads(run(*CTR, "containers", "info", container))["Spec"]
    paths = [entry.get("path", "") for entry in spec["linux"]["namespaces"] if entry["type"] == "network"]
    return {Path(path) for path in paths if "netns/" in path}
