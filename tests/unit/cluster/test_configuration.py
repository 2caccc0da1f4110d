"""What the node's programs are told, and what is read from the machine."""

import dataclasses
import itertools
import json
import tomllib
from ipaddress import IPv4Network
from pathlib import Path
from string import Template
from typing import Any

import pytest
import yaml
from tests.cluster import addons, node
from tests.cluster.builds import build_kubernetes_ldflags, list_binaries
from tests.cluster.control_plane import POD_RANGE, ControlPlane
from tests.cluster.debian import is_wanted
from tests.cluster.host import is_our_shim, list_mounts
from tests.cluster.kind import build_kind_config
from tests.cluster.preflight import Machine, list_problems
from tests.cluster.state import choose_ports
from tests.cluster.versions import VERSIONS_FILE, get_version, parse_versions

PORTS = {
    "kubelet": 1,
    "kubelet-health": 2,
    "proxy-health": 3,
    "proxy-metrics": 4,
    "scheduler": 5,
    "dns": 6,
    "dns-ready": 7,
}
FINE = Machine(
    system="Linux",
    user=0,
    has_cgroups=True,
    filesystems="nodev\toverlay\n",
    memory_kib=8_000_000,
    disk_bytes=20e9,
    cache=Path("/srv/checkout/.cache/cluster"),
)


def test_versions_are_parsed_and_a_line_that_is_none_is_refused() -> None:
    assert parse_versions("# a comment\n\nETCD=3.6.4\n") == {"ETCD": "3.6.4"}
    for broken in ("ETCD", "ETCD=", "=1", "A=1\nA=2"):
        with pytest.raises(ValueError, match="is not a new NAME=value"):
            parse_versions(broken)


@pytest.mark.parametrize(
    ("module", "path", "version"),
    [
        ("kube", "k8s.io/kubernetes", get_version("KUBERNETES")),
        ("etcd", "go.etcd.io/etcd/server/v3", get_version("ETCD")),
        ("coredns", "github.com/coredns/coredns", get_version("COREDNS")),
        # Release 3.13.5 is version 0.313.5 of the Go module.
        (
            "prometheus",
            "github.com/prometheus/prometheus",
            f"0.{get_version('PROMETHEUS').replace('.', '', 1)}",
        ),
    ],
)
def test_the_go_modules_and_the_versions_file_name_the_same_versions(
    module: str, path: str, version: str
) -> None:
    words = (VERSIONS_FILE.parent / module / "go.mod").read_text().split()
    assert (path, f"v{version}") in itertools.pairwise(words)


def test_every_staging_module_of_kubernetes_points_at_the_version_that_belongs_to_it() -> None:
    text = (VERSIONS_FILE.parent / "kube" / "go.mod").read_text()
    replaced = [line.split()[-1] for line in text.splitlines() if line.startswith("replace ")]
    assert len(replaced) == 31
    assert set(replaced) == {f"v0.{get_version('KUBERNETES').removeprefix('1.')}"}


def test_components_say_the_version_they_were_built_from() -> None:
    flags = build_kubernetes_ldflags("1.34.4")
    assert "version.gitVersion=v1.34.4" in flags
    assert "version.gitMinor=34" in flags
    assert {"etcd", "kube", "kubectl", "coredns", "helm"} <= list_binaries().keys()


def test_containerd_keeps_to_its_own_directories_and_socket() -> None:
    config = tomllib.loads(
        node.build_containerd_config(node.FIRST, Path("/c/content"), Path("/c/cni"), "native")
    )
    cri = config["plugins"]["io.containerd.grpc.v1.cri"]
    assert config["root"] == "/c/content"
    assert config["grpc"]["address"] == str(node.FIRST.socket)
    assert cri["cni"]["conf_dir"] == "/c/cni"
    assert cri["containerd"]["snapshotter"] == "native"
    assert cri["restrict_oom_score_adj"] is True


def test_the_kubelet_uses_that_socket_and_the_clusters_name_server() -> None:
    config = yaml.safe_load(node.build_kubelet_config(node.FIRST, Path("/s"), Path("/s/pki/ca.crt"), PORTS))
    assert config["containerRuntimeEndpoint"] == f"unix://{node.FIRST.socket}"
    assert config["clusterDNS"] == [node.DNS_ADDRESS]
    assert config["authentication"]["anonymous"] == {"enabled": False}
    assert config["tlsCertFile"] == "/s/pki/node1.crt"


def test_the_pods_network_has_one_bridge_and_its_leases_lie_in_our_run_directory() -> None:
    (bridge,) = json.loads(node.build_cni_config(node.FIRST))["plugins"]
    assert bridge["bridge"] == node.FIRST.bridge
    assert bridge["ipam"]["dataDir"].startswith(str(node.RUN))


