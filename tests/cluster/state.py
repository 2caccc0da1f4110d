"""Where the local cluster keeps what it builds and what it runs, and the locks on it.

Everything lies below one directory: DSPY_CACHE, or `.cache/cluster` of the checkout.
"""

import fcntl
import json
import os
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def get_cache() -> Path:
    """The directory of binaries, images and the running cluster; made when missing."""
    cache = Path(os.environ.get("DSPY_CACHE") or REPOSITORY / ".cache" / "cluster").resolve()
    cache.mkdir(parents=True, exist_ok=True)
    return cache


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold one named lock of the cache; a second process waits and says so once."""
    with (get_cache() / f"{name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"  waiting for another run that holds {file.name}", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def step(name: str) -> Iterator[None]:
    """Print one line for one step, with the seconds that it took."""
    started = time.monotonic()
    print(f"  {name:<46}", end="", file=sys.stderr, flush=True)
    try:
        yield
    except BaseException:
        print(" failed", file=sys.stderr, flush=True)
        raise
    print(f" {time.monotonic() - started:6.1f} s", file=sys.stderr, flush=True)


def write_atomically(path: Path, content: str, mode: int = 0o644) -> None:
    """Write a file so that a reader sees the old text or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_EXCL, mode), "w") as file:
        file.write(content)
    temporary.replace(path)


def choose_ports(file: Path, names: Iterable[str]) -> dict[str, int]:
    """Pick a port that is free on every address for each name once, and give the same ones at every later call."""
    if file.exists():
        ports: dict[str, int] = json.loads(file.read_text())
        if set(names) <= ports.keys():
            return ports
    sockets = {name: socket.create_server(("", 0)) for name in names}
    ports = {name: opened.getsockname()[1] for name, opened in sockets.items()}
    for opened in sockets.values():
        opened.close()
    write_atomically(file, json.dumps(ports))
    return ports
