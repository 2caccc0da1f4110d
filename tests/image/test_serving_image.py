"""The server's image under plain runc, as its README runs it alone: confined, and ready without a network.

Twice: the local build, which the local cluster runs, and what the Dockerfile makes.
"""

import json
import os
import runpy
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.cluster.buildah_images import Storage
from tests.cluster.debian import run
from tests.cluster.images import build_local_images
from tests.cluster.oci import Runtime
from tests.cluster.state import REPOSITORY
from tests.image.containers import PROGRAM, Container, running
from tests.unit.serving.worlds import build_demos, dump_program

pytestmark = [
    pytest.mark.tools,
    pytest.mark.skipif(
        shutil.which("runc") is None or os.geteuid() != 0,
        reason="runc, which the local cluster brings, and root make the container",
    ),
]
EXAMPLE = REPOSITORY / "examples" / "support-triage" / "support_triage.py"
WITHIN = 6  # seconds, what the image promises of a processor that is free for it
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


@contextmanager
def unpacked(directory: Path) -> Iterator[tuple[Path, Runtime]]:
    """The local build's root."""
    image, root = build_local_images(["dspy-server"])["dspy-server"], directory / "root"
    root.mkdir()
    for layer in image.layers:
        run("tar", "--extract", f"--file={layer.path}", f"--directory={root}", "--preserve-permissions")
    yield root, image.runtime
    shutil.rmtree(root)


@contextmanager
def built(storage: Storage) -> Iterator[tuple[Path, Runtime]]:
    """The root that the Dockerfile makes."""
    reference = storage.build("dspy-server")
    with storage.mounted(reference) as root:
        yield root, storage.read_runtime(reference)


@pytest.fixture(scope="module", params=["local build", "Dockerfile"])
def container(
    request: pytest.FixtureRequest, storage: Storage, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Container]:
    directory = tmp_path_factory.mktemp("image")
    program = directory / "program"
    program.mkdir()
    write_program(program)
    image = built(storage) if request.param == "Dockerfile" else unpacked(directory)
    with image as (root, runtime), running(root, runtime, program, directory) as container:
        yield container


def test_the_server_is_ready_without_a_network(
    container: Container, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = container.enter("--net", sys.executable, "-c", ASK_UNTIL_READY)
    seconds, waited = container.get_seconds()
    assert asked.stdout == "200\n", container.log.read_text() + asked.stderr
    with capsys.disabled():
        of_them = f"{waited:.1f} s of them for a processor (promised: {WITHIN} s)"
        print(f"\n  {request.node.name} after {seconds:.1f} s, {of_them}")
    assert seconds - waited < WITHIN
    interfaces = [line.partition(":")[0].strip() for line in container.read("net/dev").splitlines()[2:]]
    assert interfaces == ["lo"]
    assert container.read("net/route").splitlines()[1:] == []


def test_the_server_runs_as_the_image_s_user_without_any_privilege(container: Container) -> None:
    lines = (line.partition(":") for line in container.read("status").splitlines())
    status = {name: value.split() for name, _, value in lines}
    user, group = container.runtime.user.split(":")
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
