"""What the Dockerfiles make is what the local build makes, byte for byte, and nothing of the machine that built it."""

import hashlib
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from tests.cluster.buildah_images import SETTINGS, Storage, build_base_image
from tests.cluster.images import PROGRAMS, Program, build_local_images
from tests.cluster.oci import Layer

pytestmark = [
    pytest.mark.tools,
    pytest.mark.skipif(os.geteuid() != 0, reason="root makes the containers"),
]
OURS = "opt/"
INSTALLERS = (
    ".dist-info/INSTALLER",
    ".dist-info/RECORD",
)  # which installer it was, and what it calls its own
MOUNT_POINTS = {"etc/hostname", "etc/resolv.conf"}  # what buildah leaves of a step, empty


def read_layers(layers: Iterable[Layer]) -> dict[str, str]:
    """What lies where in an image: mode and content of a file, and only that it is there of all else."""
    found = {}
    for layer in layers:
        with tarfile.open(layer.path) as tar:
            for entry in tar:
                file = tar.extractfile(entry) if entry.isreg() else None
                found[entry.name] = describe(entry.mode, file.read()) if file else "no file"
    return found


def read_tree(root: Path) -> dict[str, str]:
    """The same of a mounted image."""
    found = {}
    for folder, folders, files in os.walk(root):
        for path in (Path(folder, name) for name in (*folders, *files)):
            is_file = path.is_file() and not path.is_symlink()
            described = describe(path.stat().st_mode, path.read_bytes()) if is_file else "no file"
            found[str(path.relative_to(root))] = described
    return found


def describe(mode: int, content: bytes) -> str:
    return f"{mode & 0o7777:o} {hashlib.sha256(content).hexdigest()}"


def pick_ours(tree: dict[str, str]) -> dict[str, str]:
    return {
        path: what for path, what in tree.items() if path.startswith(OURS) and not path.endswith(INSTALLERS)
    }


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: str(program.name))
def test_a_dockerfile_makes_the_local_build_s_image(program: Program, storage: Storage) -> None:
    local = build_local_images([program.name])[program.name]
    expected = read_layers(local.layers)  # at once: another checkout that shares the cache may replace them
    reference = storage.build(program.name)
    config = storage.read_config(reference)
    del config["Labels"]  # buildah's version
    assert config == local.runtime.to_config()
    with storage.mounted(reference) as root:
        built = read_tree(root)
    assert pick_ours(built) == pick_ours(expected)
    assert sum(path.endswith(".pyc") for path in pick_ours(built)) > 1000


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: str(program.name))
def test_nothing_of_the_machine_stays_in_the_image(program: Program, storage: Storage) -> None:
    reference = storage.build(program.name)
    with storage.mounted(reference) as root:
        built = read_tree(root)
        assert list((root / SETTINGS).iterdir()) == []
        assert [(root / path).read_bytes() for path in sorted(MOUNT_POINTS)] == [b"", b""]
    others = {path for path in built if not path.startswith(OURS)}
    assert others - read_layers(build_base_image().layers).keys() - {"opt"} == MOUNT_POINTS
