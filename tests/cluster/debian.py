"""What comes from Debian: the packages of the node itself, and the base root of the images.

Mirrors are those of the machine's own apt configuration.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.cluster.processes import ClusterError
from tests.cluster.state import locked, step
from tests.cluster.versions import get_version

# What a package brings, by a file of it: dpkg is not asked, so that a program installed by hand counts too.
NODE_PACKAGES = {
    "containerd": "containerd",
    "runc": "runc",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "iptables": "iptables",
    "iproute2": "ip",
    "openssl": "openssl",
    "debootstrap": "debootstrap",
}
# Programs that tests run and Go does not build, by the package that brings them.
TEST_PACKAGES = {"redis-server": "redis-server", "buildah": "buildah"}
BASE_PACKAGES = ("python3-minimal", "libpython3-stdlib", "ca-certificates")
UNWANTED = (
    *("var/cache/apt", "var/lib/apt/lists", "var/log", "usr/share/doc", "usr/share/man", "usr/share/locale"),
    *("usr/share/info", "etc/apt/sources.list", "etc/hostname", "etc/resolv.conf", "etc/machine-id", "build"),
)


def run(*command: str | Path, cwd: Path | None = None, environment: dict[str, str] | None = None) -> str:
    """Run a command to its end and return what it printed; ClusterError with its last lines when it fails."""
    settings = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"} | (environment or {})
    done = subprocess.run(command, cwd=cwd, env=settings, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise ClusterError(f"`{' '.join(map(str, command))}` failed:\n{last}")
    return done.stdout


def debian_program(name: str) -> Path:
    """The path of a program that a test needs from Debian (`redis-server`); its package is installed when missing."""
    if shutil.which(name) is None and os.geteuid() != 0:
        raise ClusterError(
            f"Missing on this machine: {name} (on Debian: apt-get install {TEST_PACKAGES[name]})."
        )
    if shutil.which(name) is None:
        with locked("apt"), step(f"apt-get install {TEST_PACKAGES[name]}"):
            install_packages([TEST_PACKAGES[name]])
    found = shutil.which(name)
    if found is None:
        raise ClusterError(f"Debian's {TEST_PACKAGES[name]} brought no {name}.")
    return Path(found)


def list_missing_packages() -> list[str]:
    """The Debian packages that the local node still needs."""
    return [package for package, program in NODE_PACKAGES.items() if shutil.which(program) is None]


def install_packages(packages: Sequence[str]) -> None:
    """Install Debian packages; their services are not started: we start our own, with our own directories."""
    command = f"apt-get install --no-install-recommends {' '.join(packages)}"
    if shutil.which("apt-get") is None:
        raise ClusterError(f"Missing on this machine: {', '.join(packages)} (on Debian: {command}).")
    policy = Path("/usr/sbin/policy-rc.d")
    forbid = not policy.exists()
    if forbid:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        run("apt-get", "update", "-qq")
        run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages)
    finally:
        if forbid:
            policy.unlink()


def find_mirror() -> str | None:
    """The Debian mirror of this machine's apt configuration, or None: debootstrap then takes its own default."""
    listing = run(
        "apt-get", "indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)", "Created-By: Packages"
    )
    rows = [line.split("|") for line in listing.splitlines()]
    return next((uri for origin, label, uri in rows if (origin, label) == ("Debian", "Debian")), None)


def make_base_root(root: Path) -> None:
    """Make the base of every image, a small Debian with Python, below a directory that does not exist yet."""
    temporary = root.with_name(f"{root.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    include = f"--include={','.join(BASE_PACKAGES)}"
    command = ["debootstrap", "--variant=minbase", include, get_version("DEBIAN"), str(temporary)]
    mirror = find_mirror()
    run(*command, *([mirror] if mirror else []))
    found = run(
        "chroot", temporary, "python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"
    ).strip()
    if found != get_version("PYTHON"):
        raise ClusterError(
            f"Debian {get_version('DEBIAN')} brings Python {found}; correct PYTHON in versions.env."
        )
    temporary.rename(root)


def is_wanted(path: str) -> bool:
    """Whether a path of the base root goes into the image: no devices, no caches, nothing of the build machine."""
    top, _, rest = path.partition("/")
    return not (top in {"proc", "sys", "dev", "run", "tmp"} and rest) and path not in UNWANTED
