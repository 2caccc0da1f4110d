"""A containerd of ours, asked through `ctr`: its images, and the containers that are left when the kubelet is gone."""

import json
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.debian import run
from tests.cluster.host import is_done
from tests.cluster.processes import ClusterError
from tests.cluster.provider import LoadableImage

CNI_RESULTS = Path("/var/lib/cni/results")


def choose_snapshotter(content: Path) -> str:
    """`overlayfs`, or `native` where the directory lies on an overlay itself (a checkout inside a container)."""
    content.mkdir(parents=True, exist_ok=True)
    kind = run("stat", "--file-system", "--format=%T", content).strip()
    return "native" if kind == "overlayfs" else "overlayfs"


@dataclass(frozen=True)
class Containers:
    """What one containerd, known by its socket, holds."""

    socket: Path

    @property
    def ctr(self) -> tuple[str, ...]:
        """The command that asks it."""
        return ("ctr", "--address", str(self.socket), "--namespace", "k8s.io")

    def is_ready(self) -> bool:
        """Whether it answers."""
        return is_done(*self.ctr, "version")

    def list_images(self) -> set[str]:
        """The references of all images."""
        return set(run(*self.ctr, "images", "ls", "-q").split())

    def load(self, image: LoadableImage) -> None:
        """Import an image and unpack it, unless it is there; layers that it has are not sent again."""
        if image.reference in self.list_images():
            return
        known = set(run(*self.ctr, "content", "ls", "-q").split())
        with subprocess.Popen(
            [*self.ctr, "images", "import", "-"],
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

    def delete_containers(self) -> list[Path]:
        """Kill and delete all containers; returns the network namespaces that their pods had."""
        namespaces = set()
        for container in run(*self.ctr, "containers", "ls", "-q").split():
            namespaces |= self._find_namespaces(container)
            for result in CNI_RESULTS.glob(f"*-{container}-*"):
                result.unlink()
            is_done(*self.ctr, "tasks", "kill", "--signal", "SIGKILL", "--all", container)
            is_done(*self.ctr, "tasks", "delete", "--force", container)
            is_done(*self.ctr, "containers", "delete", container)
        left = run(*self.ctr, "containers", "ls", "-q").split()
        if left:
            raise ClusterError(
                f"{len(left)} containers do not end: {' '.join([*self.ctr, 'containers', 'ls'])}"
            )
        return sorted(namespaces)

    def _find_namespaces(self, container: str) -> set[Path]:
        """The network namespace in a container's specification, as a set of at most one."""
        spec = json.loads(run(*self.ctr, "containers", "info", container))["Spec"]
        paths = [entry.get("path", "") for entry in spec["linux"]["namespaces"] if entry["type"] == "network"]
        return {Path(path) for path in paths if "netns/" in path}
