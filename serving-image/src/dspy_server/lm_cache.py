"""Answered calls of an LM: in memory, and if that is wanted on disk; DSPy asks it before it asks the engine.

An entry belongs to one revision and one set of LMs. It is JSON: nothing that was read can run.
"""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from dspy_server import compat, logs
from dspy_server.call import CALL
from dspy_server.contract import CacheResult, CacheTier
from dspy_server.disk_cache import DiskTier
from dspy_server.metrics import REVISION, Metrics
from dspy_server.settings import Cache

SWEEP_SECONDS: Final = 600.0
FULL_SECONDS: Final = 10.0
"""How soon a full disk tier is swept."""
FILLED: Final = 90
"""Percent of the size limit that entries may take: a pod whose volume grows beyond it is evicted, folders count too."""
FOLDER: Final = "lm-calls"


class MemoryTier:
    """The entries used last, at most so many."""

    def __init__(self, entries: int) -> None:
        self._most = entries
        self._entries: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, key: str) -> bytes | None:
        """What is kept of that key."""
        with self._lock:
            data = self._entries.get(key)
            if data is not None:
                self._entries.move_to_end(key)
            return data

    def keep(self, key: str, data: bytes) -> None:
        """Keep an entry, and let go of the one that was not asked for the longest time."""
        with self._lock:
            self._entries[key] = data
            self._entries.move_to_end(key)
            while len(self._entries) > self._most:
                self._entries.popitem(last=False)

    def drop(self, key: str) -> None:
        """Remove an entry."""
        with self._lock:
            self._entries.pop(key, None)


class LmCache:
    """The tiers that DSPy looks into; threads use it, and a disk that fails is a miss."""

    def __init__(self, memory: MemoryTier | None, disk: DiskTier | None, metrics: Metrics) -> None:
        self._memory = memory
        self._disk = disk
        self._metrics = metrics
        self._has_failed = False

    @property
    def is_in_memory(self) -> bool:
        """Whether it has no disk to wait for."""
        return self._disk is None

    def find(self, key: str) -> Mapping[str, Any] | None:
        """The record of an answered call; the request then says which model once answered."""
        found = self._find_in_memory(key) or self._find_on_disk(key)
        call = CALL.get()
        if found is None or call is None:
            return None
        call.hits += 1
        call.entries.append(key)
        call.model = call.model or str(found["model"])
        record: Mapping[str, Any] = found["record"]
        return record

    def keep(self, key: str, record: Mapping[str, Any]) -> None:
        """Keep an answered call in each tier."""
        call = CALL.get()
        if call is None:
            return
        call.entries.append(key)
        data = orjson.dumps({"model": call.model, "record": record})
        if self._memory is not None:
            self._memory.keep(key, data)
        if self._disk is None:
            return
        try:
            self._disk.keep(key, data)
        except OSError as exc:
            self._fail(exc)
        else:
            self._has_failed = False

    def forget(self, keys: Iterable[str]) -> None:
        """Drop what turned out to be of no use: an answer that cannot be parsed would fail each time it is found."""
        for key in keys:
            if self._memory is not None:
                self._memory.drop(key)
            try:
                if self._disk is not None:
                    self._disk.drop(key)
            except OSError as exc:
                self._fail(exc)

    async def run(self) -> None:
        """Keep the disk tier within its limits, for ever."""
        if self._disk is None:
            await asyncio.Event().wait()
            return
        while True:
            try:
                await asyncio.to_thread(self._disk.sweep)
            except OSError as exc:
                self._fail(exc)
            for _ in range(int(SWEEP_SECONDS / FULL_SECONDS)):
                await asyncio.sleep(FULL_SECONDS)
                if self._disk.is_full:
                    break

    def _find_in_memory(self, key: str) -> dict[str, Any] | None:
        if self._memory is None:
            return None
        data = self._memory.find(key)
        self._count(CacheTier.MEMORY, CacheResult.MISS if data is None else CacheResult.HIT)
        found: dict[str, Any] | None = None if data is None else orjson.loads(data)
        return found

    def _find_on_disk(self, key: str) -> dict[str, Any] | None:
        if self._disk is None:
            return None
        try:
            data = self._disk.find(key)
            found = None if data is None else _parse(data)
            if data is not None and found is None:
                self._disk.drop(key)
        except OSError as exc:
            self._fail(exc)
            return None
        self._count(CacheTier.DISK, CacheResult.MISS if found is None else CacheResult.HIT)
        if data is not None and found is not None and self._memory is not None:
            self._memory.keep(key, data)
        return found

    def _fail(self, error: OSError) -> None:
        """Count what the disk could not do; say so once, until it can again."""
        self._count(CacheTier.DISK, CacheResult.ERROR)
        if not self._has_failed:
            self._has_failed = True
            logs.get_logger().error("lm_cache_disk_failed", error=error.strerror or type(error).__name__)

    def _count(self, tier: CacheTier, result: CacheResult) -> None:
        self._metrics.cache_requests.labels(self._metrics.program, REVISION.get(), tier, result).inc()


def _parse(data: bytes) -> dict[str, Any] | None:
    """An entry, if it is one: anybody who can write to the folder may have written it."""
    try:
        entry = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    is_entry = isinstance(entry, dict) and compat.is_record(entry.get("record"))
    return entry if is_entry and isinstance(entry.get("model"), str) else None


def is_wanted(cache: Cache) -> bool:
    """Whether any tier is configured."""
    return cache.lm_memory_entries > 0 or cache.disk.enabled


def install_lm_cache(
    cache: Cache, folder: Path, lm_hash: str, metrics: Metrics, clock: Callable[[], float]
) -> LmCache:
    """The tiers that are configured, made DSPy's; `clock` says the Unix time."""
    memory = MemoryTier(cache.lm_memory_entries) if cache.lm_memory_entries else None
    disk = None
    if cache.disk.enabled:
        limit = cache.disk.size_limit * FILLED // 100
        disk = DiskTier(folder / FOLDER, limit, cache.disk.max_age, clock)
        metrics.bind_disk_cache(lambda: disk.size)
    tiers = LmCache(memory, disk, metrics)

    def get_scope() -> str:
        call = CALL.get()
        return f"{call.revision}\n{lm_hash}" if call is not None and call.revision else ""

    compat.install_cache(tiers, get_scope)
    return tiers
