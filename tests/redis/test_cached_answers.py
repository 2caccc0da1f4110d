"""Cached answers in a real Redis: whose they are, and that no trouble of Redis is trouble of a user. Drill D6."""

import asyncio
import time
from typing import Any

import httpx
import pytest
from tests.redis.conftest import Pods, RedisServer
from tests.unit.serving.harness import ask
from tests.unit.serving.test_metrics import get, scrape
from tests.unit.serving.worlds import until

from dspy_server.server import Server

pytestmark = pytest.mark.tools
SHARED: dict[str, Any] = {"cache": {"scope": "Shared"}}


async def ask_and_settle(server: Server, client: httpx.AsyncClient, ticket: str, **headers: str) -> str:
    """The label `cache` of an answer, once all that it left behind is done."""
    response = await ask(client, ticket, **headers)
    store = server.cache.store
    assert store is not None
    await until(lambda: not store._later)
    assert response.status_code == 200
    return str(response.json()["meta"]["cache"])


def count(server: Server, result: str) -> float:
    return get(
        scrape(server.metrics), "dspy_cache_requests_total", revision="rev0", tier="business", result=result
    )


async def test_a_pod_answers_what_another_one_was_asked_but_never_another_user(
    pods: Pods, patient: None
) -> None:
    first, second = await pods.start({}), await pods.start({})
    labels = [await ask_and_settle(*pod, "x", X_User_Id="alice") for pod in (first, second)]
    assert labels == ["miss", "hit"]
    assert await ask_and_settle(*second, "x", X_User_Id="bob") == "miss"
    assert pods.count_calls() == 2
    with pods.redis.client as client:
        keys = [key.decode() for key in client.keys("*")]
        assert all(key.startswith("dspy:a:triage:rev0:") for key in keys)
        assert len(keys) == 2
        assert all(86_000 < client.ttl(key) <= 86_400 for key in keys)
    assert "alice" not in "".join(keys)


async def test_a_hundred_equal_questions_at_once_are_one_run(pods: Pods, patient: None) -> None:
    server, client = await pods.start(SHARED)
    responses = await asyncio.gather(*(ask(client) for _ in range(100)))
    assert {response.status_code for response in responses} == {200}
    assert (pods.count_calls(), count(server, "hit"), count(server, "miss")) == (1, 99, 1)


async def test_revisions_share_nothing(pods: Pods, patient: None) -> None:
    server, client = await pods.start(SHARED)
    assert [await ask_and_settle(server, client, "x") for _ in range(2)] == ["miss", "hit"]
    pods.world.split(100)
    await until(lambda: server.keeper.poll() or "rev1" in server.keeper.current.programs)
    assert [await ask_and_settle(server, client, "x") for _ in range(2)] == ["miss", "hit"]
    assert (await ask(client, "x")).json()["outputs"] == {"queue": "shipping"}


@pytest.mark.parametrize("poison", [b"\x80\x04\x95nonsense", b'{"v": 1}', b"x" * 200_000])
async def test_a_poisoned_value_is_a_miss_and_is_written_over(
    pods: Pods, patient: None, poison: bytes
) -> None:
    server, client = await pods.start(SHARED)
    await ask_and_settle(server, client, "x")
    with pods.redis.client as outside:
        (key,) = outside.keys("dspy:a:*")
        outside.set(key, poison)
    assert [await ask_and_settle(server, client, "x") for _ in range(2)] == ["miss", "hit"]


async def test_a_key_of_another_type_is_an_error_and_no_harm(pods: Pods, patient: None) -> None:
    server, client = await pods.start(SHARED)
    await ask_and_settle(server, client, "x")
    with pods.redis.client as outside:
        (key,) = outside.keys("dspy:a:*")
        outside.delete(key)
        outside.rpush(key, "x")
    assert await ask_and_settle(server, client, "x") == "miss"
    assert (count(server, "error"), server.cache.store and server.cache.store.retry_after) == (1, 0)


async def test_an_answer_is_gone_after_its_time(pods: Pods, patient: None) -> None:
    server, client = await pods.start({"cache": {"scope": "Shared", "ttl": "1s"}})
    await ask_and_settle(server, client, "x")
    with pods.redis.client as outside:
        await until(lambda: not outside.keys("dspy:a:*"))
    assert await ask_and_settle(server, client, "x") == "miss"


async def test_a_redis_that_hangs_delays_a_few_answers_by_its_patience_and_no_others(
    pods: Pods, forgiving: None
) -> None:
    server, client = await pods.start(SHARED)
    await ask(client, "warm")
    with pods.redis.client as outside:
        outside.client_pause(3000)
        started = time.perf_counter()
        lost = [await ask(client, f"x{index}") for index in range(10)]
        assert time.perf_counter() - started < 10
        assert {response.status_code for response in lost} == {200}
        assert count(server, "error") == 10
        assert outside.ping()  # answered when the pause is over
    async with asyncio.timeout(60):
        while (await ask(client, "again")).json()["meta"]["cache"] != "hit":
            pass


async def test_answers_go_on_while_redis_is_killed_and_started_again(
    pods: Pods, redis_server: RedisServer, forgiving: None
) -> None:
    server, client = await pods.start(SHARED)
    codes: list[int] = []
    labels: list[str] = []
    stop = asyncio.Event()

    async def user(name: int) -> None:
        while not stop.is_set():
            response = await ask(client, f"question {name}")
            codes.append(response.status_code)
            labels.append(response.json()["meta"]["cache"])
            await asyncio.sleep(0)

    users = [asyncio.create_task(user(name)) for name in range(8)]
    await until(lambda: "hit" in labels, seconds=60)
    await asyncio.to_thread(redis_server.stop)
    labels.clear()
    await until(lambda: labels.count("miss") > 20, seconds=60)
    await asyncio.to_thread(redis_server.start)
    labels.clear()
    await until(lambda: labels.count("hit") > 20, seconds=60)
    stop.set()
    await asyncio.gather(*users)
    assert set(codes) == {200}
    assert count(server, "error") > 0
