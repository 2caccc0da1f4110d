"""Whether this machine can run the local cluster, said before anything is changed: one sentence per thing missing."""

import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.debian import install_packages, list_missing_packages
from tests.cluster.processes import ClusterError
from tests.cluster.state import step

DISK_BYTES = 8e9
MEMORY_KIB = 4_000_000
# Sockets of the kubelet lie below; a socket's path has at most 107 bytes.
LONGEST_CACHE = 60


@dataclass(frozen=True)
class Machine:
    """What matters of a machine; memory in KiB, disk in free bytes below the cache."""

    system: str
    user: int
    has_cgroups: bool
    filesystems: str
    memory_kib: int
    disk_bytes: float
    cache: Path


def check_machine(cache: Path) -> None:
    """Install the Debian packages that are missing; ClusterError when something else is."""
    problems = list_problems(read_machine(cache))
    if problems:
        raise ClusterError("The local cluster cannot run here: " + "; ".join(problems) + ".")
    missing = list_missing_packages()
    if missing:
        with step(f"apt-get install {' '.join(missing)}"):
            install_packages(missing)


def read_machine(cache: Path) -> Machine:
    """This machine; what only Linux can tell is nothing elsewhere."""
    is_linux = platform.system() == "Linux"
    cgroups = Path("/sys/fs/cgroup")
    return Machine(
        system=platform.system(),
        user=os.geteuid(),
        has_cgroups=cgroups.is_dir() and any(cgroups.iterdir()),
        filesystems=Path("/proc/filesystems").read_text() if is_linux else "",
        memory_kib=int(Path("/proc/meminfo").read_text().split()[1]) if is_linux else 0,
        disk_bytes=shutil.disk_usage(cache).free,
        cache=cache,
    )


def list_problems(machine: Machine) -> list[str]:
    """What stands in the way, as the ends of one sentence."""
    memory, disk, cache = machine.memory_kib / 1e6, machine.disk_bytes / 1e9, machine.cache
    checks = {
        f"it needs Linux, and this is {machine.system}": machine.system == "Linux",
        "it needs root": machine.user == 0,
        "there are no cgroups below /sys/fs/cgroup": machine.has_cgroups,
        "the kernel has no overlay file system": "overlay" in machine.filesystems,
        f"it needs 4 GB of memory, and there are {memory:.1f}": machine.memory_kib >= MEMORY_KIB,
        f"it needs 8 GB of free disk below {cache}, and there are {disk:.1f}": machine.disk_bytes
        >= DISK_BYTES,
        f"the path {cache} is too long for sockets ({LONGEST_CACHE} characters at most): set DSPY_CACHE": (
            len(str(cache)) <= LONGEST_CACHE
        ),
    }
    return [sentence for sentence, is_fine in checks.items() if not is_fine]
