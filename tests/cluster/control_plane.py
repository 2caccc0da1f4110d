"""etcd and the API server, and what is asked of them: the part that both tiers share.

`api_tier` runs these alone, `embedded` runs a whole node beside them.
"""

import json
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.cluster.builds import tool
from tests.cluster.pki import ADMIN, SERVER_NAMES, Pki
from tests.cluster.processes import Process
from tests.cluster.state import choose_ports

SERVICE_RANGE = "10.96.0.0/16"
FIRST_SERVICE = "10.96.0.1"
POD_RANGE = "10.244.0.0/16"
LOOPBACK = "127.0.0.1"
READY_SECONDS = 120
PORTS = ("etcd", "etcd-peer", "apiserver", "controller-manager")
CLIENTS = {
    ADMIN: "/O=system:masters/CN=admin",
    "kube-controller-manager": "/CN=system:kube-controller-manager",
    "kube-apiserver-kubelet-client": "/O=system:masters/CN=kube-apiserver-kubelet-client",
}


@dataclass(frozen=True)
class ControlPlane:
    """etcd, API server and controller manager of one state directory.

    address: what the API server binds to and tells pods; loopback where no pod will run.
    die_with_us: end the processes when the calling process dies (tests).
    records: where pids are noted, if not in the state directory.
    """

    directory: Path
    address: str = LOOPBACK
    die_with_us: bool = False
    records: Path | None = None

    @cached_property
    def ports(self) -> dict[str, int]:
        """Free ports, picked at the first start and kept."""
        return choose_ports(self.directory / "ports.json", PORTS)

    @property
    def pki(self) -> Pki:
        """The keys and certificates."""
        return Pki(self.directory / "pki")

    @property
    def url(self) -> str:
        """The API server's address."""
        return f"https://{self.address}:{self.ports['apiserver']}"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.directory / "kubeconfig"

    def process(self, name: str) -> Process:
        """One background process of this directory."""
        return Process(name, self.directory, self.records)

    def ensure_credentials(self) -> None:
        """Make certificates and kubeconfigs."""
        self.pki.ensure_authority()
        addresses = {LOOPBACK, FIRST_SERVICE, self.address}
        names = [
            *(f"DNS:{name}" for name in SERVER_NAMES),
            *(f"IP:{address}" for address in sorted(addresses)),
        ]
        self.pki.ensure_certificate("kube-apiserver", "/CN=kube-apiserver", tuple(names))
        for name, subject in CLIENTS.items():
            self.pki.ensure_certificate(name, subject)
        self.pki.ensure_kubeconfig(ADMIN, self.url, self.kubeconfig)
        self.ensure_client("kube-controller-manager")

    def ensure_client(self, name: str) -> Path:
        """The kubeconfig of a component whose certificate exists."""
        return self.pki.ensure_kubeconfig(name, self.url, self.directory / f"{name}.kubeconfig")

    def start_etcd(self) -> None:
        """Start etcd and wait until it is healthy."""
        etcd = self.process("etcd")
        etcd.start([tool("etcd"), *self.build_etcd_arguments()], die_with_us=self.die_with_us)
        url = f"http://{LOOPBACK}:{self.ports['etcd']}/health"
        etcd.wait_until(lambda: is_answering(url), READY_SECONDS)

    def start_api_server(self, *extra: str) -> None:
        """Start the API server and wait until `/readyz` says so."""
        server = self.process("kube-apiserver")
        arguments = [*self.build_api_server_arguments(), *extra]
        server.start([tool("kube-apiserver"), *arguments], die_with_us=self.die_with_us)
        server.wait_until(lambda: is_answering(f"{self.url}/readyz", self.pki.ca), READY_SECONDS)

    def start_controllers(self) -> None:
        """Start the controller manager; it is ready when the API server is."""
        manager = self.process("kube-controller-manager")
        manager.start(
            [tool("kube-controller-manager"), *self.build_controller_arguments()],
            die_with_us=self.die_with_us,
        )
        url = f"https://{LOOPBACK}:{self.ports['controller-manager']}/healthz"
        manager.wait_until(lambda: is_answering(url), READY_SECONDS)

    def build_etcd_arguments(self) -> list[str]:
        """etcd's flags: loopback only, and no fsync, as nothing here must survive a power cut."""
        client = f"http://{LOOPBACK}:{self.ports['etcd']}"
        peer = f"http://{LOOPBACK}:{self.ports['etcd-peer']}"
        return [
            f"--data-dir={self.directory / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]

    def build_api_server_arguments(self) -> list[str]:
        """The API server's flags."""
        pki = self.pki
        return [
            f"--etcd-servers=http://{LOOPBACK}:{self.ports['etcd']}",
            f"--bind-address={self.address}",
            f"--advertise-address={self.address}",
            f"--secure-port={self.ports['apiserver']}",
            f"--tls-cert-file={pki.certificate('kube-apiserver')}",
            f"--tls-private-key-file={pki.key('kube-apiserver')}",
            f"--client-ca-file={pki.ca}",
            f"--service-account-key-file={pki.service_account_key.with_suffix('.pub')}",
            f"--service-account-signing-key-file={pki.service_account_key}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            f"--kubelet-client-certificate={pki.certificate('kube-apiserver-kubelet-client')}",
            f"--kubelet-client-key={pki.key('kube-apiserver-kubelet-client')}",
            "--kubelet-preferred-address-types=InternalIP",
            f"--cert-dir={self.directory / 'generated'}",
        ]

    def build_controller_arguments(self) -> list[str]:
        """The controller manager's flags."""
        pki = self.pki
        kubeconfig = self.directory / "kube-controller-manager.kubeconfig"
        return [
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            f"--bind-address={LOOPBACK}",
            f"--secure-port={self.ports['controller-manager']}",
            "--use-service-account-credentials",
            "--leader-elect=false",
            "--allocate-node-cidrs",
            f"--cluster-cidr={POD_RANGE}",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            f"--cluster-signing-cert-file={pki.ca}",
            f"--cluster-signing-key-file={pki.key('ca')}",
            f"--root-ca-file={pki.ca}",
            f"--service-account-private-key-file={pki.service_account_key}",
            f"--cert-dir={self.directory / 'generated'}",
            f"--flex-volume-plugin-dir={self.directory / 'volume-plugins'}",
        ]


def is_answering(url: str, ca: Path | None = None) -> bool:
    """Whether a GET answers 200 (etcd: and says that it is healthy). Without `ca` a server is not verified."""
    context = ssl.create_default_context(cafile=ca) if ca else ssl._create_unverified_context()
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        with opener.open(url, timeout=2) as answer:
            body = answer.read()
    except (OSError, urllib.error.HTTPError):
        return False
    return not url.endswith("/health") or json.loads(body)["health"] == "true"
