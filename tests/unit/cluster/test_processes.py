"""Only what was started here is ended: a process is known by pid and start time."""

import json
import os
import sys
from pathlib import Path

import pytest
from tests.cluster.processes import ClusterError, Process, find_start_time, parse_start_time

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
IGNORE_TERM = (
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
)


def test_the_start_time_is_field_22_even_where_the_name_has_blanks_and_brackets() -> None:
    fields = ["S", "1", *(["0"] * 17), "4711", "0", "0"]
    assert parse_start_time(f"42 (a) name) {' '.join(fields)}") == 4711


def test_our_own_start_time_is_found_and_that_of_no_process_is_none() -> None:
    assert find_start_time(os.getpid()) is not None
    assert find_start_time(2**22 + 1) is None


def test_a_process_is_started_once_found_again_and_ended(tmp_path: Path) -> None:
    process = Process("sleeper", tmp_path)
    process.start(SLEEP)
    pid = process.find_pid()
    assert pid is not None
    process.start(SLEEP)
    assert Process("sleeper", tmp_path).find_pid() == pid
    process.stop()
    assert process.find_pid() is None
    assert find_start_time(pid) is None
    process.stop()


def test_a_stranger_with_our_old_pid_is_neither_ours_nor_ended(tmp_path: Path) -> None:
    process = Process("sleeper", tmp_path)
    stranger = Process("stranger", tmp_path)
    stranger.start(SLEEP)
    pid = stranger.find_pid()
    assert pid is not None
    process.record.write_text(json.dumps({"pid": pid, "started": 1}))
    assert process.find_pid() is None
    process.stop()
    assert find_start_time(pid) is not None
    stranger.stop()


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.cluster.processes.STOP_SECONDS", 0.3)
    process = Process("stubborn", tmp_path)
    process.start([sys.executable, "-c", IGNORE_TERM])
    process.wait_until(lambda: "up" in process.log.read_text(), 20)
    process.stop()
    assert process.find_pid() is None


def test_a_process_that_ends_before_it_is_ready_is_explained_by_its_last_lines(tmp_path: Path) -> None:
    process = Process("broken", tmp_path)
    process.start([sys.executable, "-c", "for i in range(30): print('line', i)"])
    with pytest.raises(ClusterError) as raised:
        process.wait_until(lambda: False, 20)
    said = str(raised.value)
    assert "broken ended by itself" in said
    assert "line 29" in said
    assert "line 9\n" not in said
    assert str(process.log) in said
