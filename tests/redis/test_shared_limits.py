"""Budgets, rates and votes of all pods together, in a real Redis. Drill D5."""

import asyncio

import pytest
from tests.redis.conftest import Pods, RedisServer
from tests.unit.serving.harness import ask
from tests.unit.serving.worlds import Clock

from dspy_server.contract import Rejection, ScoreSource
from dspy_server.metrics import Metrics
from dspy_server.scoring import VOTES_PER_USER, FeedbackBox, Vote
from dspy_server.shared_limits import SharedLimits
from dspy_server.store import Store
from dspy_server.tokens import build_keys
from dspy_server.users import UserLimitError, UserLimits

pytestmark = pytest.mark.tools
DAY = 86_400
KEYS = build_keys(b"0123456789abcdef")


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.now = DAY * 20_000 + 3600.0
    return clock


def build(
    store: Store, clock: Clock, *, per_minute: int = 0, budget: int = 0, denies: bool = False
) -> SharedLimits:
    local = UserLimits(per_minute, budget, get_pseudonym=str.upper, clock=clock)
    return SharedLimits(local, store, program="triage", clock=clock, denies=denies)


async def spend(limits: SharedLimits, estimate: int, used: int, user: str = "A") -> bool:
    """Whether the budget let it through."""
    try:
        async with limits.spend(user, estimate, lambda: used):
            await asyncio.sleep(0)
    except UserLimitError:
        return False
    return True


async def settle(*limits: SharedLimits) -> None:
    for one in limits:
        if one._store is not None and one._store._later:
            await asyncio.wait(one._store._later)


async def test_a_hundred_at_once_in_two_pods_never_overspend(stores: list[Store], clock: Clock) -> None:
    pods = [build(store, clock, budget=1000) for store in stores]
    may_end = asyncio.Event()
    refused = 0

    async def write(limits: SharedLimits) -> bool:
        nonlocal refused
        try:
            async with limits.spend("A", 30, lambda: 30):
                await may_end.wait()
        except UserLimitError:
            refused += 1
            return False
        return True

    tasks = [asyncio.create_task(write(pods[index % 2])) for index in range(100)]
    async with asyncio.timeout(60):
        while refused < 67:  # noqa: ASYNC110 - counted, not signalled
            await asyncio.sleep(0.001)
    may_end.set()
    assert (await asyncio.gather(*tasks)).count(True) == 33
    await settle(*pods)
    assert await stores[0].get("dspy:b:triage:A:20000", 10) == b"990"
    assert not await spend(pods[1], 11, 11)
    assert await spend(pods[1], 10, 10)


async def test_what_was_not_used_is_given_back_and_a_day_ends_at_midnight(
    stores: list[Store], clock: Clock
) -> None:
    one, other = (build(store, clock, budget=1000) for store in stores)
    assert await spend(one, 900, 100)
    await settle(one)
    assert await spend(other, 900, 900)
    await settle(other)
    with pytest.raises(UserLimitError) as caught:
        async with one.spend("A", 1, lambda: 1):
            pass
    assert caught.value.retry_after == 23 * 3600
    assert await spend(one, 900, 900, user="B")
    clock.now += 23 * 3600
    assert await spend(one, 900, 900)
    assert await stores[0].call("TTL", "dspy:b:triage:A:20000") in range(1, DAY + 1)


async def test_a_failure_is_booked_like_an_answer(stores: list[Store], clock: Clock) -> None:
    limits = build(stores[0], clock, budget=1000)
    with pytest.raises(ValueError, match="boom"):
        async with limits.spend("A", 10, lambda: 995):
            raise ValueError("boom")
    await settle(limits)
    assert not await spend(limits, 10, 0)


async def test_two_pods_let_through_as_many_requests_a_minute_as_one(
    stores: list[Store], clock: Clock
) -> None:
    pods = [build(store, clock, per_minute=10) for store in stores]
    results = await asyncio.gather(
        *(pods[index % 2].take("A") for index in range(20)), return_exceptions=True
    )
    refusals = [result for result in results if isinstance(result, UserLimitError)]
    assert len(refusals) == 10
    assert all(0 < refusal.retry_after <= 6 for refusal in refusals)
    await pods[0].take("B")
    assert await stores[0].call("TTL", "dspy:r:triage:A") in range(1, 62)


