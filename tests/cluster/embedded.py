"""A whole Kubernetes cluster on this machine, without Docker: every component is a process of ours.

Read `start` and `stop`: the order in which things happen. Nodes are in `worker`, files and flags in `node`, the machine
in `host`. There is one node; a second one comes for as long as it is asked for (`second_node`).
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from string import Template

from tests.cluster import host, node
from tests.cluster.builds import tool
from tests.cluster.control_plane import ControlPlane, is_answering
from tests.cluster.images import build_pause_image
from tests.cluster.preflight import check_machine
from tests.cluster.processes import ClusterError, Process
from tests.cluster.provider import GATEWAY_NAMESPACE, GATEWAY_SERVICE, LoadableImage, kubectl
from tests.cluster.state import choose_ports, get_cache, locked, step, write_atomically
from tests.cluster.worker import Worker

PORTS = ("proxy-health", "proxy-metrics", "scheduler", "dns", "dns-ready")
CLIENTS = {
    "kube-scheduler": "/CN=system:kube-scheduler",
    "kube-proxy": "/CN=system:kube-proxy",
    "local-dns": "/CN=local-dns",
}
# Also the order of ending, read backwards, but for the kubelet and its pods, which go first.
PROCESSES = (
    *("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"),
    *("containerd", "kubelet", "kube-proxy", "coredns"),
)
READY_SECONDS = 120


@dataclass(frozen=True)
class EmbeddedCluster:
    """The cluster of one cache directory; one at a time on a machine."""

    directory: Path
    name: str = "embedded"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.control_plane.kubeconfig

    @property
    def first(self) -> Worker:
        """The node that is always there. Its images are kept when the cluster ends."""
        return Worker(node.FIRST, self.directory, self.directory.with_name("containerd"), self.control_plane)

    @property
    def second(self) -> Worker:
        """The node that comes when it is asked for, and leaves nothing."""
        state = self.directory / node.SECOND.name
        return Worker(node.SECOND, state, state / "containerd", self.control_plane, f"-{node.SECOND.name}")

    @cached_property
    def control_plane(self) -> ControlPlane:
        """etcd, API server, controller manager."""
        return ControlPlane(self.directory, node.FIRST.address, records=node.RECORDS)

    @cached_property
    def ports(self) -> dict[str, int]:
        """Free ports of the node's own programs."""
        return choose_ports(self.directory / "node-ports.json", PORTS)

    def process(self, name: str) -> Process:
        """One of the background processes."""
        return Process(name, self.directory, node.RECORDS)

    def is_running(self) -> bool:
        """Whether every process lives, and is of this checkout."""
        return find_owner() == self.directory and all(self.process(name).find_pid() for name in PROCESSES)

    def start(self) -> None:
        """Start what does not run, in order, each step waiting for its gate."""
        with locked("cluster"):
            check_machine(self.directory.parent)
            self._claim()
            for binary in ("etcd", "kube-apiserver", "coredns", "kubectl", "pause"):
                tool(binary)
            build_pause_image()
            for name, action in self._list_steps():
                with step(name):
                    action()

    def stop(self) -> None:
        """End everything and put the machine back as it was; images and binaries stay."""
        with locked("cluster"):
            owner = find_owner()
            if owner == self.directory or (owner is None and self.directory.exists()):
                self._end()

    def _end(self) -> None:
        with step("stop the node"):
            self._stop_pods()
        with step("stop the control plane"):
            for name in reversed(PROCESSES):
                self.process(name).stop()
        with step("clean up"):
            host.end_leftovers()
            self._clean_up()

    def load_image(self, image: LoadableImage) -> str:
        """Import an image into containerd, unless it is there."""
        self.first.containers.load(image)
        return image.reference

    @contextmanager
    def second_node(self, images: Iterable[LoadableImage]) -> Iterator[str]:
        """A second node with these images, Ready, for the time of the block; its name.

        What runs on it when the block ends is lost: cordon and drain it first, as with any node that is taken away.
        """
        worker = self.second
        with locked("cluster"):
            host.add_node(worker.node)
            for name, action in (("containerd", worker.start_containerd), ("kubelet", worker.start_kubelet)):
                with step(f"{name} of {worker.node.name}"):
                    action()
            for image in images:
                worker.containers.load(image)
        try:
            yield worker.node.name
        finally:
            with locked("cluster"), step(f"end {worker.node.name}"):
                worker.stop()
                kubectl(self, "delete", "node", worker.node.name, "--ignore-not-found", "--wait=false")
                self._remove_second()

    def _remove_second(self) -> None:
        """What is left of the second node on the machine, its processes and pods ended."""
        worker = self.second
        host.unmount([worker.state, worker.node.run])
        host.delete_cgroups(worker.node.cgroup.lstrip("/"))
        host.remove_node(worker.node)
        for directory in (worker.state, worker.node.run):
            shutil.rmtree(directory, ignore_errors=True)

    def gateway_url(self) -> str:
        """The gateway's Service: its address is the same here as in a pod, as kube-proxy works on this machine."""
        address = ("-o", "jsonpath={.spec.clusterIP}", "--ignore-not-found")
        found = kubectl(self, "-n", GATEWAY_NAMESPACE, "get", "service", GATEWAY_SERVICE, *address)
        if not found:
            raise ClusterError("There is no gateway in this cluster: `install_gateway` makes one.")
        return f"http://{found}"

    def _claim(self) -> None:
        owner = find_owner()
        if owner is None and host.list_pod_cgroups():
            raise ClusterError(
                "Another kubelet runs pods on this machine (cgroup kubepods), and ours would end them."
            )
        if owner is not None and owner != self.directory:
            # Of a checkout that was deleted the mounts of pods may be left, and not its kubeconfig.
            if (owner / "kubeconfig").exists() and has_processes():
                raise ClusterError(
                    f"A local cluster of {owner} runs on this machine, and two at once would share its network: "
                    f"end that one first (`make cluster-down` there), or use it with DSPY_CACHE={owner.parent}."
                )
            EmbeddedCluster(owner)._end()
        self.directory.mkdir(parents=True, exist_ok=True)
        write_atomically(node.OWNER, str(self.directory))

    def _list_steps(self) -> list[tuple[str, Callable[[], None]]]:
        plane = self.control_plane
        return [
            ("certificates", self._ensure_credentials),
            ("network of the node", self._prepare_network),
            ("etcd", plane.start_etcd),
            ("API server", plane.start_api_server),
            ("controller manager, scheduler", self._start_controllers),
            ("containerd", self.first.start_containerd),
            ("kubelet", self._start_kubelet),
            ("kube-proxy", self._start_proxy),
            ("DNS", self._start_dns),
        ]

    def _ensure_credentials(self) -> None:
        plane = self.control_plane
        plane.ensure_credentials()
        for name, subject in CLIENTS.items():
            plane.pki.ensure_certificate(name, subject)
            plane.ensure_client(name)

    def _prepare_network(self) -> None:
        host.add_node(node.FIRST)
        host.prepare_network(self.directory)

    def _start_controllers(self) -> None:
        self.control_plane.start_controllers()
        arguments = node.build_scheduler_arguments(self.directory, self.ports)
        self.process("kube-scheduler").start([tool("kube-scheduler"), *arguments])

    def _start_kubelet(self) -> None:
        marker = self.directory / "had-kubelet-directory"
        if host.KUBELET_DIRECTORY.exists() and not (self.directory / "kubelet").exists():
            marker.touch()
        self.first.start_kubelet()

    def _start_proxy(self) -> None:
        proxy = self.process("kube-proxy")
        proxy.start([tool("kube-proxy"), *node.build_proxy_arguments(self.directory, self.ports)])
        url = f"http://127.0.0.1:{self.ports['proxy-health']}/healthz"
        proxy.wait_until(lambda: is_answering(url), READY_SECONDS)

    def _start_dns(self) -> None:
        text = (Path(__file__).parent / "manifests" / "dns.yaml").read_text()
        manifest = Template(text).substitute(ADDRESS=node.FIRST.address, PORT=self.ports["dns"])
        write_atomically(self.directory / "dns.yaml", manifest)
        kubectl(self, "apply", "--server-side", "-f", str(self.directory / "dns.yaml"))
        config = self.directory / "Corefile"
        forward = os.environ.get("DSPY_DNS_FORWARD") == "1"
        kubeconfig = self.directory / "local-dns.kubeconfig"
        write_atomically(config, node.build_corefile(kubeconfig, self.ports, forward=forward))
        dns = self.process("coredns")
        dns.start([tool("coredns"), "-conf", config])
        url = f"http://127.0.0.1:{self.ports['dns-ready']}/ready"
        dns.wait_until(lambda: is_answering(url), READY_SECONDS)

    def _stop_pods(self) -> None:
        for worker in (self.second, self.first):
            worker.stop()
        self.process("kube-proxy").stop()
        # Not `tool`, which would build it anew when its source has changed since.
        proxy = get_cache() / "bin" / "kube-proxy"
        if proxy.exists():
            subprocess.run([proxy, "--cleanup"], capture_output=True, check=False)

    def _clean_up(self) -> None:
        if not (self.directory.exists() or node.RUN.exists()):
            return
        host.unmount([self.directory, node.RUN])
        host.delete_cgroups()
        host.restore_network(self.directory)
        had = (self.directory / "had-kubelet-directory").exists()
        host.delete_traces(self.directory, had_kubelet_directory=had)
        shutil.rmtree(self.directory, ignore_errors=True)


def get_embedded() -> EmbeddedCluster:
    """The local cluster of this checkout, running or not."""
    return EmbeddedCluster(get_cache() / "node")


def find_owner() -> Path | None:
    """The state directory of the cluster that was started on this machine last, unless it was ended."""
    return Path(node.OWNER.read_text()) if node.OWNER.exists() else None


def has_processes() -> bool:
    """Whether any process of the machine's local cluster lives."""
    return any(Process(name, node.RUN, node.RECORDS).find_pid() for name in PROCESSES)
