"""Commands that are given up half way: their answers must never be taken for those of another user's."""

import asyncio
import random

import pytest
from tests.redis.conftest import PATIENT, RedisServer

from dspy_server.store import Script, Store, StoreError, build_client

pytestmark = pytest.mark.tools
KEYS = 40


@pytest.fixture
def filled(redis_server: RedisServer) -> RedisServer:
    with redis_server.client as outside:
        for number in range(KEYS):
            outside.set(f"k{number}", f"value of {number}")
    return redis_server


async def read(store: Store, number: int) -> bytes:
    return await store.get(f"k{number}", 100)


async def test_no_answer_is_anothers_after_commands_ran_out_of_time(filled: RedisServer) -> None:
    loop = asyncio.get_running_loop()
    client = build_client(filled.url)
    hasty, patient = Store(client, loop.time, timeout=0.02), Store(client, loop.time, timeout=PATIENT)
    await asyncio.gather(*(read(patient, number) for number in range(KEYS)))
    with filled.client as outside:
        outside.client_pause(1000)
    given_up = await asyncio.gather(*(read(hasty, number) for number in range(KEYS)), return_exceptions=True)
    assert {type(result) for result in given_up} == {StoreError}
    for _ in range(3):
        values = await asyncio.gather(*(read(patient, number) for number in range(KEYS)))
        assert values == [f"value of {number}".encode() for number in range(KEYS)]
    await hasty.close()
    await patient.close()


async def test_no_answer_is_anothers_after_callers_left_at_any_moment(filled: RedisServer) -> None:
    chance = random.Random(7)
    store = Store(build_client(filled.url), asyncio.get_running_loop().time, timeout=PATIENT)
    left = 0
    for _ in range(30):
        tasks = [asyncio.create_task(read(store, number)) for number in range(KEYS)]
        for _ in range(chance.randrange(12)):
            await asyncio.sleep(0)
        for task in chance.sample(tasks, KEYS // 2):
            task.cancel()
        for number, result in enumerate(await asyncio.gather(*tasks, return_exceptions=True)):
            if isinstance(result, asyncio.CancelledError):
                left += 1
            else:
                assert result == f"value of {number}".encode()
    assert left > 100
    assert store.retry_after == 0
    await store.close()


async def test_a_script_that_redis_has_forgotten_is_told_again(redis_server: RedisServer) -> None:
    store = Store(build_client(redis_server.url), asyncio.get_running_loop().time, timeout=PATIENT)
    count = Script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    assert [await store.run(count, "c", 2) for _ in range(2)] == [2, 4]
    with redis_server.client as outside:
        outside.script_flush()
    assert await store.run(count, "c", 2) == 6
    with pytest.raises(StoreError, match="ResponseError"):
        await store.run(Script("return redis.call('NO SUCH COMMAND')"), "c")
    assert store.retry_after == 0
    await store.close()


async def test_a_connection_that_redis_ended_costs_one_batch(redis_server: RedisServer) -> None:
    store = Store(build_client(redis_server.url), asyncio.get_running_loop().time, timeout=PATIENT)
    await store.put("k", b"x", 60)
    with redis_server.client as outside:
        outside.client_kill_filter(_type="normal", skipme=True)
    results = await asyncio.gather(*(store.get("k", 1) for _ in range(5)), return_exceptions=True)
    assert {type(result) for result in results} <= {bytes, StoreError}
    assert await store.get("k", 1) == b"x"
    assert store.retry_after == 0
    await store.close()
