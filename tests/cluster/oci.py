"""Container images written by hand: layers are plain tar files, an archive is a tar of blobs.

No daemon, no registry. An archive is an OCI layout and also what `docker load` reads: containerd, kind, crane take it.
"""

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tests.cluster.state import write_atomically

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True)
class Layer:
    """One uncompressed layer file; its digest is `sha256:…` of the file."""

    path: Path
    digest: str


@dataclass(frozen=True)
class Runtime:
    """What the image does when it starts."""

    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str = "65532:65532"

    def to_config(self) -> dict[str, object]:
        """The `config` object of an image."""
        environment = [f"{name}={value}" for name, value in self.environment.items()]
        return {
            "User": self.user,
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", *environment],
            "Entrypoint": list(self.entrypoint),
            "Cmd": list(self.command),
            "WorkingDir": "/",
        }


def get_architecture() -> str:
    """This machine's architecture as images name it."""
    return ARCHITECTURES[platform.machine()]


def write_layer(path: Path, root: Path, prefix: str = "", keep: Callable[[str], bool] | None = None) -> None:
    """Write a directory as a layer: same content, same bytes.

    Args:
        path: the tar file to write.
        root: the directory.
        prefix: where the directory lies in the image, such as `opt/app`.
        keep: says of a path in the image (without a leading slash) whether it stays; of a directory: with all below it.
    """

    def normalise(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if keep is not None and entry.name and not keep(entry.name):
            return None
        entry.mtime = 0
        entry.uname = entry.gname = ""
        return entry

    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for parent in reversed(Path(prefix).parents[:-1]):
            folder = tarfile.TarInfo(str(parent))
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(folder)
        for child in [root] if prefix else sorted(root.iterdir()):
            tar.add(child, prefix or child.name, filter=normalise)


def read_layer(path: Path) -> Layer:
    """A finished layer; its digest is computed once and kept beside it."""
    known = path.with_suffix(".digest")
    if not known.exists():
        with path.open("rb") as file:
            write_atomically(known, "sha256:" + hashlib.file_digest(file, "sha256").hexdigest())
    return Layer(path, known.read_text())


def build_manifest(layers: Sequence[Layer], runtime: Runtime) -> tuple[bytes, bytes]:
    """The manifest and the configuration blob of an image."""
    config = encode(
        {
            "architecture": get_architecture(),
            "os": "linux",
            "config": runtime.to_config(),
            "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
        }
    )
    blobs = [
        {"mediaType": LAYER_TYPE, "digest": layer.digest, "size": layer.path.stat().st_size}
        for layer in layers
    ]
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": CONFIG_TYPE, "digest": digest(config), "size": len(config)},
        "layers": blobs,
    }
    return encode(manifest), config


def write_archive(path: Path, reference: str, layers: Sequence[Layer], runtime: Runtime) -> None:
    """Write an image as one file that `ctr images import`, `docker load`, kind and crane read."""
    manifest, config = build_manifest(layers, runtime)
    entry = {
        "mediaType": MANIFEST_TYPE,
        "digest": digest(manifest),
        "size": len(manifest),
        "annotations": {"io.containerd.image.name": reference},
    }
    docker = {
        "Config": blob_path(digest(config)),
        "RepoTags": [reference],
        "Layers": [blob_path(layer.digest) for layer in layers],
    }
    temporary = path.with_suffix(".new")
    with tarfile.open(temporary, "w") as tar:
        add_bytes(tar, "oci-layout", encode({"imageLayoutVersion": "1.0.0"}))
        add_bytes(
            tar, "index.json", encode({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [entry]})
        )
        add_bytes(tar, "manifest.json", encode([docker]))
        for blob in (manifest, config):
            add_bytes(tar, blob_path(digest(blob)), blob)
        for layer in layers:
            with layer.path.open("rb") as file:
                add_file(tar, blob_path(layer.digest), file, layer.path.stat().st_size)
    temporary.replace(path)


def get_reference(archive: Path) -> str:
    """The name and tag of the image in an archive."""
    with tarfile.open(archive) as tar:
        file = tar.extractfile("manifest.json")
        if file is None:
            raise ValueError(f"{archive} is no image archive")
        return str(json.load(file)[0]["RepoTags"][0])


def encode(value: object) -> bytes:
    """JSON, the same bytes for the same value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def digest(blob: bytes) -> str:
    """`sha256:…` of some bytes."""
    return "sha256:" + hashlib.sha256(blob).hexdigest()


def blob_path(name: str) -> str:
    """Where a blob lies in an archive."""
    return "blobs/" + name.replace(":", "/")


def add_bytes(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a small file to an archive."""
    add_file(tar, name, io.BytesIO(content), len(content))


def add_file(tar: tarfile.TarFile, name: str, file: IO[bytes], size: int) -> None:
    """Add a file to an archive, with no date in it."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o644
    tar.addfile(entry, file)
