"""Images: the same content has the same name, and both ways of building them agree."""

import dataclasses
import hashlib
import io
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.docker_images import DOCKERFILES
from tests.cluster.images import APPLICATION, COMPILE, INSTALL, PACKAGES, PROGRAMS, Program, hash_tree
from tests.cluster.oci import Image, Runtime, read_layer, write_layer
from tests.cluster.state import REPOSITORY
from tests.cluster.versions import get_version


@pytest.fixture
def root(tmp_path: Path) -> Path:
    directory = tmp_path / "root"
    (directory / "etc").mkdir(parents=True)
    (directory / "etc" / "name").write_text("value")
    (directory / "etc" / "secret").write_text("not for the image")
    return directory


def test_a_layer_of_the_same_content_has_the_same_digest_whenever_it_is_written(
    tmp_path: Path, root: Path
) -> None:
    write_layer(tmp_path / "first.tar", root)
    (root / "etc" / "name").touch()
    write_layer(tmp_path / "second.tar", root)
    assert read_layer(tmp_path / "first.tar").digest == read_layer(tmp_path / "second.tar").digest
    (root / "etc" / "name").write_text("another")
    write_layer(tmp_path / "third.tar", root)
    assert read_layer(tmp_path / "third.tar").digest != read_layer(tmp_path / "first.tar").digest


def test_a_layer_lies_below_its_prefix_and_leaves_out_what_is_not_wanted(tmp_path: Path, root: Path) -> None:
    write_layer(tmp_path / "layer.tar", root, "opt/app", keep=lambda path: "secret" not in path)
    with tarfile.open(tmp_path / "layer.tar") as tar:
        assert tar.getnames() == ["opt", "opt/app", "opt/app/etc", "opt/app/etc/name"]


def test_an_archive_holds_every_blob_that_it_names_under_its_digest(tmp_path: Path, root: Path) -> None:
    image = build_image(tmp_path, root)
    blobs, index = read_archive(image)
    assert all(hashlib.sha256(blob).hexdigest() == name.rpartition("/")[2] for name, blob in blobs.items())
    manifest = json.loads(blobs[index["manifests"][0]["digest"].replace(":", "/")])
    config = json.loads(blobs[manifest["config"]["digest"].replace(":", "/")])
    assert [layer["digest"].replace(":", "/") in blobs for layer in manifest["layers"]] == [True]
    assert index["manifests"][0]["annotations"]["io.containerd.image.name"] == image.reference
    assert config["config"]["User"] == "65532:65532"
    assert config["config"]["Env"][-1] == "HOME=/tmp"


def test_a_layer_that_the_reader_has_is_named_but_not_written(tmp_path: Path, root: Path) -> None:
    image = build_image(tmp_path, root)
    (layer,) = image.layers
    whole, _ = read_archive(image)
    thin, _ = read_archive(image, layer.digest)
    assert whole.keys() - thin.keys() == {layer.digest.replace(":", "/")}


def test_a_tag_follows_the_content_unless_it_is_fixed(tmp_path: Path, root: Path) -> None:
    image = build_image(tmp_path, root)
    other = dataclasses.replace(image, runtime=Runtime(("python3",), ("-h",)))
    assert re.fullmatch(r"localhost/image:[0-9a-f]{12}", image.reference)
    assert image.reference != other.reference
    assert dataclasses.replace(image, fixed_tag="1").reference == "localhost/image:1"


def build_image(directory: Path, root: Path) -> Image:
    """An image of one layer."""
    write_layer(directory / "layer.tar", root)
    return Image(
        "image", (read_layer(directory / "layer.tar"),), Runtime(("python3",), ("-V",), {"HOME": "/tmp"})
    )


def read_archive(image: Image, *without: str) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The blobs of an image's archive by `sha256/HEX`, and its index."""
    stream = io.BytesIO()
    image.write(stream, without)
    stream.seek(0)
    with tarfile.open(fileobj=stream) as tar:
        files = {entry.name: tar.extractfile(entry) for entry in tar.getmembers()}
        content = {name: file.read() for name, file in files.items() if file is not None}
    blobs = {name.removeprefix("blobs/"): blob for name, blob in content.items() if name.startswith("blobs/")}
    return blobs, json.loads(content["index.json"])


def test_the_hash_of_a_source_tree_changes_with_a_byte_and_not_with_bytecode(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("A = 1\n")
    first = hash_tree(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "module.pyc").write_bytes(b"x")
    assert hash_tree(tmp_path) == first
    (tmp_path / "module.py").write_text("A = 2\n")
    assert hash_tree(tmp_path) != first


def list_instructions(name: str) -> list[str]:
    """A Dockerfile's instructions, each with its continued lines joined, without comments."""
    text = re.sub(r"^#.*\n", "", (REPOSITORY / DOCKERFILES[name]).read_text(), flags=re.MULTILINE)
    return [" ".join(line.split()) for line in text.replace("\\\n", " ").splitlines() if line.strip()]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: str(program.name))
def test_the_dockerfile_makes_the_same_image_as_the_local_build(program: Program) -> None:
    runtime = program.runtime
    environment = (f"{name}={value}" for name, value in runtime.environment.items())
    install = (
        f"pip install --no-cache-dir --no-compile {' '.join(INSTALL)} --target /{PACKAGES} -r /tmp/lock.txt"
    )
    compileall = f"python3 -m compileall -qq {' '.join(COMPILE)}"
    assert list_instructions(program.name) == [
        f"ARG BASE={get_version('PYTHON_IMAGE')}",
        "FROM ${BASE} AS packages",
        f"COPY {program.lock} /tmp/lock.txt",
        f"RUN {install} && rm -rf /{PACKAGES}/bin && {compileall} /{PACKAGES}",
        "FROM ${BASE}",
        f"ENV {' '.join(environment)}",
        f"COPY --from=packages /{PACKAGES} /{PACKAGES}",
        f"COPY {program.source} /{APPLICATION}",
        f"RUN {compileall} /{APPLICATION}",
        f"USER {runtime.user}",
        f"ENTRYPOINT {json.dumps(runtime.entrypoint)}",
        f"CMD {json.dumps(runtime.command)}",
    ]
