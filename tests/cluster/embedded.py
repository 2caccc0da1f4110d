"""A whole Kubernetes cluster of one node on this machine, without Docker: every component is a process of ours.

Read `start` and `stop`: the order in which things happen. Files and flags are in `node`, the machine in `host`.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from string import Template

from tests.cluster import containers, host, node
from tests.cluster.builds import tool
from tests.cluster.control_plane import ControlPlane, is_answering
from tests.cluster.images import build_pause_image
from tests.cluster.preflight import check_machine
from tests.cluster.processes import ClusterError, Process
from tests.cluster.provider import GATEWAY_NAMESPACE, GATEWAY_SERVICE, LoadableImage, kubectl
from tests.cluster.state import choose_ports, get_cache, locked, step, write_atomically

PORTS = ("kubelet", "kubelet-health", "proxy-health", "proxy-metrics", "scheduler", "dns", "dns-ready")
CLIENTS = {
    "kube-scheduler": "/CN=system:kube-scheduler",
    "kube-proxy": "/CN=system:kube-proxy",
    "local-dns": "/CN=local-dns",
}
KUBELET_SUBJECT = f"/O=system:nodes/CN=system:node:{node.NODE}"
# Also the order of ending, read backwards, but for the kubelet and its pods, which go first.
PROCESSES = (
    *("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"),
    *("containerd", "kubelet", "kube-proxy", "coredns"),
)
NODE_SECONDS = 120
KUBELET_ATTEMPTS = 5


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
    def content(self) -> Path:
        """containerd's images: kept when the cluster ends."""
        return self.directory.with_name("containerd")

    @cached_property
    def control_plane(self) -> ControlPlane:
        """etcd, API server, controller manager."""
        return ControlPlane(self.directory, node.NODE_ADDRESS, records=node.RECORDS)

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
        if image.reference not in containers.list_images():
            containers.import_image(image)
        return image.reference

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
            ("network of the node", lambda: host.prepare_network(self.directory)),
            ("etcd", plane.start_etcd),
            ("API server", plane.start_api_server),
            ("controller manager, scheduler", self._start_controllers),
            ("containerd", self._start_containerd),
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
        names = (f"DNS:{node.NODE}", f"IP:{node.NODE_ADDRESS}")
        plane.pki.ensure_certificate("kubelet", KUBELET_SUBJECT, names)
        plane.ensure_client("kubelet")

    def _start_controllers(self) -> None:
        self.control_plane.start_controllers()
        arguments = node.build_scheduler_arguments(self.directory, self.ports)
        self.process("kube-scheduler").start([tool("kube-scheduler"), *arguments])

    def _start_containerd(self) -> None:
        network = self.directory / "cni"
        snapshotter = containers.choose_snapshotter(self.content)
        config = self.directory / "containerd.toml"
        write_atomically(config, node.build_containerd_config(self.content, network, snapshotter))
        write_atomically(network / "10-dspy.conflist", node.build_cni_config())
        containerd = self.process("containerd")
        containerd.start(["containerd", "--config", config])
        containerd.wait_until(containers.is_ready, NODE_SECONDS)
        self.load_image(build_pause_image())

    def _start_kubelet(self) -> None:
        state = self.directory
        config = node.build_kubelet_config(state, self.control_plane.pki.ca, self.ports)
        write_atomically(state / "kubelet.yaml", config)
        marker = state / "had-kubelet-directory"
        if host.KUBELET_DIRECTORY.exists() and not (state / "kubelet").exists():
            marker.touch()
        kubelet = self.process("kubelet")
        ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"

        def is_node_ready() -> bool:
            with suppress(ClusterError):  # not registered yet
                return kubectl(self, "get", "node", node.NODE, "-o", ready) == "True"
            return False

        for attempt in range(KUBELET_ATTEMPTS):
            kubelet.start([tool("kubelet"), *node.build_kubelet_arguments(state)])
            try:
                kubelet.wait_until(is_node_ready, NODE_SECONDS)
            except ClusterError:
                # containerd answers before its part for pods does, and the kubelet does not wait for that.
                if kubelet.find_pid() is not None or attempt == KUBELET_ATTEMPTS - 1:
                    raise
                time.sleep(1)
            else:
                return

    def _start_proxy(self) -> None:
        proxy = self.process("kube-proxy")
        proxy.start([tool("kube-proxy"), *node.build_proxy_arguments(self.directory, self.ports)])
        url = f"http://127.0.0.1:{self.ports['proxy-health']}/healthz"
        proxy.wait_until(lambda: is_answering(url), NODE_SECONDS)

    def _start_dns(self) -> None:
        text = (Path(__file__).parent / "manifests" / "dns.yaml").read_text()
        manifest = Template(text).substitute(ADDRESS=node.NODE_ADDRESS, PORT=self.ports["dns"])
        write_atomically(self.directory / "dns.yaml", manifest)
        kubectl(self, "apply", "--server-side", "-f", str(self.directory / "dns.yaml"))
        config = self.directory / "Corefile"
        forward = os.environ.get("DSPY_DNS_FORWARD") == "1"
        kubeconfig = self.directory / "local-dns.kubeconfig"
        write_atomically(config, node.build_corefile(kubeconfig, self.ports, forward=forward))
        dns = self.process("coredns")
        dns.start([tool("coredns"), "-conf", config])
        url = f"http://127.0.0.1:{self.ports['dns-ready']}/ready"
        dns.wait_until(lambda: is_answering(url), NODE_SECONDS)

    def _stop_pods(self) -> None:
        self.process("kubelet").stop()
        if (self.directory / "containerd.toml").exists():
            # A containerd that ended by itself left its containers behind, and only it can name them.
            containerd = self.process("containerd")
            containerd.start(["containerd", "--config", self.directory / "containerd.toml"])
            containerd.wait_until(containers.is_ready, NODE_SECONDS)
            host.delete_namespaces(containers.delete_containers())
            containerd.stop()
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
