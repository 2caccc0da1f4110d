"""Images: the same content has the same name, and both ways of building them agree."""

import hashlib
import json
import re
import tarfile
from pathlib import Path

import pytest
from tests.cluster.docker_images import DOCKERFILES
from tests.cluster.images import APPLICATION, PACKAGES, PROGRAMS, Program, hash_tree
from tests.cluster.oci import Runtime, build_manifest, get_reference, read_layer, write_archive, write_layer
from tests.cluster.state import REPOSITORY


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
    write_layer(tmp_path / "layer.tar", root)
    layers = [read_layer(tmp_path / "layer.tar")]
    runtime = Runtime(("python3",), ("-V",), {"HOME": "/tmp"})
    archive = tmp_path / "image.tar"
    write_archive(archive, "localhost/image:1", layers, runtime)
    with tarfile.open(archive) as tar:
        blobs = {name: tar.extractfile(name).read() for name in tar.getnames() if name.startswith("blobs/")}  # type: ignore[union-attr] # all are files
        index = json.load(tar.extractfile("index.json"))  # type: ignore[arg-type] # a file
    assert all(hashlib.sha256(blob).hexdigest() == name.rpartition("/")[2] for name, blob in blobs.items())
    assert f"blobs/{index['manifests'][0]['digest'].replace(':', '/')}" in blobs
    assert get_reference(archive) == "localhost/image:1"
    manifest, config = build_manifest(layers, runtime)
    assert json.loads(config)["config"]["User"] == "65532:65532"
    assert json.loads(manifest)["layers"][0]["digest"] == layers[0].digest


def test_the_hash_of_a_source_tree_changes_with_a_byte_and_not_with_bytecode(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("A = 1\n")
    first = hash_tree(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "module.pyc").write_bytes(b"x")
    assert hash_tree(tmp_path) == first
    (tmp_path / "module.py").write_text("A = 2\n")
    assert hash_tree(tmp_path) != first


def read_dockerfile(name: str) -> str:
    """A Dockerfile with its continued lines joined."""
    return (REPOSITORY / DOCKERFILES[name]).read_text().replace("\\\n", " ")


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: str(program.name))
def test_the_dockerfile_makes_the_same_image_as_the_local_build(program: Program) -> None:
    text = read_dockerfile(program.name)

    def only(pattern: str) -> str:
        (found,) = re.findall(pattern, text, re.MULTILINE)
        return str(found)

    assert json.loads(only(r"^ENTRYPOINT (.*)$")) == list(program.runtime.entrypoint)
    assert json.loads(only(r"^CMD (.*)$")) == list(program.runtime.command)
    assert only(r"^USER (.*)$") == program.runtime.user
    environment = dict(pair.split("=", 1) for pair in only(r"^ENV (.*)$").split())
    assert environment == program.runtime.environment
    assert f"COPY {program.lock} " in text
    assert "--require-hashes" in text
    assert f"--target /{PACKAGES} " in text
    assert f"COPY {program.source} /{APPLICATION}\n" in text
    assert text.count("FROM ${BASE}") == text.count("FROM ") == 2
    assert "ARG BASE=" in text
