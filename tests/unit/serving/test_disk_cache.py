"""The disk tier: what is on the disk is never run and never trusted, and the disk is never more than a help."""

import contextlib
import errno
import os
import pickle  # noqa: TID251 - the poison, which the server must not swallow
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dspy
import orjson
import pytest
from structlog.testing import capture_logs
from tests.provider.icl_lm import Provider
from tests.unit.serving.harness import ask
from tests.unit.serving.test_lm_cache import count, get_tier, run_cached, teacher, url
from tests.unit.serving.test_metrics import get, scrape
from tests.unit.serving.worlds import Clock, World

from dspy_server import disk_cache
from dspy_server.call import CALL, Call
from dspy_server.disk_cache import BLOCK_BYTES, DiskTier
from dspy_server.lm_cache import install_lm_cache
from dspy_server.metrics import Metrics
from dspy_server.settings import Cache

__all__ = ["teacher", "url"]

DISK = {"lmMemoryEntries": 0, "disk": {"enabled": True}}
HOUR = 3600.0


def build_keys(number: int) -> list[str]:
    return [f"{index:02x}{'0' * 62}" for index in range(number)]


def list_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


class Tier:
    """A tier of ten entries of one block, and a clock that begins when the files are written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = Clock()
        self.tier = DiskTier(folder, 10 * BLOCK_BYTES, HOUR, self.clock)

    def keep(self, key: str, *, age: float = 0.0, size: int = 100) -> None:
        self.tier.keep(key, b"x" * size)
        written_at = self.clock() - age
        os.utime(self.folder / key[:2] / key, (written_at, written_at))

    def list_keys(self) -> list[str]:
        return [path.name for path in list_files(self.folder)]


@pytest.fixture
def small(tmp_path: Path) -> Tier:
    return Tier(tmp_path / "cache")


def test_an_entry_is_found_until_it_is_too_old(small: Tier) -> None:
    key = build_keys(1)[0]
    assert small.tier.find(key) is None
    small.keep(key)
    small.clock.now += HOUR
    assert small.tier.find(key) == b"x" * 100
    small.clock.now += 1
    assert small.tier.find(key) is None
    small.tier.sweep()
    assert (small.list_keys(), small.tier.size) == ([], 0)


def test_only_its_owner_can_read_an_entry(small: Tier) -> None:
    small.keep(build_keys(1)[0])
    [path] = list_files(small.folder)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_what_is_written_never_exceeds_the_limit_and_a_sweep_makes_room_for_more(small: Tier) -> None:
    keys = build_keys(20)
    for index, key in enumerate(keys[:10]):
        small.keep(key, age=100.0 - index)
    assert small.tier.is_full
    small.tier.keep(keys[10], b"one too many")
    assert small.tier.find(keys[10]) is None
    small.tier.sweep()
    assert small.list_keys() == keys[1:10]
    small.keep(keys[10])
    assert small.tier.size == 10 * BLOCK_BYTES == len(small.list_keys()) * BLOCK_BYTES


def test_far_too_much_is_cleared(small: Tier) -> None:
    for key in build_keys(13):
        path = small.folder / key[:2] / key
        path.parent.mkdir(parents=True)
        path.write_bytes(b"left by a process with another limit")
    small.clock.now = path.stat().st_mtime
    small.tier.sweep()
    assert (small.list_keys(), small.tier.size) == ([], 0)


def test_the_volume_is_never_filled_to_its_size(tmp_path: Path) -> None:
    own = dspy.cache
    try:
        cache = Cache.model_validate(
            {"disk": {"enabled": True, "sizeLimit": f"{100 * BLOCK_BYTES // 1024}Ki"}}
        )
        tiers = install_lm_cache(cache, tmp_path, "hash", Metrics("triage"), lambda: 0.0)
    finally:
        dspy.cache = own
    call = Call(deadline=0.0, revision="rev0")
    token = CALL.set(call)
    for key in build_keys(100):
        tiers.keep(key, {"text": "x"})
    CALL.reset(token)
    assert len(list_files(tmp_path)) == 90


def test_what_another_process_left_is_counted(small: Tier) -> None:
    keys = build_keys(3)
    for key in keys:
        small.keep(key, size=BLOCK_BYTES + 1)
    other = Tier(small.folder)
    other.tier.sweep()
    assert other.tier.size == small.tier.size == 6 * BLOCK_BYTES


def test_half_a_file_of_a_process_that_died_is_removed_and_one_in_progress_is_not(small: Tier) -> None:
    small.keep(build_keys(1)[0])
    for age in (10.0, 100.0):
        path = small.folder / "00" / f"{age}{disk_cache._HALF}"
        path.write_bytes(b"half")
        os.utime(path, (small.clock() - age,) * 2)
    small.tier.sweep()
    assert len(small.list_keys()) == 2
    assert "100.0.half" not in small.list_keys()


def test_an_entry_that_is_too_large_is_neither_written_nor_read(
    small: Tier, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = build_keys(1)[0]
    monkeypatch.setattr(disk_cache, "MAX_ENTRY_BYTES", 200)
    small.tier.keep(key, b"x" * 201)
    assert small.list_keys() == []
    small.keep(key)
    (small.folder / "00" / key).write_bytes(b"x" * 201)
    os.utime(small.folder / "00" / key, (small.clock(),) * 2)
    assert small.tier.find(key) is None


class Bomb:
    """Runs a command where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self._marker}",)


