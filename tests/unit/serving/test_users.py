"""A user whose requests or tokens explode is cut off; nobody else is. Drill D5."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from typing import Any

import pytest
from tests.unit.serving.harness import ask, build_lm, run
from tests.unit.serving.test_metrics import get, scrape
from tests.unit.serving.worlds import Clock, World

from dspy_server import bodies, users
from dspy_server.contract import Rejection
from dspy_server.users import UserLimitError, UserLimits

DAY = 86_400


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.now = DAY * 20_000 + 3600.0
    return clock


def build(clock: Callable[[], float], *, per_minute: int = 0, tokens_per_day: int = 0) -> UserLimits:
    return UserLimits(per_minute, tokens_per_day, get_pseudonym=str.upper, clock=clock)


def spend(limits: UserLimits, user: str, estimate: int, used: int) -> None:
    with limits.spend(user, estimate, lambda: used):
        pass


def test_a_user_has_so_many_requests_a_minute_and_others_theirs(clock: Clock) -> None:
    limits = build(clock, per_minute=3)
    for _ in range(3):
        limits.take("A")
    with pytest.raises(UserLimitError) as caught:
        limits.take("A")
    assert (caught.value.reason, caught.value.retry_after) == (Rejection.USER_RATE, 20)
    limits.take("B")
    clock.now += 20
    limits.take("A")


def test_a_budget_is_of_a_day_and_says_when_it_is_renewed(clock: Clock) -> None:
    limits = build(clock, tokens_per_day=1000)
    spend(limits, "A", 600, 900)
    with pytest.raises(UserLimitError) as caught:
        spend(limits, "A", 600, 900)
    assert (caught.value.reason, caught.value.retry_after) == (Rejection.USER_BUDGET, 23 * 3600)
    spend(limits, "B", 600, 900)
    clock.now += 23 * 3600
    spend(limits, "A", 600, 900)


def test_what_is_under_way_is_reserved_and_what_was_not_used_is_given_back(clock: Clock) -> None:
    limits = build(clock, tokens_per_day=1000)
    with ExitStack() as under_way:
        for _ in range(2):
            under_way.enter_context(limits.spend("A", 500, lambda: 100))
        with pytest.raises(UserLimitError):
            spend(limits, "A", 500, 100)
    for _ in range(4):
        spend(limits, "A", 500, 100)
    with pytest.raises(UserLimitError):
        spend(limits, "A", 500, 100)


def test_a_request_over_midnight_takes_nothing_from_the_new_day(clock: Clock) -> None:
    limits = build(clock, tokens_per_day=1000)
    with limits.spend("A", 1000, lambda: 5000):
        clock.now += DAY
    spend(limits, "A", 1000, 0)


def test_a_failure_is_booked_like_an_answer(clock: Clock) -> None:
    limits = build(clock, tokens_per_day=1000)
    with pytest.raises(ValueError, match="boom"), limits.spend("A", 10, lambda: 995):
        raise ValueError("boom")
    with pytest.raises(UserLimitError):
        spend(limits, "A", 10, 0)


def test_the_log_says_once_who_is_about_to_be_cut_off(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[tuple[str, dict[str, Any]]] = []

    class Log:
        def warning(self, event: str, **fields: Any) -> None:
            events.append((event, fields))

    monkeypatch.setattr("dspy_server.users.logs.get_logger", Log)
    limits = build(clock, tokens_per_day=1000)
    for _ in range(9):
        spend(limits, limits.get_user("alice"), 100, 100)
    assert events == [("user_budget_nearly_used", {"user": "ALICE", "used": 800})]


def test_nobody_is_remembered_for_ever(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "MAX_USERS", 10)
    limits = build(clock, per_minute=1, tokens_per_day=1000)
    for index in range(100):
        limits.take(f"user-{index}")
        spend(limits, f"user-{index}", 1, 1)
    assert (len(limits._buckets), len(limits._used)) == (10, 10)


def test_without_a_name_or_a_limit_nothing_is_counted(clock: Clock) -> None:
    limits = build(clock, per_minute=1, tokens_per_day=10)
    for _ in range(5):
        limits.take(limits.get_user(None))
        spend(limits, "", 100, 100)
    assert build(clock).get_user("alice") == ""


async def test_a_greedy_user_is_refused_and_the_others_are_answered(world: World, base_url: str) -> None:
    world.write_table(world.route(0, 100, "stable"))
    config = build_lm(base_url, "openai/icl-100")
    config["lm"]["primary"]["maxTokens"] = 50
    config["serving"] = {"limits": {"perUserTokensPerDay": 600}}
    async with run(world, base_url, config) as (server, client):
        greedy = [await ask(client, X_User_Id="greedy@example.com") for _ in range(8)]
        others = await asyncio.gather(*(ask(client, X_User_Id=f"user-{index}") for index in range(8)))
        anonymous = await ask(client)
        samples, text = scrape(server.metrics), server.metrics.render().decode()
    codes = [response.status_code for response in greedy]
    assert codes == sorted(codes)
    assert (codes[0], codes[-1]) == (200, 429)
    assert greedy[-1].json()["code"] == "user_budget"
    assert 0 < int(greedy[-1].headers["retry-after"]) <= DAY
    assert {response.status_code for response in [*others, anonymous]} == {200}
    assert get(samples, "dspy_rejected_total", revision="rev0", reason="user_budget") == codes.count(429)
    assert "greedy" not in text


async def test_a_hasty_user_is_refused_before_anything_is_done(world: World, base_url: str) -> None:
    world.write_table(world.route(0, 100, "stable"))
    config = {"serving": {"limits": {"perUserRequestsPerMinute": 2}}}
    async with run(world, base_url, config) as (server, client):
        hasty = [await ask(client, X_User_Id="hasty") for _ in range(4)]
        other = await ask(client, X_User_Id="other")
        samples = scrape(server.metrics)
    assert [response.status_code for response in hasty] == [200, 200, 429, 429]
    assert (hasty[-1].json()["code"], hasty[-1].headers["retry-after"]) == ("user_rate", "30")
    assert other.status_code == 200
    assert get(samples, "dspy_rejected_total", revision="", reason="user_rate") == 2
    assert get(samples, "dspy_http_requests_total", revision="rev0", route="/ask", code="200") == 3


async def test_a_pod_takes_so_many_requests_a_second(world: World, base_url: str) -> None:
    world.write_table(world.route(0, 100, "stable"))
    config = {"serving": {"limits": {"requestsPerSecond": 1}}}
    async with run(world, base_url, config) as (server, client):
        responses = await asyncio.gather(*(ask(client) for _ in range(10)))
        samples = scrape(server.metrics)
    codes = [response.status_code for response in responses]
    assert codes.count(200) >= 1
    assert codes.count(429) >= 5
    assert get(samples, "dspy_rejected_total", revision="rev0", reason="queue") == codes.count(429)


async def test_a_body_that_trickles_is_given_up(
    world: World, base_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.05)
    world.write_table(world.route(0, 100, "stable"))

    async def trickle() -> AsyncIterator[bytes]:
        yield b'{"inputs": '
        await asyncio.Event().wait()

    async with run(world, base_url) as (server, client):
        response = await client.post("/ask", content=trickle())
        assert get(scrape(server.metrics), "dspy_inflight", revision="rev0") == 0
    assert (response.status_code, response.json()["code"]) == (408, "slow_body")
