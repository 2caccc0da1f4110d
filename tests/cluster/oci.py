"""Container images written by hand: layers are plain tar files, an archive is a tar of blobs.

No daemon, no registry. An archive is an OCI layout and also what `docker load` reads: containerd, kind, crane take it.
"""

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Callable, Container, Mapping, Sequence
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


@dataclass(frozen=True)
class Image:
    """An image of layers on this disk; without a fixed tag its tag is the hash of its content."""

    name: str
    layers: tuple[Layer, ...]
    runtime: Runtime
    fixed_tag: str = ""

    @property
    def reference(self) -> str:
        """The name and tag by which pods ask for it."""
        tag = self.fixed_tag or digest(self.build_manifest()).removeprefix("sha256:")[:12]
        return f"localhost/{self.name}:{tag}"

    def build_config(self) -> bytes:
        """The configuration blob."""
        return encode(
            {
                "architecture": get_architecture(),
                "os": "linux",
                "config": self.runtime.to_config(),
                "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in self.layers]},
                # Whoever builds on it adds to this list, and there must be as many entries as layers then.
                "history": [{"created_by": "the local build"} for _ in self.layers],
            }
        )

    def build_manifest(self) -> bytes:
        """The manifest blob."""
        config = self.build_config()
        layers = [
            {"mediaType": LAYER_TYPE, "digest": layer.digest, "size": layer.path.stat().st_size}
            for layer in self.layers
        ]
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": CONFIG_TYPE, "digest": digest(config), "size": len(config)},
            "layers": layers,
        }
        return encode(manifest)

    def write(self, stream: IO[bytes], without: Container[str] = ()) -> None:
        """Write one archive that `ctr images import`, `docker load`, kind and crane read.

        Args:
            stream: a file or a pipe.
            without: digests of layers that the reader has already.
        """
        manifest, config = self.build_manifest(), self.build_config()
        with tarfile.open(fileobj=stream, mode="w|") as tar:
            for name, content in self._list_indexes(manifest, config).items():
                add_bytes(tar, name, encode(content))
            for blob in (manifest, config):
                add_bytes(tar, blob_path(digest(blob)), blob)
            for layer in self.layers:
                if layer.digest not in without:
                    with layer.path.open("rb") as file:
                        add_file(tar, blob_path(layer.digest), file, layer.path.stat().st_size)

    def _list_indexes(self, manifest: bytes, config: bytes) -> dict[str, object]:
        entry = {
            "mediaType": MANIFEST_TYPE,
            "digest": digest(manifest),
            "size": len(manifest),
            "annotations": {"io.containerd.image.name": self.reference},
        }
        docker = {
            "Config": blob_path(digest(config)),
            "RepoTags": [self.reference],
            "Layers": [blob_path(layer.digest) for layer in self.layers],
        }
        return {
            "oci-layout": {"imageLayoutVersion": "1.0.0"},
            "index.json": {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [entry]},
            "manifest.json": [docker],
        }


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
