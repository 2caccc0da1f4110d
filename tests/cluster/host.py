"""What the local node changes on the machine outside its own directory, and how each change is undone.

An address on `lo` and a bridge for each node, a few iptables rules and kernel settings; mounts, cgroups and network
namespaces of pods.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from tests.cluster.control_plane import POD_RANGE, SERVICE_RANGE
from tests.cluster.debian import run
from tests.cluster.node import BRIDGES, NODES, RUN, Node
from tests.cluster.processes import ClusterError
from tests.cluster.state import write_atomically

COMMENT = ["-m", "comment", "--comment", "dspy-cluster"]
# Each is inserted before the one above it. What kube-proxy has not turned into a pod's address by then belongs to no
# Service: it is refused here, for out there anything could answer it.
UNSERVED = ["-d", SERVICE_RANGE, *COMMENT, "-j", "REJECT"]
RULES = (
    ("nat", "POSTROUTING", ["-s", POD_RANGE, "!", "-d", POD_RANGE, *COMMENT, "-j", "MASQUERADE"]),
    ("filter", "FORWARD", ["-i", BRIDGES, *COMMENT, "-j", "ACCEPT"]),
    ("filter", "FORWARD", ["-o", BRIDGES, *COMMENT, "-j", "ACCEPT"]),
    ("filter", "FORWARD", UNSERVED),
    ("filter", "OUTPUT", UNSERVED),
)
SETTINGS = {"net/ipv4/ip_forward": "1", "net/bridge/bridge-nf-call-iptables": "1"}
# Changed by kubelet and kube-proxy themselves, so they are put back too.
FOREIGN_SETTINGS = (
    "vm/overcommit_memory",
    "kernel/panic",
    "kernel/panic_on_oops",
    "net/ipv4/conf/all/route_localnet",
)
KUBELET_LINKS = Path("/var/log/containers")
KUBELET_DIRECTORY = Path("/var/lib/kubelet")
CGROUPS = Path("/sys/fs/cgroup")
# Made by containerd, its shims and CNI whatever they are told; empty when our pods are gone.
SHARED_FOLDERS = ("/run/containerd/s", "/run/containerd/runc/k8s.io", "/run/netns", "/var/lib/cni/results")


def is_done(*command: str) -> bool:
    """Whether a command ends with 0."""
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def has_address(node: Node) -> bool:
    """Whether a node's address is on `lo`."""
    return f" {node.address}/" in run("ip", "-4", "addr", "show", "dev", "lo")


def add_node(node: Node) -> None:
    """Its address, and the cgroup below which its kubelet makes those of its pods."""
    if not has_address(node):
        run("ip", "addr", "add", f"{node.address}/32", "dev", "lo")
    for hierarchy in list_hierarchies():
        (hierarchy / node.cgroup.lstrip("/")).mkdir(exist_ok=True)


def remove_node(node: Node) -> None:
    """Take its bridge and its address away."""
    if (Path("/sys/class/net") / node.bridge).exists():
        run("ip", "link", "delete", node.bridge)
    if has_address(node):
        run("ip", "addr", "del", f"{node.address}/32", "dev", "lo")


def prepare_network(state: Path) -> None:
    """Add the rules and the kernel settings; remember what the settings were."""
    if not (Path("/proc/sys") / "net/bridge").exists():
        is_done("modprobe", "br_netfilter")
    remember_settings(state / "settings.json")
    for name, value in SETTINGS.items():
        (Path("/proc/sys") / name).write_text(value)
    for table, chain, rule in RULES:
        if not is_done("iptables", "-w", "-t", table, "-C", chain, *rule):
            run("iptables", "-w", "-t", table, "-I", chain, *rule)


def remember_settings(file: Path) -> None:
    """Note the kernel settings as they were before the first start."""
    if not file.exists():
        paths = {name: Path("/proc/sys") / name for name in (*SETTINGS, *FOREIGN_SETTINGS)}
        values = {name: path.read_text().strip() for name, path in paths.items() if path.exists()}
        write_atomically(file, json.dumps(values))


def restore_network(state: Path) -> None:
    """Undo `prepare_network`, and take the nodes' addresses and bridges away."""
    for table, chain, rule in RULES:
        while is_done("iptables", "-w", "-t", table, "-D", chain, *rule):
            pass
    for command in ("iptables", "ip6tables"):  # a chain of kube-proxy's that its own clean-up leaves
        for chain in ("INPUT", "OUTPUT"):
            is_done(command, "-w", "-D", chain, "-j", "KUBE-FIREWALL")
        is_done(command, "-w", "-F", "KUBE-FIREWALL")
        is_done(command, "-w", "-X", "KUBE-FIREWALL")
    for node in NODES:
        remove_node(node)
    file = state / "settings.json"
    if file.exists():
        for name, value in json.loads(file.read_text()).items():
            (Path("/proc/sys") / name).write_text(value)
        file.unlink()


