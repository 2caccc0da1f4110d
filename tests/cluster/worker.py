"""One node of the local cluster: its containerd and its kubelet, how they start and how they end."""

import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.cluster import host, node
from tests.cluster.builds import tool
from tests.cluster.containers import Containers, choose_snapshotter
from tests.cluster.control_plane import ControlPlane
from tests.cluster.debian import run
from tests.cluster.images import build_pause_image
from tests.cluster.node import Node
from tests.cluster.processes import ClusterError, Process
from tests.cluster.state import choose_ports, write_atomically

PORTS = ("kubelet", "kubelet-health")
SECONDS = 120
KUBELET_ATTEMPTS = 5


@dataclass(frozen=True)
class Worker:
    """containerd and kubelet of a node: files in `state`, images in `content`; `suffix` tells its processes apart."""

    node: Node
    state: Path
    content: Path
    plane: ControlPlane
    suffix: str = ""

    @property
    def containers(self) -> Containers:
        """What its containerd holds."""
        return Containers(self.node.socket)

    @property
    def containerd(self) -> Process:
        """The process."""
        return Process(f"containerd{self.suffix}", self.plane.directory, node.RECORDS)

    @property
    def kubelet(self) -> Process:
        """The process."""
        return Process(f"kubelet{self.suffix}", self.plane.directory, node.RECORDS)

    @cached_property
    def ports(self) -> dict[str, int]:
        """Free ports of the kubelet."""
        return choose_ports(self.state / "kubelet-ports.json", PORTS)

    def start_containerd(self) -> None:
        """Start it, with the image that holds pods' networks."""
        network, config = self.state / "cni", self.state / "containerd.toml"
        snapshotter = choose_snapshotter(self.content)
        write_atomically(config, node.build_containerd_config(self.node, self.content, network, snapshotter))
        write_atomically(network / "10-dspy.conflist", node.build_cni_config(self.node))
        self._run_containerd()
        self.containers.load(build_pause_image())

    def start_kubelet(self) -> None:
        """Start it and wait until the node is Ready."""
        for attempt in range(KUBELET_ATTEMPTS):
            self.kubelet.start([tool("kubelet"), *self._prepare_kubelet()])
            try:
                self.kubelet.wait_until(self._is_ready, SECONDS)
            except ClusterError:
                # containerd answers before its part for pods does, and the kubelet does not wait for that.
                if self.kubelet.find_pid() is not None or attempt == KUBELET_ATTEMPTS - 1:
                    raise
                time.sleep(1)
            else:
                return

    def stop(self) -> None:
        """End the kubelet, all containers and containerd."""
        self.kubelet.stop()
        if (self.state / "containerd.toml").exists():
            # A containerd that ended by itself left its containers behind, and only it can name them.
            self._run_containerd()
            host.delete_namespaces(self.containers.delete_containers())
        self.containerd.stop()

    def _run_containerd(self) -> None:
        self.containerd.start(["containerd", "--config", self.state / "containerd.toml"])
        self.containerd.wait_until(self.containers.is_ready, SECONDS)

    def _prepare_kubelet(self) -> list[str]:
        """Its certificate, its files; its flags."""
        pki, name = self.plane.pki, self.node.name
        names = (f"DNS:{name}", f"IP:{self.node.address}")
        pki.ensure_certificate(name, f"/O=system:nodes/CN=system:node:{name}", names)
        kubeconfig = self.plane.ensure_client(name)
        config = node.build_kubelet_config(self.node, self.state, pki.ca, self.ports)
        write_atomically(self.state / "kubelet.yaml", config)
        return node.build_kubelet_arguments(self.node, self.state, kubeconfig)

    def _is_ready(self) -> bool:
        ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
        command = (tool("kubectl"), "--kubeconfig", self.plane.kubeconfig, "get", "node", self.node.name)
        with suppress(ClusterError):  # not registered yet
            return run(*command, "-o", ready) == "True"
        return False
