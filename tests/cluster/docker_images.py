"""The same images where Docker runs: from the Dockerfiles, on public base images."""

import json
import shutil
import subprocess
from collections.abc import Container, Iterable
from dataclasses import dataclass
from functools import cache
from typing import IO

from tests.cluster.debian import run
from tests.cluster.state import REPOSITORY, step
from tests.cluster.versions import get_version

DOCKERFILES = {"dspy-operator": "operator/Dockerfile", "dspy-server": "serving-image/Dockerfile"}
PUBLISHED = {
    "python": "PYTHON_IMAGE",
    "prometheus": "PROMETHEUS_IMAGE",
    "traefik": "TRAEFIK_IMAGE",
    "envoy": "ENVOY_IMAGE",
}


@cache
def has_docker() -> bool:
    """Whether a Docker daemon answers."""
    docker = shutil.which("docker")
    return (
        docker is not None
        and subprocess.run([docker, "info"], capture_output=True, check=False).returncode == 0
    )


@dataclass(frozen=True)
class DockerImage:
    """An image that the Docker daemon has."""

    reference: str

    def write(self, stream: IO[bytes], without: Container[str] = ()) -> None:
        """Write it as `docker load` reads it, every layer of it."""
        subprocess.run(["docker", "save", self.reference], stdout=stream, check=True)


def build_docker_images(names: Iterable[str]) -> dict[str, DockerImage]:
    """Build or pull each image and tag it with its identity; the images by name."""
    images = {}
    for name in names:
        with step(f"image {name}"):
            source = build_image(name) if name in DOCKERFILES else pull_image(get_version(PUBLISHED[name]))
            identity = json.loads(run("docker", "image", "inspect", source))[0]["Id"].removeprefix("sha256:")[
                :12
            ]
            images[name] = DockerImage(f"localhost/{name}:{identity}")
            run("docker", "tag", source, images[name].reference)
    return images


def build_image(name: str) -> str:
    """Build one of our Dockerfiles; its local reference."""
    reference = f"localhost/{name}:latest"
    base = f"BASE={get_version('PYTHON_IMAGE')}"
    file = REPOSITORY / DOCKERFILES[name]
    run("docker", "build", "--quiet", "--build-arg", base, "--file", file, "--tag", reference, REPOSITORY)
    return reference


def pull_image(reference: str) -> str:
    """Pull a published image unless it is here."""
    if (
        subprocess.run(["docker", "image", "inspect", reference], capture_output=True, check=False).returncode
        != 0
    ):
        run("docker", "pull", "--quiet", reference)
    return reference
