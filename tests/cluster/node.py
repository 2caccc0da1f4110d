"""What the programs of a node are told: configuration files and flags of containerd, CNI, kubelet, proxy, DNS.

Pure: text and lists out. `embedded` writes the files and starts the programs.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import yaml
from tests.cluster.control_plane import LOOPBACK, POD_RANGE

DNS_ADDRESS = "10.96.0.10"
BRIDGES = "dspy+"  # all of them, as iptables names them
NETWORK = "dspy-local"
RUN = Path("/run/dspy-cluster")
# Not in the state directory, which a person may delete, and gone with the processes when the machine restarts.
RECORDS = RUN / "processes"
OWNER = RUN / "owner"


@dataclass(frozen=True)
class Node:
    """By what nodes on one machine differ.

    `address` is on `lo`, as pods must reach the API server and DNS: their own loopback is not the machine's. Below
    `cgroup` the kubelet makes those of its pods.
    """

    name: str
    address: str
    pod_range: str
    bridge: str
    run: Path
    cgroup: str = "/"

    @property
    def socket(self) -> Path:
        """containerd's."""
        return self.run / "containerd.sock"


FIRST = Node("node1", "10.245.0.1", "10.244.0.0/24", "dspy0", RUN)
SECOND = Node("node2", "10.245.0.2", "10.244.1.0/24", "dspy1", RUN / "node2", "/kubepods-node2")
NODES = (FIRST, SECOND)


def build_containerd_config(node: Node, content: Path, cni: Path, snapshotter: str) -> str:
    """containerd.toml: own directories and socket beside any other containerd of the machine.

    Args:
        node: whose.
        content: where images are kept.
        cni: the directory of the network's configuration.
        snapshotter: `overlayfs`, or `native` where the content lies on an overlay itself.
    """
    return f"""version = 2
root = "{content}"
state = "{node.run}/containerd"
[grpc]
  address = "{node.socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{node.run}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  # Without CAP_SYS_RESOURCE runc fails otherwise: "can't get final child's PID from pipe: EOF".
  restrict_oom_score_adj = true
  disable_apparmor = true
  sandbox_image = "localhost/pause:1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{cni}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = "runc"
"""


def build_cni_config(node: Node) -> str:
    """The pods' network: one bridge a node. Masquerading is one rule of ours (`host`), not one chain per pod."""
    bridge = {
        "type": "bridge",
        "bridge": node.bridge,
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": str(node.run / "leases"),
            "ranges": [[{"subnet": node.pod_range}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    return json.dumps({"cniVersion": "1.0.0", "name": NETWORK, "plugins": [bridge]}, indent=2)


def build_kubelet_config(node: Node, state: Path, ca: Path, ports: dict[str, int]) -> str:
    """kubelet.yaml; `state` is the directory of this kubelet's files."""
    config = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.address,
        "port": ports["kubelet"],
        "healthzBindAddress": LOOPBACK,
        "healthzPort": ports["kubelet-health"],
        "readOnlyPort": 0,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": node.cgroup,
        "failSwapOn": False,
        "containerRuntimeEndpoint": f"unix://{node.socket}",
        "clusterDNS": [DNS_ADDRESS],
        "clusterDomain": "cluster.local",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(ca)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(ca.with_name(f"{node.name}.crt")),
        "tlsPrivateKeyFile": str(ca.with_name(f"{node.name}.key")),
        "evictionHard": {"nodefs.available": "1%", "imagefs.available": "1%", "memory.available": "100Mi"},
        "imageGCHighThresholdPercent": 100,  # images cannot be pulled again
        "podLogsDir": str(state / "pod-logs"),
        "volumePluginDir": str(state / "volume-plugins"),
        "makeIPTablesUtilChains": False,  # nobody would remove them; kube-proxy makes and removes its own
    }
    return yaml.safe_dump(config, sort_keys=False)


def build_kubelet_arguments(node: Node, state: Path, kubeconfig: Path) -> list[str]:
    """The kubelet's flags; `state` is the directory of this kubelet's files."""
    return [
        f"--config={state / 'kubelet.yaml'}",
        f"--kubeconfig={kubeconfig}",
        f"--hostname-override={node.name}",
        f"--node-ip={node.address}",
        f"--root-dir={state / 'kubelet'}",
        f"--cert-dir={state / 'generated'}",
    ]


def build_proxy_arguments(state: Path, ports: dict[str, int]) -> list[str]:
    """kube-proxy's flags, one for the machine; it leaves the machine's connection tracking settings alone."""
    return [
        f"--kubeconfig={state / 'kube-proxy.kubeconfig'}",
        f"--hostname-override={FIRST.name}",
        "--proxy-mode=iptables",
        f"--cluster-cidr={POD_RANGE}",
        "--iptables-localhost-nodeports=false",
        "--conntrack-max-per-core=0",
        "--conntrack-tcp-timeout-established=0",
        "--conntrack-tcp-timeout-close-wait=0",
        f"--healthz-bind-address={LOOPBACK}:{ports['proxy-health']}",
        f"--metrics-bind-address={LOOPBACK}:{ports['proxy-metrics']}",
    ]


def build_scheduler_arguments(state: Path, ports: dict[str, int]) -> list[str]:
    """The scheduler's flags."""
    kubeconfig = state / "kube-scheduler.kubeconfig"
    return [
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        f"--bind-address={LOOPBACK}",
        f"--secure-port={ports['scheduler']}",
        "--leader-elect=false",
        f"--cert-dir={state / 'generated'}",
    ]


def build_corefile(kubeconfig: Path, ports: dict[str, int], *, forward: bool) -> str:
    """The name server's configuration.

    Args:
        kubeconfig: what it reads Services with.
        ports: of this cluster.
        forward: ask the machine's own resolvers for other names; without it they fail at once.
    """
    upstream = "    forward . /etc/resolv.conf\n" if forward else ""
    return f""".:{ports["dns"]} {{
    bind {FIRST.address}
    errors
    ready {LOOPBACK}:{ports["dns-ready"]}
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        kubeconfig {kubeconfig} local
        pods insecure
        ttl 5
        fallthrough in-addr.arpa ip6.arpa
    }}
{upstream}    cache 5
}}
"""
