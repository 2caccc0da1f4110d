"""The same images where Docker runs: from the Dockerfiles, on public base images."""

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path

from tests.cluster.debian import run
from tests.cluster.state import REPOSITORY, step
from tests.cluster.versions import get_version

DOCKERFILES = {"dspy-operator": "operator/Dockerfile", "dspy-server": "serving-image/Dockerfile"}
PUBLISHED = {"python": "PYTHON_IMAGE", "prometheus": "PROMETHEUS_IMAGE"}


@cache
def has_docker() -> bool:
    """Whether a Docker daemon answers."""
    docker = shutil.which("docker")
    return (
        docker is not None
        and subprocess.run([docker, "info"], capture_output=True, check=False).returncode == 0
    )


def build_docker_archives(names: tuple[str, ...], directory: Path) -> dict[str, Path]:
    """Build or pull each image and save it as `docker load` reads it; the archives by name."""
    archives = {}
    for name in names:
        with step(f"image {name}"):
            source = build_image(name) if name in DOCKERFILES else pull_image(get_version(PUBLISHED[name]))
            identity = json.loads(run("docker", "image", "inspect", source))[0]["Id"].removeprefix("sha256:")[
                :12
            ]
            reference = f"localhost/{name}:{identity}"
            run("docker", "tag", source, reference)
            archives[name] = directory / f"{name}-{identity}.tar"
            if not archives[name].exists():
                run("docker", "save", "--output", archives[name], reference)
    return archives


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