async def test_a_poisoned_count_is_replaced_and_another_type_is_as_if_redis_were_lost(
    stores: list[Store], clock: Clock, redis_server: RedisServer
) -> None:
    limits = build(stores[0], clock, budget=100, per_minute=1)
    with redis_server.client as outside:
        outside.set("dspy:b:triage:A:20000", "nonsense")
        outside.rpush("dspy:r:triage:A", "x")
    await limits.take("A")
    with pytest.raises(UserLimitError):
        await limits.take("A")
    assert [await spend(limits, 60, 60), await spend(limits, 60, 60)] == [True, False]


async def test_without_redis_each_pod_counts_for_itself_or_denies(
    stores: list[Store], clock: Clock, redis_server: RedisServer
) -> None:
    one, other = (build(store, clock, budget=100, per_minute=1) for store in stores)
    strict = build(stores[0], clock, budget=100, denies=True)
    redis_server.stop()
    for limits in (one, other):
        await limits.take("A")
        with pytest.raises(UserLimitError):
            await limits.take("A")
        assert [await spend(limits, 60, 60), await spend(limits, 60, 60)] == [True, False]
    with pytest.raises(UserLimitError) as caught:
        async with strict.spend("A", 1, lambda: 1):
            pass
    assert (caught.value.reason, caught.value.title) == (
        Rejection.USER_BUDGET,
        "Budgets cannot be read at the moment",
    )
    assert caught.value.retry_after > 0
    await settle(one, other)


@pytest.fixture
async def boxes(stores: list[Store], clock: Clock) -> list[FeedbackBox]:
    return [FeedbackBox(KEYS, Metrics("triage"), clock, store) for store in stores]


async def test_a_vote_counts_once_in_all_pods_also_when_many_come_at_once(boxes: list[FeedbackBox]) -> None:
    token = boxes[0].issue("rev0", "r1", None)
    votes = await asyncio.gather(*(boxes[index % 2].vote(token, 1.0) for index in range(20)))
    assert (votes.count(Vote.COUNTED), votes.count(Vote.USED)) == (1, 19)
    counts = [box.metrics.get_moments().get(("rev0", ScoreSource.FEEDBACK)) for box in boxes]
    assert sum(moments.count for moments in counts if moments is not None) == 1


async def test_a_user_has_twenty_votes_a_day_in_all_pods(boxes: list[FeedbackBox], clock: Clock) -> None:
    votes = [
        await boxes[index % 2].vote(boxes[0].issue("rev0", f"r{index}", "alice"), 1.0)
        for index in range(VOTES_PER_USER + 5)
    ]
    assert votes == [Vote.COUNTED] * VOTES_PER_USER + [Vote.LIMITED] * 5
    clock.now += DAY
    assert await boxes[0].vote(boxes[0].issue("rev0", "tomorrow", "alice"), 1.0) is Vote.COUNTED


async def test_a_vote_is_kept_as_long_as_its_token_and_taken_here_when_redis_is_lost(
    boxes: list[FeedbackBox], redis_server: RedisServer
) -> None:
    token = boxes[0].issue("rev0", "r1", "alice")
    assert await boxes[0].vote(token, 1.0) is Vote.COUNTED
    with redis_server.client as outside:
        assert 71 * 3600 < outside.ttl("dspy:v:triage:r1") <= 72 * 3600
    redis_server.stop()
    assert await boxes[0].vote(token, 1.0) is Vote.USED
    assert await boxes[0].vote(boxes[0].issue("rev0", "r2", "alice"), 1.0) is Vote.COUNTED


async def test_a_greedy_user_is_refused_by_every_pod_and_the_others_are_answered(
    pods: Pods, patient: None
) -> None:
    serving = {"limits": {"perUserTokensPerDay": 2500}, "cache": {"scope": "Off"}}
    running = [await pods.start(serving) for _ in range(2)]
    codes = []
    for index in range(12):
        server, client = running[index % 2]
        codes.append((await ask(client, f"x{index}", X_User_Id="greedy")).status_code)
        await settle(server.users)
    assert codes == sorted(codes)
    assert (codes[0], codes[-2:]) == (200, [429, 429])
    for _, client in running:
        assert (await ask(client, "x", X_User_Id="modest")).status_code == 200
    assert (await running[0][1].get("/version")).json()["userLimits"] == "redis"
