"""The one Redis that the pods of a program may share: a help and never a need.

A command answers within 50 ms or raises `StoreError`; after three failures in a row nobody asks for five seconds.

Cached answers, limits of users and votes use it; each of them says what it does without.
"""

import asyncio
import hashlib
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from dspy_server import contract, logs
from dspy_server.batches import Batches, Words
from dspy_server.breaker import Breaker, BreakerState, Outcome, Permit
from dspy_server.errors import ServerError, SettingsError

TIMEOUT_SECONDS: Final = 0.05
OPEN_SECONDS: Final = 5.0
FAILURES: Final = 3
CONNECTIONS: Final = 2
"""One, and one that was given up and may still be closing."""
CLOSE_SECONDS: Final = 1.0

_Client = redis.asyncio.Redis
_LOST: Final = (TimeoutError, OSError, RedisConnectionError, RedisTimeoutError)
"""It does not answer; any other error is an answer."""


class StoreError(ServerError):
    """Redis does not answer, or answers with an error: go on without it."""


class _UnknownScriptError(StoreError):
    """Redis must be told the script itself."""


@dataclass(frozen=True)
class Script:
    """A Lua script: what it reads and writes happens at once, whoever else writes."""

    text: str
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        # What Redis knows a script by, not a secret.
        object.__setattr__(
            self, "digest", hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        )


def build_client(url: str) -> _Client:
    """A client of the Redis at `url`; connects when it is first used.

    Raises:
        SettingsError: that is no URL of a Redis; it is not quoted, because it may hold a password.
    """
    try:
        pool = redis.asyncio.ConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
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
        self._breaker = Breaker(FAILURES, OPEN_SECONDS, clock)
        self._batches = Batches(self._send, timeout=timeout)
        self._warned: set[str] = set()
        self._later: set[asyncio.Task[None]] = set()

    @property
    def retry_after(self) -> float:
        """Seconds until it may be asked again; 0: now."""
        return self._breaker.get_retry_after()

    async def call(self, *words: bytes | str | float) -> Any:
        """What a command answers; commands of the same moment travel together.

        Raises:
            StoreError: it does not, in time.
        """
        if not self._breaker.lets_through:
            raise StoreError("Redis is not asked at the moment")
        try:
            return await self._batches.add(words)
        except NoScriptError as exc:
            raise _UnknownScriptError("Redis does not know the script") from exc
        except _LOST as exc:
            raise StoreError(f"Redis does not answer: {type(exc).__name__}") from exc
        except RedisError as exc:
            problem = type(exc).__name__
            self._warn_once(problem)
            raise StoreError(f"Redis refuses: {problem}") from exc

    async def call_all(self, *commands: Words) -> list[Any]:
        """What commands answer that are carried out in this order; others' may come between them.

        Raises:
            StoreError: one of them does not answer.
        """
        return await asyncio.gather(*(self.call(*words) for words in commands))

    async def get(self, key: str, max_bytes: int) -> bytes:
        """The first `max_bytes` of a value; empty if there is none."""
        value: bytes = await self.call("GETRANGE", key, 0, max_bytes - 1)
        return value

    async def put(self, key: str, value: bytes, seconds: float) -> None:
        """Keep a value for so long."""
        await self.call("SET", key, value, "EX", _get_expiry(seconds))

    async def add(self, key: str, seconds: float) -> bool:
        """Whether this key is new; it is known for so long from now on."""
        return bool(await self.call("SET", key, b"1", "EX", _get_expiry(seconds), "NX"))

    async def count(self, key: str, seconds: float) -> int:
        """How often this key was counted, this time included; it is known for so long from the first time on."""
        _, counted = await self.call_all(("SET", key, 0, "EX", _get_expiry(seconds), "NX"), ("INCR", key))
        return int(counted)

    async def run(self, script: Script, key: str, *args: bytes | float) -> Any:
        """What a script answers that touches one key."""
        try:
            return await self.call("EVALSHA", script.digest, 1, key, *args)
        except _UnknownScriptError:  # Redis has started anew, or never ran it
            return await self.call("EVAL", script.text, 1, key, *args)

    async def _send(self, commands: Sequence[Words]) -> Sequence[Any]:
        """One batch on the wire: what each command answers, an error of its own included."""
        permit = self._breaker.enter()
        if permit is None:
            raise ConnectionRefusedError
        outcome, problem = Outcome.FAILED, TimeoutError.__name__
        try:
            async with self._client.pipeline(transaction=False) as pipe:
                for words in commands:
                    pipe.execute_command(*words)
                answers: list[Any] = await pipe.execute(raise_on_error=False)
            outcome = Outcome.ANSWERED
        except Exception as exc:
            problem = type(exc).__name__
            if isinstance(exc, RedisError) and not isinstance(exc, _LOST):
                outcome = Outcome.ANSWERED
            raise
        finally:
            self._record(permit, outcome, problem)
        return answers

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work` off a request's path; what fails is lost."""
        task = asyncio.create_task(_swallow(work))
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def close(self) -> None:
        """End what is under way, then the connections."""
        if self._later:
            await asyncio.wait(self._later, timeout=CLOSE_SECONDS)
        await self._batches.close()
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


async def _swallow(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except StoreError as exc:
        logs.get_logger().debug("redis_write_lost", error=str(exc))


def _get_expiry(seconds: float) -> int:
    return max(1, round(seconds))