def delete_namespaces(namespaces: list[Path]) -> None:
    """Remove pods' network namespaces; their ends of the bridge go with them."""
    for namespace in namespaces:
        if namespace.parent == Path("/var/run/netns") or namespace.parent == Path("/run/netns"):
            is_done("umount", "-l", str(namespace))
            namespace.unlink(missing_ok=True)


def list_mounts(mountinfo: str, roots: list[Path]) -> list[str]:
    """The mount points below some directories, longest first, from the text of `/proc/self/mountinfo`."""
    points = [line.split()[4].encode().decode("unicode_escape") for line in mountinfo.splitlines()]
    below = [point for point in points if any(Path(point).is_relative_to(root) for root in roots)]
    return sorted(below, key=len, reverse=True)


def unmount(roots: list[Path]) -> None:
    """Unmount everything below some directories; ClusterError names what stays."""
    for point in list_mounts(Path("/proc/self/mountinfo").read_text(), roots):
        if not is_done("umount", point):
            is_done("umount", "-l", point)
    left = list_mounts(Path("/proc/self/mountinfo").read_text(), roots)
    if left:
        raise ClusterError(f"Still mounted: {', '.join(left)}; unmount it by hand, then run this again.")


def list_hierarchies() -> list[Path]:
    """The roots of the cgroups: one per controller on cgroup v1, one in all on v2."""
    if (CGROUPS / "cgroup.procs").exists():
        return [CGROUPS]
    return sorted(
        {
            one.resolve()
            for one in CGROUPS.iterdir()
            if (one / "cgroup.procs").exists() and one.name != "unified"
        }
    )


def list_pod_cgroups(name: str = "kubepods*") -> list[Path]:
    """The kubelets' cgroups of pods, or those of one name: one per hierarchy on cgroup v1, one in all on v2."""
    return [*CGROUPS.glob(name), *CGROUPS.glob(f"*/{name}")]


def is_our_shim(arguments: bytes) -> bool:
    """Whether a `/proc/PID/cmdline` is that of a pod's shim of a containerd of ours."""
    words = arguments.split(b"\0")
    is_ours = any(bytes(node.socket) in words for node in NODES)
    return is_ours and words[0].endswith(b"containerd-shim-runc-v2")


def end_leftovers() -> None:
    """End pods whose containerd is gone: their shims, known by our sockets, and what is in the pods' cgroups.

    Nothing is left to end when containerd itself has ended its containers.
    """
    if not RUN.exists():
        return
    for arguments in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            if is_our_shim(arguments.read_bytes()):
                os.kill(int(arguments.parent.name), signal.SIGKILL)
    pod_addresses = [f" {node.pod_range.rpartition('.')[0]}." for node in NODES]
    for namespace in Path("/run/netns").glob("cni-*"):
        told = run("ip", "-n", namespace.name, "-4", "addr")
        if any(address in told for address in pod_addresses):
            delete_namespaces([namespace])
    for root in list_pod_cgroups():
        for file in [*root.rglob("cgroup.procs"), root / "cgroup.procs"]:
            with contextlib.suppress(OSError):
                for pid in file.read_text().split():
                    os.kill(int(pid), signal.SIGKILL)


def delete_cgroups(name: str = "kubepods*") -> None:
    """Remove the pods' cgroups, all or those of one name, once their processes are gone."""
    deadline = time.monotonic() + 10
    while list_pod_cgroups(name) and time.monotonic() < deadline:
        for root in list_pod_cgroups(name):
            folders = sorted(
                (path for path in root.rglob("*") if path.is_dir()), key=lambda path: len(path.parts)
            )
            for folder in [*reversed(folders), root]:
                with contextlib.suppress(OSError):  # still has a process: the next round
                    folder.rmdir()
        time.sleep(0.1)
    if list_pod_cgroups(name):
        raise ClusterError(
            f"Processes are left in {list_pod_cgroups(name)[0]}: end them, then run this again."
        )


def delete_traces(state: Path, *, had_kubelet_directory: bool) -> None:
    """Remove what the programs wrote at fixed places."""
    for link in KUBELET_LINKS.glob("*"):
        if link.is_symlink() and link.readlink().is_relative_to(state):
            link.unlink()
    for folder in (KUBELET_LINKS, *map(Path, SHARED_FOLDERS)):
        for one in (folder, folder.parent):
            with contextlib.suppress(OSError):  # not empty, or not there: not ours alone
                one.rmdir()
    with contextlib.suppress(OSError):
        Path("/run/containerd").rmdir()
    if not had_kubelet_directory:
        shutil.rmtree(KUBELET_DIRECTORY, ignore_errors=True)
    shutil.rmtree(RUN, ignore_errors=True)
