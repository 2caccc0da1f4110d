"""The same images by their Dockerfiles where no Docker runs: buildah on the local base, no daemon, no registry.

What pip installs comes from the package index, by the machine's own pip configuration; none of it stays in the image.
"""

import ast
import configparser
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.debian import debian_program, run
from tests.cluster.docker_images import DOCKERFILES
from tests.cluster.host import unmount
from tests.cluster.images import PROGRAMS, get_base_layer, get_layer, short_hash
from tests.cluster.oci import Image, Runtime
from tests.cluster.state import REPOSITORY, get_cache, locked, step
from tests.cluster.versions import get_version

SITE = "usr/lib/python3/dist-packages"
SETTINGS = "etc/xdg/pip"  # where pip looks for a machine's settings; empty but for the time of a build
SECTIONS = ("global", "install", ":env:")  # a later one counts more
OPTIONS = ("index-url", "extra-index-url", "trusted-host", "proxy", "cert", "default-timeout", "timeout")


@dataclass(frozen=True)
class Storage:
    """buildah's images and layers, below one directory of the cache.

    Attributes:
        root: what is kept, so that a step whose input is the same is not run again.
        state: what lives as long as this process holds the storage.
    """

    root: Path
    state: Path

    def run(self, *arguments: str | Path) -> str:
        """Run buildah and return what it printed; ClusterError when it fails."""
        places = ("--root", self.root, "--runroot", self.state, "--storage-driver", "overlay")
        return run(debian_program("buildah"), *places, *arguments)

    def build(self, name: str) -> str:
        """Build one of our Dockerfiles on the local base; its reference."""
        base, reference = self._import(build_base_image()), f"localhost/{name}:dockerfile"
        with tempfile.TemporaryDirectory(dir=self.state) as settings, step(f"Dockerfile {name}"):
            write_settings(Path(settings), read_settings())
            self.run(
                *("build-using-dockerfile", "--quiet", "--isolation=chroot", "--layers", "--pull-never"),
                *("--volume", f"{settings}:/{SETTINGS}:ro", "--build-arg", f"BASE={base}"),
                *("--file", REPOSITORY / DOCKERFILES[name], "--tag", reference, REPOSITORY),
            )
        return reference

    def read_config(self, reference: str) -> dict[str, object]:
        """What an image says of how it runs: the `config` object of the specification."""
        config: dict[str, object] = json.loads(self.run("inspect", "--type=image", reference))["OCIv1"][
            "config"
        ]
        return config

    def read_runtime(self, reference: str) -> Runtime:
        """What an image does when it starts; its path is that of all our images."""
        config: dict[str, Any] = self.read_config(reference)
        environment = dict(entry.split("=", 1) for entry in config["Env"])
        del environment["PATH"]
        return Runtime(config["Entrypoint"], config["Cmd"], environment, config["User"])

    @contextmanager
    def mounted(self, reference: str) -> Iterator[Path]:
        """The root of a container of an image: what is changed in it is gone with it."""
        container = self.run("from", "--pull-never", reference).strip()
        try:
            yield Path(self.run("mount", container).strip())
        finally:
            self.run("rm", container)

    def _import(self, image: Image) -> str:
        if image.reference not in self.run("images", "--all", "--format", "{{.Name}}:{{.Tag}}").splitlines():
            archive = self.state / "image.tar"
            with archive.open("wb") as file:
                image.write(file)
            self.run("pull", "--quiet", f"docker-archive:{archive}")
            archive.unlink()
        return image.reference


@contextmanager
def open_storage() -> Iterator[Storage]:
    """The storage, for one process at a time; in the end nothing of it is mounted.

    One of another base, other packages or Dockerfiles is removed: layers that nobody asks for would stay for ever.
    """
    files = (*(program.lock for program in PROGRAMS), *DOCKERFILES.values())
    texts = [(REPOSITORY / file).read_text() for file in files]
    root = get_cache() / f"buildah-{short_hash(build_base_image().reference, *texts)}"
    with locked("buildah"):
        former = [path for path in get_cache().glob("buildah-*") if path.is_dir()]
        unmount(former)  # what a run that was killed left
        for path in former:
            if path != root:
                shutil.rmtree(path)
        with tempfile.TemporaryDirectory(prefix="dspy-buildah-") as state:
            storage = Storage(root, Path(state))
            try:
                storage.run("rm", "--all")
                yield storage
            finally:
                unmount([root, Path(state)])


def build_base_image() -> Image:
    """What stands for the public Python image: the local base, and pip."""
    with locked("images"):
        pip = get_layer("pip", get_version("PYTHON") + get_version("PIP"), fill_pip)
        return Image("python-pip", (get_base_layer(), pip), Runtime(("python3",), user="0:0"))


def fill_pip(root: Path) -> None:
    """Install pip for the base's Python, the command too."""
    site, command = root / SITE, root / "usr" / "bin" / "pip"
    uv = REPOSITORY / ".venv" / "bin" / "uv"
    run(uv, "pip", "install", "--quiet", "--target", site, f"pip=={get_version('PIP')}")
    shutil.rmtree(site / "bin")
    (site / ".lock").unlink(missing_ok=True)
    command.parent.mkdir(parents=True)
    command.write_text('#!/bin/sh\nexec python3 -m pip "$@"\n')
    command.chmod(0o755)
    (root / SETTINGS).mkdir(parents=True)


def read_settings() -> dict[str, str]:
    """How this machine's pip reaches the package index."""
    lines = run(REPOSITORY / ".venv" / "bin" / "pip", "config", "list").splitlines()
    return parse_settings(lines)


def parse_settings(lines: list[str]) -> dict[str, str]:
    """The options of a network, from `pip config list`: `section.option='value'`."""
    found = {}
    for section in SECTIONS:
        for line in lines:
            name, _, value = line.partition("=")
            option = name.removeprefix(f"{section}.")
            if option != name and option in OPTIONS:
                found[option] = str(ast.literal_eval(value))
    return found


def write_settings(folder: Path, settings: Mapping[str, str]) -> None:
    """Write a `pip.conf`, its authorities beside it: paths of this machine mean nothing in a build."""
    inside = dict(settings)
    if "cert" in inside:
        shutil.copyfile(inside["cert"], folder / "authorities.pem")
        inside["cert"] = f"/{SETTINGS}/authorities.pem"
    parser = configparser.RawConfigParser()
    parser["global"] = inside
    with (folder / "pip.conf").open("w") as file:
        parser.write(file)
