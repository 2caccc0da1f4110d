"""What limits users when there is no Redis, or none that answers; with one: `tests/redis`."""

import asyncio

import fakeredis
import pytest
from fakeredis import FakeAsyncRedis
from tests.unit.serving.harness import ask, run
from tests.unit.serving.test_metrics import get, scrape
from tests.unit.serving.worlds import Clock, World

from dspy_server import parts
from dspy_server.shared_limits import SharedLimits
from dspy_server.store import Store
from dspy_server.users import UserLimitError, UserLimits

URL = {"DSPY_REDIS_URL": "redis://redis:6379/0"}


@pytest.fixture
def lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers of this test have a Redis that does not answer."""
    server = fakeredis.FakeServer()
    server.connected = False
    monkeypatch.setattr(parts, "build_client", lambda _url: FakeAsyncRedis(server=server))


async def test_without_redis_the_process_counts() -> None:
    clock = Clock()
    local = UserLimits(1, 100, get_pseudonym=str.upper, clock=clock)
    limits = SharedLimits(local, None, program="triage", clock=clock, denies=True)
    await limits.take("A")
    with pytest.raises(UserLimitError):
        await limits.take("A")
    async with limits.spend("A", 60, lambda: 60):
        pass
    with pytest.raises(UserLimitError):
        async with limits.spend("A", 60, lambda: 60):
            pass
    assert limits.kept_by == "process"


async def test_nobody_is_asked_about_a_user_without_a_name_or_a_limit() -> None:
    store = Store(FakeAsyncRedis(connected=False), asyncio.get_running_loop().time)
    limits = SharedLimits(
        UserLimits(0, 0, get_pseudonym=str.upper, clock=Clock()),
        store,
        program="triage",
        clock=Clock(),
        denies=True,
    )
    await limits.take("A")
    async with limits.spend("A", 60, lambda: 60):
        pass
    limited = SharedLimits(
        UserLimits(1, 1, get_pseudonym=str.upper, clock=Clock()),
        store,
        program="triage",
        clock=Clock(),
        denies=True,
    )
    for _ in range(3):
        await limited.take("")
        async with limited.spend("", 60, lambda: 60):
            pass
    assert store.retry_after == 0
    await store.close()


@pytest.mark.parametrize(("policy", "first"), [("Allow", 200), ("Deny", 429)])
async def test_a_budget_that_cannot_be_read_is_the_pods_own_or_denies(
    world: World, base_url: str, lost: None, policy: str, first: int
) -> None:
    world.write_table(world.route(0, 100, "stable"))
    config = {
        "serving": {
            "limits": {"perUserTokensPerDay": 1500, "budgetOnRedisError": policy},
            "cache": {"scope": "Off"},
        }
    }
    async with run(world, base_url, config, **URL) as (server, client):
        responses = [await ask(client, X_User_Id="alice") for _ in range(8)]
        anonymous = await ask(client)
        samples = scrape(server.metrics)
    codes = [response.status_code for response in responses]
    assert codes == sorted(codes)
    assert (codes[0], codes[-1]) == (first, 429)
    assert (responses[-1].json()["code"], anonymous.status_code) == ("user_budget", 200)
    assert responses[-1].json()["title"] == (
        "Today's budget is used" if policy == "Allow" else "Budgets cannot be read at the moment"
    )
    assert get(samples, "dspy_rejected_total", revision="rev0", reason="user_budget") == codes.count(429)


async def test_without_a_key_users_mean_something_in_one_process_only(
    world: World, base_url: str, lost: None
) -> None:
    world.write_table(world.route(0, 100, "stable"))
    async with run(world, base_url, DSPY_LM_KEY_0="short", **URL) as (_, client):
        version = (await client.get("/version")).json()
        answer = (await ask(client, X_User_Id="alice")).json()
    assert (version["userLimits"], version["answerCache"]) == ("process", "Off")
    assert answer["meta"]["cache"] == "miss"
