"""The server's image under plain runc, as its README runs it alone: confined, and ready without a network.

The image is the local build; `tests/unit/cluster/test_images.py` holds the Dockerfile equal to it.
"""

import json
import os
import runpy
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.cluster.debian import run
from tests.cluster.images import build_local_images
from tests.cluster.oci import Image
from tests.cluster.state import REPOSITORY
from tests.unit.serving.worlds import build_demos, dump_program

pytestmark = [
    pytest.mark.tools,
    pytest.mark.skipif(
        shutil.which("runc") is None or os.geteuid() != 0,
        reason="runc, which the local cluster brings, and root make the container",
    ),
]
EXAMPLE = REPOSITORY / "examples" / "support-triage" / "support_triage.py"
PROGRAM = "/program"
ARGUMENTS = (
    *("--config", f"{PROGRAM}/config.json"),
    *("--module", "support_triage:Triage", "--artifact", f"{PROGRAM}/program.json"),
)
WITHIN = 6  # seconds, what the image promises; printed, as a busy machine is slow
PATIENCE = 30
ASK_UNTIL_READY = f"""
import time, urllib.request
end = time.monotonic() + {PATIENCE}
while True:
    try:
        print(urllib.request.urlopen("http://127.0.0.1:8080/ready", timeout=5).status)
        break
    except OSError:
        if time.monotonic() > end:
            raise
        time.sleep(0.05)
"""


@dataclass(frozen=True)
class Container:
    """The server in its container; `pid` is the process as this machine sees it."""

    image: Image
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


def build_bundle(image: Image, bundle: Path, program: Path) -> None:
    """Unpack the image and write runc's configuration; nothing is allowed that the server was not promised."""
    root = bundle / "rootfs"
    root.mkdir(parents=True)
    for layer in image.layers:
        run("tar", "--extract", f"--file={layer.path}", f"--directory={root}", "--preserve-permissions")
    runtime = image.runtime
    user, group = (int(part) for part in runtime.user.split(":"))
    none = {name: [] for name in ("bounding", "effective", "inheritable", "permitted", "ambient")}
    process = {
        "user": {"uid": user, "gid": group},
        "args": [*runtime.entrypoint, *runtime.command, *ARGUMENTS],
        "env": [*runtime.to_config()["Env"], "DSPY_LM_KEY_0=any-key-of-16-bytes-or-more"],
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
    config = {
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": "rootfs", "readonly": True},
        "mounts": mounts,
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network")],
        },
    }
    (bundle / "config.json").write_text(json.dumps(config))


def write_program(directory: Path) -> None:
    """What a user brings: the example's code, an artifact of it, a configuration whose model nobody can reach."""
    shutil.copy(EXAMPLE, directory)
    program = runpy.run_path(str(EXAMPLE))["Triage"]()
    program.route.demos = build_demos("billing", 4)
    (directory / "program.json").write_bytes(dump_program(program, directory))
    model = {"model": "openai/gpt-4o-mini"}
    config = {"lm": {"primary": model}, "scoring": {"function": "support_triage:score"}}
    (directory / "config.json").write_text(json.dumps(config))
    for path in (directory, *directory.iterdir()):
        path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    directory = tmp_path_factory.mktemp("image")
    bundle, program, log = directory / "bundle", directory / "program", directory / "log"
    program.mkdir()
    write_program(program)
    image = build_local_images(["dspy-server"])["dspy-server"]
    build_bundle(image, bundle, program)
    runc = ("runc", f"--root={directory / 'state'}")
    name = f"dspy-server-{os.getpid()}"
    started = time.monotonic()
    try:
        with log.open("w") as output:
            files = (f"--pid-file={directory / 'pid'}", f"--bundle={bundle}")
            command = (*runc, "run", "--detach", *files, name)
            done = subprocess.run(command, stdout=output, stderr=output, check=False)
        assert done.returncode == 0, log.read_text()
        yield Container(image, int((directory / "pid").read_text()), started, log)
    finally:
        run(*runc, "delete", "--force", name)
        shutil.rmtree(bundle)


def test_the_server_is_ready_without_a_network(
    container: Container, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = container.enter("--net", sys.executable, "-c", ASK_UNTIL_READY)
    seconds = time.monotonic() - container.started
    assert asked.stdout == "200\n", container.log.read_text() + asked.stderr
    with capsys.disabled():
        print(f"\n  the image is ready after {seconds:.1f} s (promised: {WITHIN} s)")
    interfaces = [line.partition(":")[0].strip() for line in container.read("net/dev").splitlines()[2:]]
    assert interfaces == ["lo"]
    assert container.read("net/route").splitlines()[1:] == []


def test_the_server_runs_as_the_image_s_user_without_any_privilege(container: Container) -> None:
    lines = (line.partition(":") for line in container.read("status").splitlines())
    status = {name: value.split() for name, _, value in lines}
    user, group = container.image.runtime.user.split(":")
    assert int(user) > 0
    assert (status["Uid"], status["Gid"]) == ([user] * 4, [group] * 4)
    assert [int(status[name][0], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")] == [0] * 4
    assert status["NoNewPrivs"] == ["1"]


@pytest.mark.parametrize("place", ["/x", "/opt/app/x", "/etc/x", f"{PROGRAM}/x"])
def test_not_even_root_can_write_to_the_root_file_system(container: Container, place: str) -> None:
    touched = container.enter("--mount", "--root", "touch", place)
    assert touched.returncode != 0
    assert "Read-only file system" in touched.stderr
    assert container.enter("--mount", "--root", "touch", "/tmp/x").returncode == 0
