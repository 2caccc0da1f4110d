"""Starting and ending the cluster's processes: only what we started, known by pid and start time.

A pid alone may have been given to a stranger; its start time tells (`/proc/PID/stat`, field 22).
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.state import write_atomically

STOP_SECONDS = 10


class ClusterError(Exception):
    """Something that a person must read: one sentence on what failed and what to do next."""


def parse_start_time(stat: str) -> int:
    """Field 22 of `/proc/PID/stat` (clock ticks since boot); the name, field 2, may hold blanks and brackets."""
    return int(stat.rpartition(")")[2].split()[19])


def find_start_time(pid: int) -> int | None:
    """When a process started, or None when it is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if stat.rpartition(")")[2].split()[0] == "Z" else parse_start_time(stat)


@dataclass(frozen=True)
class Process:
    """One background process: its name, and the directories of its log and (`run` there by default) its pid."""

    name: str
    directory: Path
    records: Path | None = None

    @property
    def log(self) -> Path:
        """What it printed, of this start and earlier ones."""
        return self.directory / "log" / f"{self.name}.log"

    @property
    def record(self) -> Path:
        """Its pid and start time, as JSON."""
        return (self.records or self.directory / "run") / f"{self.name}.json"

    def find_pid(self) -> int | None:
        """The pid while it is ours and lives."""
        try:
            record = json.loads(self.record.read_text())
        except FileNotFoundError:
            return None
        alive = find_start_time(record["pid"]) == record["started"]
        return int(record["pid"]) if alive else None

    def start(
        self,
        argv: Sequence[str | Path],
        environment: Mapping[str, str] | None = None,
        *,
        die_with_us: bool = False,
    ) -> None:
        """Start it unless it runs.

        Args:
            argv: the command.
            environment: added to ours.
            die_with_us: the kernel ends it when the calling thread's process dies (for tests).
        """
        if self.find_pid() is not None:
            return
        setpriv = shutil.which("setpriv")
        prefix = [setpriv, "--pdeathsig", "SIGKILL", "--"] if die_with_us and setpriv else []
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [*prefix, *argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env=os.environ | dict(environment or {}),
                start_new_session=True,
            )
        process.returncode = 0  # it outlives this process by design: no warning that it still runs
        started = find_start_time(process.pid)
        write_atomically(self.record, json.dumps({"pid": process.pid, "started": started}))

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Ask until it is ready; ClusterError with its last log lines when it ends or takes too long."""
        deadline = time.monotonic() + seconds
        while not ready():
            if self.find_pid() is None:
                raise ClusterError(f"{self.name} ended by itself.\n{self.explain()}")
            if time.monotonic() > deadline:
                raise ClusterError(f"{self.name} was not ready within {seconds:.0f} s.\n{self.explain()}")
            time.sleep(0.1)

    def stop(self) -> None:
        """SIGTERM, then SIGKILL after ten seconds. Nothing happens when it is not ours or gone."""
        pid = self.find_pid()
        if pid is not None:
            end_process(pid)
        self.record.unlink(missing_ok=True)

    def explain(self) -> str:
        """The last 20 lines of its log, and the log's path."""
        if not self.log.exists():
            return f"It has no log at {self.log}"
        with self.log.open(errors="replace") as file:
            return "".join(deque(file, maxlen=20)) + f"\nThe whole log: {self.log}"


def end_process(pid: int) -> None:
    """End one process that was just found to be ours."""
    started = find_start_time(pid)
    for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)):
        deadline = time.monotonic() + seconds
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        while find_start_time(pid) == started:
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        else:
            reap(pid)
            return
    print(f"  process {pid} does not end", file=sys.stderr)


def reap(pid: int) -> None:
    """Collect the exit status when it was a child of this very process."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
