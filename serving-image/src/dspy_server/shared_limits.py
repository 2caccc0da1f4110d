"""What one user may take of all pods together: rates and budgets in Redis, each changed by one script.

Without Redis, or while it does not answer, each pod counts for itself (`users.py`).
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from dspy_server.contract import Rejection
from dspy_server.store import Script, Store, StoreError
from dspy_server.users import DAY, MINUTE, UserLimitError, UserLimits, warn_if_nearly_used

_TAKE: Final = Script("""
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local state = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(state[1]) or burst, tonumber(state[2]) or now
tokens = math.min(burst, tokens + math.max(0, now - at) * rate)
local pause = 0
if tokens < 1 then pause = (1 - tokens) / rate else tokens = tokens - 1 end
redis.call('HSET', KEYS[1], 'tokens', tokens, 'at', now)
redis.call('EXPIRE', KEYS[1], math.ceil(burst / rate) + 1)
return tostring(pause)
""")
"""ARGV: requests a second, requests at once. Seconds to wait, 0: let through. One clock, Redis' own."""
_RESERVE: Final = Script("""
local used = tonumber(redis.call('GET', KEYS[1]) or '') or 0
if used + ARGV[1] > tonumber(ARGV[2]) then return 0 end
redis.call('SET', KEYS[1], used + ARGV[1], 'EX', ARGV[3])
return 1
""")
"""ARGV: tokens, the day's budget, seconds to keep the count. Whether so many were left."""
_SETTLE: Final = Script("""
local used = tonumber(redis.call('GET', KEYS[1]) or '') or 0
local before = math.max(0, used - ARGV[1])
redis.call('SET', KEYS[1], before + ARGV[2], 'EX', ARGV[3])
return before
""")
"""ARGV: tokens reserved, tokens used, seconds to keep the count. Tokens used without this request."""


class SharedLimits:
    """Rates and budgets of users; the same as `local`, but of all pods, as long as `store` answers.

    A user is a pseudonym that all pods derive alike. `denies` says what becomes of a budget that cannot be read: the
    request is refused, or this pod's own count decides. `clock` is Unix seconds, for the day (UTC).
    """

    def __init__(
        self,
        local: UserLimits,
        store: Store | None,
        *,
        program: str,
        clock: Callable[[], float],
        denies: bool = False,
    ) -> None:
        self._local = local
        self._store = store
        self._program = program
        self._clock = clock
        self._denies = denies

    @property
    def kept_by(self) -> str:
        """Who counts, as `/version` says it."""
        return "process" if self._store is None else "redis"

    def get_user(self, header: str | None) -> str:
        """The user of a request; empty if nobody is named or nothing is limited."""
        return self._local.get_user(header)

    async def take(self, user: str) -> None:
        """Count one request.

        Raises:
            UserLimitError: too many in a minute.
        """
        per_minute = self._local.per_minute
        if self._store is None or not per_minute or not user:
            self._local.take(user)
            return
        key = f"dspy:r:{self._program}:{user}"
        try:
            pause = float(await self._store.run(_TAKE, key, per_minute / MINUTE, per_minute))
        except StoreError:
            self._local.take(user)
            return
        if pause > 0:
            raise UserLimitError(Rejection.USER_RATE, pause)

    @asynccontextmanager
    async def spend(self, user: str, estimate: int, count: Callable[[], int]) -> AsyncIterator[None]:
        """Reserve `estimate` tokens for what happens inside, then book what `count` says was used.

        Raises:
            UserLimitError: less than that is left of today's budget, or it cannot be read and `denies`.
        """
        store = self._store
        if store is None or not self._local.tokens_per_day or not user:
            with self._local.spend(user, estimate, count):
                yield
            return
        key = f"dspy:b:{self._program}:{user}:{int(self._clock()) // DAY}"
        if await self._reserve(store, key, estimate):
            reserved = estimate
            try:
                yield
            finally:
                store.later(self._settle(store, key, user, reserved, count()))
            return
        with self._local.spend(user, estimate, count):
            try:
                yield
            finally:
                store.later(self._settle(store, key, user, 0, count()))

    async def _reserve(self, store: Store, key: str, estimate: int) -> bool:
        """Whether the store keeps the reservation; False: it does not answer."""
        try:
            has_left = await store.run(_RESERVE, key, estimate, self._local.tokens_per_day, DAY)
        except StoreError as exc:
            if self._denies:
                raise UserLimitError(
                    Rejection.USER_BUDGET, store.retry_after, title="Budgets cannot be read at the moment"
                ) from exc
            return False
        if not has_left:
            raise UserLimitError(Rejection.USER_BUDGET, DAY - self._clock() % DAY)
        return True

    async def _settle(self, store: Store, key: str, user: str, reserved: int, used: int) -> None:
        before = int(await store.run(_SETTLE, key, reserved, used, DAY))
        warn_if_nearly_used(user, before, before + used, self._local.tokens_per_day)
