"""Events for people: written in the background, repeats counted instead of repeated, never in the way.

Called by `reconcile/` after each write; `__main__.py` runs the background task.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from dspy_operator.api.names import GROUP
from dspy_operator.errors import Conflict
from dspy_operator.kube.answers import rfc3339_micro
from dspy_operator.kube.client import Client, Object
from dspy_operator.kube.resources import EVENTS

NOTE_CHARS: Final = 1024
"""The API server's own limit."""

WAITING: Final = 1000
"""Events that may wait to be written; the oldest go first."""

REMEMBERED: Final = 4096
"""Objects whose last event's time is kept."""

PACE: Final = 1.0
"""Seconds between two events of one object."""

logger = logging.getLogger(__name__)

EventKey: TypeAlias = tuple[str, str, str]
"""(uid, reason, hash of the note)."""


@dataclass(frozen=True)
class _Waiting:
    body: Object
    times: int


class EventRecorder:
    """Writes `events.k8s.io/v1` Events, at most one a second per object."""

    def __init__(
        self,
        client: Client,
        instance: str,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Make a recorder; `instance` is this process' name."""
        self._client = client
        self._instance = instance[:128]
        self._monotonic, self._sleep = monotonic, sleep
        self._waiting: dict[EventKey, _Waiting] = {}
        self._last: dict[str, float] = {}
        self._wake = asyncio.Event()

    def record(self, obj: Object, type_: str, reason: str, note: str) -> None:
        """Note an event of `obj` (a dict with apiVersion, kind and metadata); returns at once, never raises.

        Args:
            obj: what it happened to.
            type_: `Normal` or `Warning`.
            reason: CamelCase.
            note: a sentence, cut at 1,024 characters.
        """
        uid = obj["metadata"].get("uid", "")
        key = (uid, reason, hashlib.sha256(note.encode(errors="replace")).hexdigest()[:16])
        before = self._waiting.pop(key, None)
        body = self._build(obj, key, type_, note)
        self._waiting[key] = _Waiting(body, 1 + (before.times if before else 0))
        while len(self._waiting) > WAITING:
            self._waiting.pop(next(iter(self._waiting)))
        self._wake.set()

    async def run(self) -> None:
        """Write what waits, until cancelled."""
        while True:
            wait = await self._write_due(self._monotonic())
            self._wake.clear()
            if wait is None:
                await self._wake.wait()
            else:
                await self._sleep(wait)

    async def drain(self) -> None:
        """Write all that waits, without the pace: before the process ends."""
        await self._write_due(float("inf"))

    async def _write_due(self, now: float) -> float | None:
        """Write one event of each object whose turn it is; seconds until the next turn, None if nothing waits."""
        for key in list(self._waiting):
            if now - self._last.get(key[0], float("-inf")) < PACE:
                continue
            waiting = self._waiting.pop(key)
            self._last.pop(key[0], None)
            self._last[key[0]] = min(now, self._monotonic())
            while len(self._last) > REMEMBERED:
                self._last.pop(next(iter(self._last)))
            await self._write(waiting)
        if not self._waiting:
            return None
        turns = [self._last.get(uid, float("-inf")) + PACE for uid, _, _ in self._waiting]
        return max(min(turns) - self._monotonic(), 0.0)

    async def _write(self, waiting: _Waiting) -> None:
        metadata = waiting.body["metadata"]
        try:
            try:
                times = waiting.times
                body = waiting.body | ({"series": self._series(times)} if times > 1 else {})
                await self._client.create(EVENTS, body)
            except Conflict:
                await self._count_on(metadata["namespace"], metadata["name"], waiting.times)
        except Exception as error:  # noqa: BLE001  an event that is lost harms nobody
            logger.warning("an event was not written: %s", str(error) or type(error).__name__)

    async def _count_on(self, namespace: str, name: str, times: int) -> None:
        """It is there already (of this process or an earlier one): count the repeats."""
        found = await self._client.find(EVENTS, namespace, name)
        if found is not None:
            counted = (found.get("series") or {}).get("count") or 1
            await self._client.merge(EVENTS, namespace, name, {"series": self._series(counted + times)})

    def _series(self, count: int) -> dict[str, Any]:
        return {"count": count, "lastObservedTime": rfc3339_micro(self._client.server_time)}

    def _build(self, obj: Object, key: EventKey, type_: str, note: str) -> Object:
        metadata = obj["metadata"]
        uid, reason, _ = key
        digest = hashlib.sha256("|".join((*key, type_)).encode()).hexdigest()[:16]
        return {
            "metadata": {"name": f"{metadata['name']}.{digest}", "namespace": metadata["namespace"]},
            "eventTime": rfc3339_micro(self._client.server_time),
            "reportingController": f"{GROUP}/operator",
            "reportingInstance": self._instance,
            "action": "Reconcile",
            "reason": reason[:128],
            "regarding": {
                "apiVersion": obj.get("apiVersion", ""),
                "kind": obj.get("kind", ""),
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": uid,
                "resourceVersion": metadata.get("resourceVersion", ""),
            },
            "note": note[:NOTE_CHARS],
            "type": type_,
        }
