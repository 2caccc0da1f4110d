"""The client of Redis: short patience, a breaker, and no secret in what it says."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import fakeredis
import pytest
from fakeredis import FakeAsyncRedis
from redis.exceptions import ResponseError
from tests.unit.serving.worlds import Clock, until

from dspy_server import store as store_module
from dspy_server.errors import SettingsError
from dspy_server.store import FAILURES, OPEN_SECONDS, Store, StoreError, build_client


@pytest.fixture
def server() -> fakeredis.FakeServer:
    return fakeredis.FakeServer()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(server: fakeredis.FakeServer, clock: Clock) -> AsyncIterator[Store]:
    store = Store(FakeAsyncRedis(server=server), clock, timeout=30.0)
    yield store
    await store.close()


async def test_a_value_is_kept_and_read_up_to_its_limit(store: Store) -> None:
    await store.put("k", b"0123456789", 60)
    assert (await store.get("k", 100), await store.get("k", 4)) == (b"0123456789", b"0123")
    assert await store.get("none", 100) == b""
    assert await store.call("TTL", "k") in range(55, 61)


async def test_a_key_is_new_once_and_counts_go_on(store: Store) -> None:
    assert [await store.add("v", 60) for _ in range(3)] == [True, False, False]
    assert [await store.count("c", 60) for _ in range(3)] == [1, 2, 3]
    assert await store.call("TTL", "v") in range(55, 61)
    assert await store.call("TTL", "c") in range(55, 61)


async def test_after_failures_in_a_row_it_is_left_alone_and_then_tried_once(
    store: Store, server: fakeredis.FakeServer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    send = store._batches._send

    async def count(commands: Any) -> Any:
        nonlocal asked
        asked += 1
        return await send(commands)

    monkeypatch.setattr(store._batches, "_send", count)
    server.connected = False
    for _ in range(10):
        with pytest.raises(StoreError):
            await store.get("k", 1)
    assert (asked, store.retry_after) == (FAILURES, OPEN_SECONDS)
    clock.now += OPEN_SECONDS
    for _ in range(2):
        with pytest.raises(StoreError):
            await store.get("k", 1)
    assert asked == FAILURES + 1
    clock.now += OPEN_SECONDS
    server.connected = True
    assert await store.get("k", 1) == b""
    assert store.retry_after == 0


async def test_many_commands_that_fail_together_are_one_failure(
    store: Store, server: fakeredis.FakeServer
) -> None:
    server.connected = False
    results = await asyncio.gather(*(store.get("k", 1) for _ in range(10)), return_exceptions=True)
    assert {type(result) for result in results} == {StoreError}
    assert store.retry_after == 0


async def test_an_answer_that_says_error_is_no_outage_and_is_logged_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[tuple[str, dict[str, Any]]] = []

    class Log:
        def warning(self, event: str, **fields: Any) -> None:
            lines.append((event, fields))

    monkeypatch.setattr("dspy_server.store.logs.get_logger", Log)
    await store.put("secret", b"x", 60)
    for _ in range(FAILURES + 1):
        refused, kept = await asyncio.gather(
            store.call("LPUSH", "secret", "y"), store.get("secret", 1), return_exceptions=True
        )
        assert str(refused) == "Redis refuses: ResponseError"
        assert kept == b"x"
    assert store.retry_after == 0
    assert lines == [("redis_refuses", {"error": "ResponseError"})]


async def test_a_redis_that_refuses_the_connection_itself_is_no_outage_either(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: Any, **__: Any) -> None:
        raise ResponseError("no such database")

    monkeypatch.setattr("redis.asyncio.client.Pipeline.execute", refuse)
    for _ in range(FAILURES + 1):
        with pytest.raises(StoreError, match="Redis refuses: ResponseError"):
            await store.get("k", 1)
    assert store.retry_after == 0


async def test_what_is_done_later_is_done_before_the_end_and_its_failure_harms_nobody(
    server: fakeredis.FakeServer, clock: Clock
) -> None:
    store = Store(FakeAsyncRedis(server=server), clock, timeout=30.0)
    done = []

    async def work() -> None:
        await asyncio.sleep(0)
        done.append(1)
        server.connected = False
        await store.get("k", 1)

    store.later(work())
    await store.close()
    assert done == [1]
    await until(lambda: not store._later)


def test_patience_is_short() -> None:
    assert store_module.TIMEOUT_SECONDS == 0.05


@pytest.mark.parametrize("url", ["redis.example:6379", "http://:s3cret@redis", "redis://:s3cret@redis:port"])
def test_what_is_no_url_of_a_redis_is_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(SettingsError, match="DSPY_REDIS_URL") as caught:
        build_client(url)
    assert "s3cret" not in str(caught.value)
