"""The one Redis that the pods of a program may share: a help and never a need.

A command answers within 50 ms or raises `StoreError`; after three failures in a row nobody asks for five seconds.

Cached answers, limits of users and votes use it; each of them says what it does without.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from dspy_server import contract, logs
from dspy_server.breaker import Breaker, BreakerState, Outcome, Permit
from dspy_server.errors import ServerError, SettingsError

TIMEOUT_SECONDS: Final = 0.05
OPEN_SECONDS: Final = 5.0
FAILURES: Final = 3
TURNS: Final = 10
"""Turns of the event loop that a command gets beside its time: a busy loop is not a slow Redis."""
CONNECTIONS: Final = 16
"""Commands under way at once; the others wait for these, not for connections of their own."""
CLOSE_SECONDS: Final = 1.0

_Client = redis.asyncio.Redis
_T = TypeVar("_T")


class StoreError(ServerError):
    """Redis does not answer, or answers with an error: go on without it."""


class Script:
    """A Lua script: what it reads and writes happens at once, whoever else writes."""

    def __init__(self, text: str) -> None:
        self.text = text


def build_client(url: str) -> _Client:
    """A client of the Redis at `url`; connects when it is first used.

    Raises:
        SettingsError: that is no URL of a Redis; it is not quoted, because it may hold a password.
    """
    try:
        pool = redis.asyncio.ConnectionPool.from_url(
            url,
            max_connections=2 * CONNECTIONS,  # one that was given up may still be closing
            socket_connect_timeout=None,
            socket_timeout=None,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError as exc:
        raise SettingsError(f"{contract.ENV_REDIS_URL} is no URL like redis://host:6379/0") from exc
    return _Client.from_pool(pool)


class Store:
    """Commands with a time limit and a breaker; `clock` is the event loop's."""

    def __init__(
        self, client: _Client, clock: Callable[[], float], *, timeout: float = TIMEOUT_SECONDS
    ) -> None:
        self._client = client
        self._timeout = timeout
        self._breaker = Breaker(FAILURES, OPEN_SECONDS, clock)
        self._places = asyncio.Semaphore(CONNECTIONS)
        self._later: set[asyncio.Task[None]] = set()

    @property
    def retry_after(self) -> float:
        """Seconds until it may be asked again; 0: now."""
        return self._breaker.get_retry_after()

    async def call(self, command: Callable[[_Client], Awaitable[_T]]) -> _T:
        """What a command answers.

        Raises:
            StoreError: it does not, in time.
        """
        async with self._places:
            permit = self._breaker.enter()
            if permit is None:
                raise StoreError("Redis is not asked at the moment")
            outcome = Outcome.UNKNOWN
            try:
                answer = await self._wait(command)
                outcome = Outcome.ANSWERED
            except (TimeoutError, OSError, RedisConnectionError, RedisTimeoutError) as exc:
                outcome = Outcome.FAILED
                raise StoreError(f"Redis does not answer: {type(exc).__name__}") from exc
            except RedisError as exc:
                outcome = Outcome.ANSWERED
                raise StoreError(f"Redis refuses: {type(exc).__name__}") from exc
            finally:
                self._record(permit, outcome)
        return answer

    async def _wait(self, command: Callable[[_Client], Awaitable[_T]]) -> _T:
        task = asyncio.ensure_future(command(self._client))
        try:
            await asyncio.wait([task], timeout=self._timeout)
            for _ in range(TURNS):
                if task.done():
                    break
                await asyncio.sleep(0)
            if not task.done():
                raise TimeoutError
            return task.result()
        finally:
            task.cancel()

    async def get(self, key: str, max_bytes: int) -> bytes:
        """The first `max_bytes` of a value; empty if there is none."""
        value = await self.call(lambda client: client.getrange(key, 0, max_bytes - 1))
        return value if isinstance(value, bytes) else value.encode()

    async def put(self, key: str, value: bytes, seconds: float) -> None:
        """Keep a value for so long."""
        await self.call(lambda client: client.set(key, value, ex=_get_expiry(seconds)))

    async def add(self, key: str, seconds: float) -> bool:
        """Whether this key is new; it is known for so long from now on."""
        added = await self.call(lambda client: client.set(key, b"1", ex=_get_expiry(seconds), nx=True))
        return bool(added)

    async def count(self, key: str, seconds: float) -> int:
        """How often this key was counted, this time included; it is known for so long from now on."""

        async def command(client: _Client) -> int:
            async with client.pipeline() as pipe:
                pipe.incr(key)
                pipe.expire(key, _get_expiry(seconds))
                counted, _ = await pipe.execute()
            return int(counted)

        return await self.call(command)

    async def run(self, script: Script, key: str, *args: float) -> Any:
        """What a script answers that touches one key."""
        return await self.call(
            lambda client: client.register_script(script.text)(keys=[key], args=list(args))
        )

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work` off a request's path; what fails is lost."""
        task = asyncio.create_task(_swallow(work))
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def close(self) -> None:
        """End what is under way, then the connections."""
        if self._later:
            await asyncio.wait(self._later, timeout=CLOSE_SECONDS)
        await self._client.aclose()
        await self._client.connection_pool.disconnect()

    def _record(self, permit: Permit, outcome: Outcome) -> None:
        state = self._breaker.record(permit, outcome)
        if state is BreakerState.OPEN:
            logs.get_logger().warning("redis_lost", seconds=OPEN_SECONDS)
        elif state is BreakerState.CLOSED:
            logs.get_logger().info("redis_back")


async def _swallow(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except StoreError as exc:
        logs.get_logger().debug("redis_write_lost", error=str(exc))


def _get_expiry(seconds: float) -> int:
    return max(1, round(seconds))
