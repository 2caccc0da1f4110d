"""A container of the server under plain runc: nothing is allowed that the server was not promised."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.debian import run
from tests.cluster.oci import Runtime

PROGRAM = "/program"
ARGUMENTS = (
    *("--config", f"{PROGRAM}/config.json"),
    *("--module", "support_triage:Triage", "--artifact", f"{PROGRAM}/program.json"),
)


@dataclass(frozen=True)
class Container:
    """The server in its container; `pid` is the process as this machine sees it."""

    runtime: Runtime
    pid: int
    started: float
    log: Path

    def read(self, name: str) -> str:
        """What the kernel says of the process, such as `status`."""
        return Path(f"/proc/{self.pid}/{name}").read_text()

    def enter(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run nsenter with these arguments, as this machine's root."""
        arguments = ("nsenter", f"--target={self.pid}", *command)
        return subprocess.run(arguments, capture_output=True, text=True, check=False)

    def get_seconds(self) -> tuple[float, float]:
        """Since the start: on the wall, and how many of them its main thread only waited for a processor."""
        waited = int(self.read("schedstat").split()[1]) / 1e9
        return time.monotonic() - self.started, waited


def build_config(root: Path, runtime: Runtime, program: Path) -> dict[str, object]:
    """runc's configuration: the image's user, no capability, a root that is only read, no network but `lo`."""
    user, group = (int(part) for part in runtime.user.split(":"))
    none = {name: [] for name in ("bounding", "effective", "inheritable", "permitted", "ambient")}
    process = {
        "user": {"uid": user, "gid": group},
        "args": [*runtime.entrypoint, *runtime.command, *ARGUMENTS],
        "env": [*list_environment(runtime), "DSPY_LM_KEY_0=any-key-of-16-bytes-or-more"],
        "cwd": PROGRAM,  # where code is sought
        "capabilities": none,
        "noNewPrivileges": True,
    }
    mounts = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev"]},
        {"destination": PROGRAM, "type": "bind", "source": str(program), "options": ["bind", "ro"]},
    ]
    return {
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": str(root), "readonly": True},
        "mounts": mounts,
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network")],
        },
    }


def list_environment(runtime: Runtime) -> list[str]:
    """`NAME=value`, the path included."""
    environment = runtime.to_config()["Env"]
    assert isinstance(environment, list)
    return environment


@contextmanager
def running(root: Path, runtime: Runtime, program: Path, directory: Path) -> Iterator[Container]:
    """The server of an unpacked image, with the user's program; `directory` is for what runc needs."""
    bundle, log, pid = directory / "bundle", directory / "log", directory / "pid"
    bundle.mkdir()
    (bundle / "config.json").write_text(json.dumps(build_config(root, runtime, program)))
    runc, name = ("runc", f"--root={directory / 'state'}"), f"dspy-server-{os.getpid()}"
    started = time.monotonic()
    try:
        with log.open("w") as output:
            command = (*runc, "run", "--detach", f"--pid-file={pid}", f"--bundle={bundle}", name)
            done = subprocess.run(command, stdout=output, stderr=output, check=False)
        assert done.returncode == 0, log.read_text()
        yield Container(runtime, int(pid.read_text()), started, log)
    finally:
        run(*runc, "delete", "--force", name)