def build_poison(kind: str, marker: Path, entry: dict[str, Any]) -> bytes:
    record = entry["record"]
    entries: dict[str, Any] = {
        "no record": {**entry, "record": [1]},
        "no model": {"record": record},
        "other format": {**entry, "record": {**record, "_dspy_format": "v0"}},
        "other types": {**entry, "record": {**record, "responses": [{"message": 3}]}},
        "other outputs": {**entry, "record": {**record, "outputs": "text"}},
    }
    texts = {"pickle": pickle.dumps(Bomb(marker)), "half": orjson.dumps(entry)[:-20], "deep": b"[" * 100_000}
    return texts[kind] if kind in texts else orjson.dumps(entries[kind])


@pytest.mark.parametrize(
    "kind",
    ["pickle", "half", "deep", "no record", "no model", "other format", "other types", "other outputs"],
)
async def test_a_poisoned_entry_is_a_miss_and_runs_nothing(
    world: World, teacher: Provider, url: str, tmp_path: Path, kind: str
) -> None:
    marker = tmp_path / "ran"
    world.write_table(world.route(0, 100, "stable"))
    async with run_cached(world, url, DISK) as (server, client):
        good = (await ask(client)).json()
        [path] = list_files(world.root / "cache")
        poison = build_poison(kind, marker, orjson.loads(path.read_bytes()))
        path.write_bytes(poison)
        answers = [(await ask(client)).json() for _ in range(2)]
        samples = scrape(server.metrics)
    assert not marker.exists()
    assert [answer["outputs"] for answer in answers] == [good["outputs"]] * 2
    assert [answer["meta"]["cache"] for answer in answers] == ["miss", "hit"]
    assert [get_tier(samples, "disk", result) for result in ("miss", "hit", "error")] == [2, 1, 0]
    assert count(teacher) == 2
    if kind == "pickle":  # the poison is one: where pickle reads it, it runs
        pickle.loads(poison)
        assert marker.exists()


@contextlib.contextmanager
def mount(folder: Path, size: str) -> Iterator[None]:
    """A file system of that size; needs the right to mount."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root may mount the full file system that this is about")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


async def test_a_full_disk_stops_no_answer_and_is_said_once(
    world: World, teacher: Provider, url: str
) -> None:
    world.write_table(world.route(0, 100, "stable"))
    with mount(world.root / "cache", "64k"):
        async with run_cached(world, url, DISK) as (server, client):
            with capture_logs() as logs:
                statuses = [(await ask(client, f"question {index}")).status_code for index in range(30)]
            samples = scrape(server.metrics)
            found = (await ask(client, "question 0")).json()["meta"]["cache"]
    assert statuses == [200] * 30
    assert get_tier(samples, "disk", "error") == 1
    assert get(samples, "dspy_cache_disk_bytes") <= 64 * 1024
    assert [line["error"] for line in logs if line["event"] == "lm_cache_disk_failed"] == [
        os.strerror(errno.ENOSPC)
    ]
    assert found == "hit"
    assert count(teacher) == 30


def test_a_disk_without_space_is_swept_though_its_limit_is_larger(tmp_path: Path) -> None:
    with mount(tmp_path / "cache", "32k"):
        tier = DiskTier(tmp_path / "cache", 1 << 30, HOUR, lambda: 0.0)
        keys = build_keys(20)

        def fill() -> None:
            for key in keys:
                tier.keep(key, b"x")

        with pytest.raises(OSError, match="space"):
            fill()
        assert tier.is_full
        tier.sweep()
        assert not tier.is_full
        tier.keep(keys[-1], b"y")
        assert tier.find(keys[-1]) == b"y"


async def test_a_folder_that_is_none_stops_no_answer(world: World, teacher: Provider, url: str) -> None:
    world.write_table(world.route(0, 100, "stable"))
    (world.root / "cache").write_text("a file")
    async with run_cached(world, url, DISK) as (server, client):
        with capture_logs() as logs:
            statuses = [(await ask(client)).status_code for _ in range(2)]
        samples = scrape(server.metrics)
    assert (statuses, count(teacher)) == ([200, 200], 2)
    assert [line["event"] for line in logs].count("lm_cache_disk_failed") == 1
    assert get_tier(samples, "disk", "error") == 4  # each reading and each writing


async def test_the_gauge_is_what_lies_on_the_disk(world: World, url: str) -> None:
    world.write_table(world.route(0, 100, "stable"))
    async with run_cached(world, url, DISK) as (server, client):
        for index in range(3):
            await ask(client, f"question {index}")
        size = get(scrape(server.metrics), "dspy_cache_disk_bytes")
    files = list_files(world.root / "cache")
    assert len(files) == 3
    assert size == sum(-(-path.stat().st_size // BLOCK_BYTES) * BLOCK_BYTES for path in files)
