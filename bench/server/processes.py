"""One server process on a core of its own: its start, its CPU time and memory, its end."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

SERVER_CORE: Final = 0
OTHER_CORE: Final = 1
START_SECONDS: Final = 60
TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Served:
    """A process that answers at `url`; `started` is how many seconds that took."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    started: float

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def get_cpu_seconds(self) -> float:
        """CPU seconds of user and system so far, threads included."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def get_rss_kib(self) -> int:
        """Resident memory."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))

    def end(self) -> None:
        """Let it end in order; kill it if it does not."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start(
    name: str,
    command: list[str],
    port: int,
    *,
    env: Mapping[str, str] | None = None,
    core: int = SERVER_CORE,
    program: str = sys.executable,
    probe: str = "",
    log: Path,
) -> Served:
    """Start a process pinned to a core and wait until `probe`, or its port, answers.

    Raises:
        RuntimeError: it did not; with the end of its log.
    """
    began = time.monotonic()
    with log.open("wb") as out:
        process = subprocess.Popen(
            [program, *command],
            env=os.environ | (env or {}),
            stdout=out,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: os.sched_setaffinity(0, {core % (os.cpu_count() or 1)}),  # noqa: PLW1509 - one thread here
        )
    while time.monotonic() - began < START_SECONDS and process.poll() is None:
        if _answers(port, probe):
            return Served(name, process, port, time.monotonic() - began)
        time.sleep(0.02)
    process.kill()
    process.wait()
    raise RuntimeError(f"{name} did not start:\n{log.read_text(errors='replace')[-2000:]}")


def _answers(port: int, probe: str) -> bool:
    try:
        if probe:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{probe}", timeout=1) as answer:
                return bool(answer.status == 200)
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except (OSError, urllib.error.URLError):
        return False


def read_json(url: str) -> Any:
    """What a GET answers."""
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.load(answer)
