"""Whether this machine can run the local cluster, said before anything is changed: one sentence per thing missing."""

import os
import platform
import shutil
from pathlib import Path

from tests.cluster.debian import install_packages, list_missing_packages
from tests.cluster.processes import ClusterError
from tests.cluster.state import step

DISK_BYTES = 8e9
MEMORY_KIB = 4_000_000
# Sockets of the kubelet lie below; a socket's path has at most 107 bytes.
LONGEST_CACHE = 60


def check_machine(cache: Path) -> None:
    """Install the Debian packages that are missing; ClusterError when something else is."""
    problems = list_problems(
        system=platform.system(),
        user=os.geteuid(),
        has_cgroups=Path("/sys/fs/cgroup").is_dir() and any(Path("/sys/fs/cgroup").iterdir()),
        filesystems=Path("/proc/filesystems").read_text() if platform.system() == "Linux" else "",
        memory_kib=read_memory(),
        disk_bytes=shutil.disk_usage(cache).free,
        cache=cache,
    )
    if problems:
        raise ClusterError("The local cluster cannot run here: " + "; ".join(problems) + ".")
    missing = list_missing_packages()
    if missing:
        with step(f"apt-get install {' '.join(missing)}"):
            install_packages(missing)


def read_memory() -> int:
    """The machine's memory in KiB; 0 where it cannot be read."""
    file = Path("/proc/meminfo")
    return int(file.read_text().split()[1]) if file.exists() else 0


def list_problems(
    *,
    system: str,
    user: int,
    has_cgroups: bool,
    filesystems: str,
    memory_kib: int,
    disk_bytes: float,
    cache: Path,
) -> list[str]:
    """What stands in the way, as the ends of one sentence."""
    checks = {
        f"it needs Linux, and this is {system}": system == "Linux",
        "it needs root": user == 0,
        "there are no cgroups below /sys/fs/cgroup": has_cgroups,
        "the kernel has no overlay file system": "overlay" in filesystems,
        f"it needs 4 GB of memory, and there are {memory_kib / 1e6:.1f}": memory_kib >= MEMORY_KIB,
        f"it needs 8 GB of free disk below {cache}, and there are {disk_bytes / 1e9:.1f}": disk_bytes
        >= DISK_BYTES,
        f"the path {cache} is too long for sockets ({LONGEST_CACHE} characters at most): set DSPY_CACHE": (
            len(str(cache)) <= LONGEST_CACHE
        ),
    }
    return [sentence for sentence, is_fine in checks.items() if not is_fine]
