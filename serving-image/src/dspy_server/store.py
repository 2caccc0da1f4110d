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
from redis.commands.core import AsyncScript
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
        self._scripts: dict[str, AsyncScript] = {}
        self._warned: set[str] = set()
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
            outcome, problem = Outcome.UNKNOWN, ""
            try:
                answer = await self._wait(command)
                outcome = Outcome.ANSWERED
            except (TimeoutError, OSError, RedisConnectionError, RedisTimeoutError) as exc:
                outcome, problem = Outcome.FAILED, type(exc).__name__
                raise StoreError(f"Redis does not answer: {problem}") from exc
            except RedisError as exc:
                outcome, problem = Outcome.ANSWERED, type(exc).__name__
                self._warn_once(problem)
                raise StoreError(f"Redis refuses: {problem}") from exc
            finally:
                self._record(permit, outcome, problem)
        return answer

    async def _wait(self, command: Callable[[_Client], Awaitable[_T]]) -> _T:
        async with asyncio.timeout(None) as limit:
            alarm = _Alarm(limit, self._timeout)
            try:
                return await command(self._client)
            finally:
                alarm.cancel()

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
        known = self._scripts.get(script.text)
        if known is None:
            known = self._scripts[script.text] = AsyncScript(self._client, script.text)
        return await self.call(lambda _: known(keys=[key], args=list(args)))

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

    def _warn_once(self, problem: str) -> None:
        """A user without a right, a full or read-only Redis: true of every command, worth one line."""
        if problem not in self._warned:
            self._warned.add(problem)
            logs.get_logger().warning("redis_refuses", error=problem)

    def _record(self, permit: Permit, outcome: Outcome, problem: str) -> None:
        state = self._breaker.record(permit, outcome)
        if state is BreakerState.OPEN:
            logs.get_logger().warning("redis_lost", error=problem, seconds=OPEN_SECONDS)
        elif state is BreakerState.CLOSED:
            logs.get_logger().info("redis_back")


class _Alarm:
    """Ends a wait after so many seconds and then so many turns of the loop."""

    def __init__(self, limit: asyncio.Timeout, seconds: float) -> None:
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._turns = TURNS
        self._handle: asyncio.Handle = self._loop.call_later(seconds, self._ring)

    def cancel(self) -> None:
        """The wait has ended."""
        self._handle.cancel()

    def _ring(self) -> None:
        if self._turns:
            self._turns -= 1
            self._handle = self._loop.call_soon(self._ring)
        else:
            self._limit.reschedule(self._loop.time())


async def _swallow(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except StoreError as exc:
        logs.get_logger().debug("redis_write_lost", error=str(exc))


def _get_expiry(seconds: float) -> int:
    return max(1, round(seconds))
