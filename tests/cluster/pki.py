"""The cluster's certificates, made with openssl: one authority, one certificate per component.

Each step of a start asks for what it needs; a certificate that exists is kept.
"""

import base64
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml
from tests.cluster.processes import ClusterError
from tests.cluster.state import write_atomically

DAYS = "3650"
SERVER_NAMES = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
ADMIN = "admin"


@dataclass(frozen=True)
class Pki:
    """Keys and certificates in one directory, readable by us alone."""

    directory: Path

    @property
    def ca(self) -> Path:
        """The authority's certificate."""
        return self.directory / "ca.crt"

    @property
    def service_account_key(self) -> Path:
        """The key that signs the tokens of service accounts (its public half beside it, `.pub`)."""
        return self.directory / "sa.key"

    def certificate(self, name: str) -> Path:
        """A component's certificate."""
        return self.directory / f"{name}.crt"

    def key(self, name: str) -> Path:
        """A component's private key."""
        return self.directory / f"{name}.key"

    def ensure_authority(self) -> None:
        """Make the authority and the service accounts' key pair when they are missing."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self.ca.exists():
            self._issue(
                "ca", "/CN=dspy-local-ca", [], ["-addext", "keyUsage=critical,keyCertSign,digitalSignature"]
            )
        public = self.service_account_key.with_suffix(".pub")
        if not public.exists():
            key = str(self.service_account_key)
            openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
            openssl("pkey", "-in", key, "-pubout", "-out", str(public))

    def ensure_certificate(self, name: str, subject: str, alternatives: tuple[str, ...] = ()) -> None:
        """Make one certificate for a client, and for a server when it has alternative names (`DNS:…`, `IP:…`)."""
        if self.certificate(name).exists():
            return
        usage = "clientAuth,serverAuth" if alternatives else "clientAuth"
        extensions = ["-addext", f"extendedKeyUsage={usage}", "-addext", "basicConstraints=critical,CA:FALSE"]
        if alternatives:
            extensions += ["-addext", f"subjectAltName={','.join(alternatives)}"]
        authority = ["-CA", str(self.ca), "-CAkey", str(self.key("ca"))]
        self._issue(name, subject, authority, extensions)

    def ensure_kubeconfig(self, name: str, server: str, path: Path) -> Path:
        """Write the kubeconfig of one client; the key material is inside, so it can be copied."""

        def encode(file: Path) -> str:
            return base64.b64encode(file.read_bytes()).decode()

        user = {
            "client-certificate-data": encode(self.certificate(name)),
            "client-key-data": encode(self.key(name)),
        }
        cluster = {"server": server, "certificate-authority-data": encode(self.ca)}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "local", "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "local", "context": {"cluster": "local", "user": name}}],
            "current-context": "local",
        }
        write_atomically(path, yaml.safe_dump(content), mode=0o600)
        return path

    def _issue(self, name: str, subject: str, authority: list[str], extensions: list[str]) -> None:
        temporary = self.certificate(name).with_suffix(".new")
        new_key = [
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-noenc",
            "-keyout",
            str(self.key(name)),
        ]
        openssl(
            *("req", "-x509", "-days", DAYS, "-subj", subject, *new_key),
            *(*authority, *extensions, "-out", str(temporary)),
        )
        temporary.rename(self.certificate(name))


def openssl(*arguments: str) -> None:
    """Run openssl 3; ClusterError with its own words when it fails."""
    command = shutil.which("openssl")
    if command is None:
        raise ClusterError("openssl is missing: apt-get install openssl")
    done = subprocess.run([command, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClusterError(f"openssl {arguments[0]} failed: {done.stderr.strip()}")