def test_two_nodes_of_a_machine_share_nothing_that_only_one_can_have() -> None:
    fields = [dataclasses.asdict(one) | {"socket": one.socket} for one in node.NODES]
    assert all(first != second for first, second in zip(*map(dict.values, fields), strict=True))
    assert all(one.bridge.startswith(node.BRIDGES.rstrip("+")) for one in node.NODES)
    assert all(IPv4Network(one.pod_range).subnet_of(IPv4Network(POD_RANGE)) for one in node.NODES)


def test_unknown_names_are_forwarded_only_when_asked_for() -> None:
    alone = node.build_corefile(Path("/s/dns.kubeconfig"), PORTS, forward=False)
    asking = node.build_corefile(Path("/s/dns.kubeconfig"), PORTS, forward=True)
    assert "forward" not in alone
    assert "forward . /etc/resolv.conf" in asking
    assert f"bind {node.FIRST.address}" in alone


def test_the_api_server_of_a_node_binds_to_the_address_that_pods_reach(tmp_path: Path) -> None:
    flags = ControlPlane(tmp_path, "10.245.0.1").build_api_server_arguments()
    assert {"--bind-address=10.245.0.1", "--advertise-address=10.245.0.1"} <= set(flags)
    alone = ControlPlane(tmp_path).build_api_server_arguments()
    assert "--bind-address=127.0.0.1" in alone


def test_ports_are_picked_once_and_kept(tmp_path: Path) -> None:
    first = choose_ports(tmp_path / "ports.json", ("a", "b"))
    assert len(set(first.values())) == 2
    assert choose_ports(tmp_path / "ports.json", ("a", "b")) == first


def test_prometheus_manifests_are_whole_once_image_and_interval_are_filled_in() -> None:
    text = Template(addons.PROMETHEUS_MANIFEST.read_text()).substitute(
        IMAGE="localhost/prometheus:1", INTERVAL="2s"
    )
    kinds = {document["kind"]: document for document in yaml.safe_load_all(text)}
    settings = yaml.safe_load(kinds["ConfigMap"]["data"]["prometheus.yml"])
    (job,) = settings["scrape_configs"]
    targets = {rule.get("target_label") for rule in job["relabel_configs"]}
    assert {"namespace", "pod", "__address__", "__metrics_path__"} <= targets
    assert settings["global"]["scrape_interval"] == "2s"
    assert "$1:$2" in kinds["ConfigMap"]["data"]["prometheus.yml"]
    assert "$$" not in text


def test_kind_has_one_node_and_opens_the_gateways_port_on_loopback_only() -> None:
    (only,) = yaml.safe_load(build_kind_config())["nodes"]
    assert [mapping["listenAddress"] for mapping in only["extraPortMappings"]] == ["127.0.0.1"]


def test_mounts_below_our_directories_are_listed_longest_first() -> None:
    mountinfo = "\n".join(
        f"{number} 1 0:1 / {point} rw - tmpfs tmpfs rw"
        for number, point in enumerate(["/ours", "/ours/pods/a\\040b", "/ourselves", "/ours/pods", "/"])
    )
    assert list_mounts(mountinfo, [Path("/ours")]) == ["/ours/pods/a b", "/ours/pods", "/ours"]


def test_only_shims_of_our_own_sockets_are_ours() -> None:
    def build_arguments(program: str, socket: str) -> bytes:
        return f"{program}\0-namespace\0k8s.io\0-id\0a\0-address\0{socket}\0".encode()

    assert is_our_shim(build_arguments("/usr/bin/containerd-shim-runc-v2", str(node.FIRST.socket)))
    assert not is_our_shim(
        build_arguments("/usr/bin/containerd-shim-runc-v2", "/run/containerd/containerd.sock")
    )
    assert not is_our_shim(build_arguments("/usr/bin/ctr", str(node.FIRST.socket)))
    assert not is_our_shim(b"")


def test_a_machine_that_has_all_is_accepted() -> None:
    assert list_problems(FINE) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"system": "Darwin"}, "Darwin"),
        ({"user": 1000}, "root"),
        ({"has_cgroups": False}, "cgroups"),
        ({"filesystems": "nodev\ttmpfs\n"}, "overlay"),
        ({"memory_kib": 2_000_000}, "there are 2.0"),
        ({"disk_bytes": 1e9}, "there are 1.0"),
        ({"cache": Path("/" + "x" * 80)}, "DSPY_CACHE"),
    ],
)
def test_each_thing_that_is_missing_is_said(change: dict[str, Any], said: str) -> None:
    (problem,) = list_problems(dataclasses.replace(FINE, **change))
    assert said in problem


def test_the_base_image_takes_nothing_of_the_build_machine_along() -> None:
    assert is_wanted("usr/bin/python3")
    assert is_wanted("dev")
    for unwanted in ("dev/null", "proc/1", "tmp/x", "etc/resolv.conf", "etc/apt/sources.list", "build"):
        assert not is_wanted(unwanted)
