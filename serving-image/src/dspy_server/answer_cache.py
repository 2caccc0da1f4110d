"""Answers that need no run: the same question, of the same user, to the same artifact, asked again.

Values lie in Redis as JSON; the revision is in every key, so that nothing is ever deleted. Equal questions at once wait
for one run. `ask.py` takes a turn before anything that costs.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from dspy_server.contract import CacheLabel, CacheResult, CacheTier
from dspy_server.metrics import Metrics
from dspy_server.routes import Route
from dspy_server.settings import Cache
from dspy_server.store import Store, StoreError
from dspy_server.tokens import Keys

MAX_BYTES: Final = 64 << 10
SHAPE: Final = 1
"""Version of a value's shape; another one is a miss."""
SHARED: Final = "shared"


@dataclass(frozen=True)
class Known:
    """What a program answered before: its outputs as JSON values, the model, and when (Unix seconds)."""

    outputs: Mapping[str, Any]
    model: str
    at: float


@dataclass
class Turn:
    """One question's turn.

    Attributes:
        known: the answer that need not be found again, or that was found in this turn.
        stale: an expired one of the same revision, to stand in when no LM can answer.
    """

    label: CacheLabel
    known: Known | None = None
    stale: Known | None = None


@dataclass
class AnswerCache:
    """The business cache; without a store, without a user (scope User) or with scope Off it lets everything pass.

    Attributes:
        clock: Unix seconds.
    """

    store: Store | None
    config: Cache
    keys: Keys | None
    metrics: Metrics
    clock: Callable[[], float]
    _leaders: dict[str, asyncio.Future[Known | None]] = field(default_factory=dict)

    @property
    def scope(self) -> str:
        """Who may get whose answer, as `/version` says it."""
        has_users = self.keys is not None or self.config.scope == "Shared"
        return self.config.scope if self.store is not None and has_users else "Off"

    def find_key(self, route: Route, inputs: Mapping[str, Any], user: str | None) -> str | None:
        """The key of a question, `inputs` as they came and `user` the header's value; None: not to be cached."""
        scope = None if self.store is None else self._find_scope(user)
        if scope is None:
            return None
        question = hashlib.sha256(orjson.dumps(inputs, option=orjson.OPT_SORT_KEYS)).hexdigest()
        return f"dspy:a:{self.metrics.program}:{route.revision}:{route.sha256[:16]}:{scope}:{question}"

    @asynccontextmanager
    async def turn(self, key: str | None, revision: str) -> AsyncIterator[Turn]:
        """The turn of one question; who finds its answer says so with `keep`, for the others that wait."""
        if key is None or self.store is None:
            yield Turn(CacheLabel.MISS if self.scope == "Off" else CacheLabel.BYPASS)
            return
        while (leader := self._leaders.get(key)) is not None:
            await asyncio.wait([leader])
            if leader.cancelled():  # its client left: somebody else leads
                continue
            known = leader.result()
            if known is not None:
                self._count(revision, CacheResult.HIT)
                yield Turn(CacheLabel.HIT, known=known)
            else:  # it failed: each runs itself, or they would fail one after the other
                yield await self._look(self.store, key, revision)
            return
        async with self._lead(self.store, key, revision) as turn:
            yield turn

    @asynccontextmanager
    async def _lead(self, store: Store, key: str, revision: str) -> AsyncIterator[Turn]:
        found = self._leaders[key] = asyncio.get_running_loop().create_future()
        try:
            turn = await self._look(store, key, revision)
            yield turn
        except asyncio.CancelledError:
            found.cancel()
            raise
        except BaseException:
            found.set_result(None)
            raise
        else:
            found.set_result(turn.known)
        finally:
            del self._leaders[key]

    def keep(self, key: str | None, turn: Turn, outputs: Mapping[str, Any], model: str) -> None:
        """Take in an answer that a program gave just now."""
        if key is None or self.store is None:
            return
        turn.known = Known(outputs, model, self.clock())
        value = orjson.dumps({"v": SHAPE, "outputs": outputs, "model": model, "at": turn.known.at})
        if len(value) <= MAX_BYTES:
            self.store.later(self.store.put(key, value, self.config.ttl + self.config.stale_if_error))

    async def _look(self, store: Store, key: str, revision: str) -> Turn:
        try:
            known = parse_known(await store.get(key, MAX_BYTES + 1))
        except StoreError:
            self._count(revision, CacheResult.ERROR)
            return Turn(CacheLabel.MISS)
        expired = 0.0 if known is None else self.clock() - known.at - self.config.ttl
        if known is not None and expired < 0:
            self._count(revision, CacheResult.HIT)
            return Turn(CacheLabel.HIT, known=known)
        self._count(revision, CacheResult.MISS)
        return Turn(CacheLabel.MISS, stale=known if expired < self.config.stale_if_error else None)

    def _find_scope(self, user: str | None) -> str | None:
        match self.config.scope:
            case "Shared":
                return SHARED
            case "User":
                return self.keys.get_user(user) if self.keys is not None and user else None
            case "Off":
                return None

    def _count(self, revision: str, result: CacheResult) -> None:
        self.metrics.cache_requests.labels(self.metrics.program, revision, CacheTier.BUSINESS, result).inc()


def parse_known(value: bytes) -> Known | None:
    """The answer in a value; None if there is none, or anything else than what `keep` writes."""
    if not value or len(value) > MAX_BYTES:
        return None
    try:
        data = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    match data:
        case {"v": 1, "outputs": dict(outputs), "model": str(model), "at": int(at) | float(at)}:
            return Known(outputs, model, at)
        case _:
            return None
