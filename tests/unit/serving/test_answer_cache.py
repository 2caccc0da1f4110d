"""Cached answers: whose they are, when they are one, and that nothing is lost with Redis."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fakeredis
import httpx
import orjson
import pytest
from fakeredis import FakeAsyncRedis
from tests.provider.icl_lm import Provider, run_provider
from tests.unit.serving.harness import ask, build_lm, run
from tests.unit.serving.test_metrics import get, scrape
from tests.unit.serving.worlds import Clock, World, until

import dspy_server
from dspy_server import answer_cache, parts
from dspy_server.answer_cache import AnswerCache, Known, Turn, parse_known
from dspy_server.contract import CacheLabel, ScoreSource, Track
from dspy_server.metrics import Metrics
from dspy_server.routes import Route
from dspy_server.server import Server
from dspy_server.settings import Cache
from dspy_server.store import Store
from dspy_server.tokens import build_keys

ROUTE = Route("rev0", "aaaaaaaa", "m:M", "0123456789abcdef" * 4, Track.STABLE, 100, "/x")
KEYS = build_keys(b"0123456789abcdef")
URL = {"DSPY_REDIS_URL": "redis://redis:6379/0"}
PATIENT = 30.0
"""Seconds for a command where time is not the subject: machines that test are busy."""
SHARED = {"serving": {"cache": {"scope": "Shared"}}}


@pytest.fixture
def redis_server() -> fakeredis.FakeServer:
    return fakeredis.FakeServer()


@pytest.fixture
async def store(redis_server: fakeredis.FakeServer) -> AsyncIterator[Store]:
    store = Store(FakeAsyncRedis(server=redis_server), asyncio.get_running_loop().time, timeout=PATIENT)
    yield store
    await store.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def connected(redis_server: fakeredis.FakeServer, monkeypatch: pytest.MonkeyPatch) -> fakeredis.FakeServer:
    """Servers of this test use this Redis."""
    monkeypatch.setattr(parts, "build_client", lambda _url: FakeAsyncRedis(server=redis_server))
    monkeypatch.setattr(parts, "Store", lambda client, clock: Store(client, clock, timeout=PATIENT))
    return redis_server


def build(store: Store | None, clock: Callable[[], float], **config: Any) -> AnswerCache:
    return AnswerCache(store, Cache(**config), KEYS, Metrics("triage"), clock)


async def find(cache: AnswerCache, key: str | None) -> Turn:
    async with cache.turn(key, "rev0") as turn:
        return turn


async def keep(cache: AnswerCache, store: Store, key: str, outputs: dict[str, Any]) -> None:
    async with cache.turn(key, "rev0") as turn:
        cache.keep(key, turn, outputs, "openai/x")
    await until(lambda: not store._later)


async def ask_in_turn(
    server: Server, client: httpx.AsyncClient, *questions: str, **headers: str
) -> list[dict[str, Any]]:
    """The answers to questions, each asked when all of the one before is done."""
    store, bodies = server.cache.store, []
    assert store is not None
    for ticket in questions:
        bodies.append((await ask(client, ticket, **headers)).json())
        await until(lambda: not store._later)
    return bodies


def get_labels(bodies: list[dict[str, Any]]) -> list[str]:
    return [body["meta"]["cache"] for body in bodies]


def count(cache: AnswerCache, result: str) -> float:
    return float(cache.metrics.cache_requests.labels("triage", "rev0", "business", result)._value.get())


async def test_a_key_names_program_revision_artifact_user_and_question(store: Store, clock: Clock) -> None:
    user = KEYS.get_user("alice")
    question = hashlib.sha256(b'{"a":[1,2],"b":"x"}').hexdigest()
    cache = build(store, clock)
    assert cache.find_key(ROUTE, {"b": "x", "a": [1, 2]}, "alice") == (
        f"dspy:a:triage:rev0:0123456789abcdef:{user}:{question}"
    )
    assert "alice" not in str(cache.find_key(ROUTE, {}, "alice"))


async def test_whatever_differs_has_another_key(store: Store, clock: Clock) -> None:
    cache, shared = build(store, clock), build(store, clock, scope="Shared")
    keys = [
        cache.find_key(ROUTE, {"a": value}, "alice")
        for value in (1, 1.0, "1", True, None, [1], "\u00e9", "e\u0301")
    ]
    keys += [cache.find_key(replace(ROUTE, revision="rev1"), {"a": 1}, "alice")]
    keys += [cache.find_key(replace(ROUTE, sha256="f" * 64), {"a": 1}, "alice")]
    keys += [cache.find_key(ROUTE, {"a": 1}, "bob"), shared.find_key(ROUTE, {"a": 1}, "bob")]
    assert None not in keys
    assert len(set(keys)) == len(keys)
    assert shared.find_key(ROUTE, {"a": 1}, None) == shared.find_key(ROUTE, {"a": 1}, "bob")


@pytest.mark.parametrize(
    ("scope", "user", "label", "answers"),
    [
        ("User", None, CacheLabel.BYPASS, "User"),
        ("Off", "alice", CacheLabel.MISS, "Off"),
        ("User", "", CacheLabel.BYPASS, "User"),
    ],
)
async def test_without_a_user_or_a_scope_nothing_is_cached(
    store: Store, clock: Clock, scope: str, user: str | None, label: CacheLabel, answers: str
) -> None:
    cache = build(store, clock, scope=scope)
    assert cache.find_key(ROUTE, {"a": 1}, user) is None
    assert (await find(cache, None)).label is label
    assert cache.scope == answers
    assert build(None, clock).scope == "Off"
    assert replace(cache, keys=None).scope == "Off"


async def test_an_answer_expires_and_may_then_stand_in_for_a_while(store: Store, clock: Clock) -> None:
    cache = build(store, clock, ttl=100.0, stale_if_error=50.0)
    await keep(cache, store, "k", {"queue": "billing"})
    clock.now += 99
    assert (await find(cache, "k")).known == Known({"queue": "billing"}, "openai/x", 1000.0)
    clock.now += 1
    turn = await find(cache, "k")
    assert (turn.label, turn.known) == (CacheLabel.MISS, None)
    assert turn.stale is not None
    clock.now += 50
    assert (await find(cache, "k")).stale is None
    assert await store.call("TTL", "k") in range(140, 151)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"nonsense",
        b"[]",
        b"{}",
        b"\x80\x04\x95",
        b'{"v":2,"outputs":{},"model":"m","at":1000}',
        b'{"v":1,"outputs":[],"model":"m","at":1000}',
        b'{"v":1,"outputs":{},"model":3,"at":1000}',
        b'{"v":1,"outputs":{},"model":"m","at":"now"}',
        b'{"v":1,"outputs":{},"model":"m"}',
        orjson.dumps({"v": 1, "outputs": {"a": "x" * answer_cache.MAX_BYTES}, "model": "m", "at": 1000}),
    ],
)
async def test_what_was_not_written_by_a_server_is_a_miss_and_is_written_over(
    store: Store, clock: Clock, value: bytes
) -> None:
    cache = build(store, clock)
    await store.put("k", value or b"x", 60)
    turn = await find(cache, "k")
    assert (turn.label, turn.known, turn.stale) == (CacheLabel.MISS, None, None)
    assert parse_known(value) is None
    await keep(cache, store, "k", {"a": 1})
    assert (await find(cache, "k")).label is CacheLabel.HIT
    assert [count(cache, result) for result in ("miss", "hit", "error")] == [2, 1, 0]


async def test_an_answer_that_is_too_large_is_shared_and_not_kept(store: Store, clock: Clock) -> None:
    cache = build(store, clock)
    async with cache.turn("k", "rev0") as turn:
        follower = asyncio.create_task(find(cache, "k"))
        await asyncio.sleep(0)
        cache.keep("k", turn, {"a": "x" * answer_cache.MAX_BYTES}, "m")
    assert (await follower).label is CacheLabel.HIT
    assert (await find(cache, "k")).label is CacheLabel.MISS


async def test_when_a_leader_fails_each_runs_itself(store: Store, clock: Clock) -> None:
    cache = build(store, clock)
    labels: list[CacheLabel] = []

    async def fail() -> None:
        async with cache.turn("k", "rev0") as turn:
            labels.append(turn.label)
            await asyncio.sleep(0)
            raise ValueError("no answer")

    results = await asyncio.gather(*(fail() for _ in range(10)), return_exceptions=True)
    assert [type(result) for result in results] == [ValueError] * 10
    assert labels == [CacheLabel.MISS] * 10
    assert cache._leaders == {}


async def test_when_a_leaders_client_leaves_one_other_leads(store: Store, clock: Clock) -> None:
    cache = build(store, clock)
    runs = 0
    may_end = asyncio.Event()

    async def question() -> CacheLabel:
        nonlocal runs
        async with cache.turn("k", "rev0") as turn:
            if turn.known is None:
                runs += 1
                await may_end.wait()
                cache.keep("k", turn, {"a": 1}, "m")
        return turn.label

    tasks = [asyncio.create_task(question()) for _ in range(10)]
    await until(lambda: runs == 1)
    tasks[0].cancel()
    await until(lambda: runs == 2)
    for _ in range(500):  # time enough for the others to run too, if they did
        await asyncio.sleep(0)
    may_end.set()
    labels = await asyncio.gather(*tasks[1:])
    assert (runs, labels.count(CacheLabel.MISS), labels.count(CacheLabel.HIT)) == (2, 1, 8)
    assert cache._leaders == {}


async def test_a_second_answer_costs_nothing_and_is_not_scored(
    world: World, base_url: str, provider: Provider, connected: fakeredis.FakeServer
) -> None:
    world.write_table(world.route(0, 100, "stable"))
    config = {
        "serving": {"cache": {"scope": "User"}, "limits": {"concurrency": 1, "queue": 0}},
        "scoring": {"function": "tests.unit.serving.programs:score"},
    }
    async with run(world, base_url, config, **URL) as (server, client):
        (first,) = await ask_in_turn(server, client, "cached", X_User_Id="alice")
        before = sum(provider.calls.values())
        async with server.admission.slot(asyncio.get_running_loop().time() + 60):
            second = (await ask(client, "cached", X_User_Id="alice")).json()
        nobody = (await ask(client, "cached")).json()
        await server.scorer.flush()
        samples, moments = scrape(server.metrics), server.metrics.get_moments()
        version = (await client.get("/version")).json()
    assert second["outputs"] == first["outputs"]
    assert get_labels([first, second, nobody]) == ["miss", "hit", "bypass"]
    assert set(second["meta"]["usage"].values()) == {0}
    assert (second["meta"]["model"], second["meta"]["feedback_token"]) == ("openai/icl-100", None)
    assert sum(provider.calls.values()) == before + 1
    assert moments["rev0", ScoreSource.METRIC].count == 2
    for label in ("miss", "hit", "bypass"):
        assert get(samples, "dspy_request_duration_seconds_count", revision="rev0", cache=label) == 1
    results = [
        get(samples, "dspy_cache_requests_total", revision="rev0", tier="business", result=result)
        for result in ("hit", "miss", "error")
    ]
    assert results == [1, 1, 0]
    assert (version["answerCache"], version["userLimits"]) == ("User", "redis")


async def test_two_users_are_two_runs_unless_answers_are_shared(
    world: World, base_url: str, connected: fakeredis.FakeServer
) -> None:
    world.write_table(world.route(0, 100, "stable"))
    async with run(world, base_url, **URL) as (server, client):
        own = [await ask_in_turn(server, client, "x", X_User_Id=user) for user in ("alice", "bob")]
    async with run(world, base_url, SHARED, **URL) as (server, client):
        shared = [await ask_in_turn(server, client, "x", X_User_Id=user) for user in ("alice", "bob")]
    assert [get_labels(bodies) for bodies in own] == [["miss"], ["miss"]]
    assert [get_labels(bodies) for bodies in shared] == [["miss"], ["hit"]]


async def test_a_hundred_equal_questions_at_once_are_one_run(
    world: World, base_url: str, provider: Provider, connected: fakeredis.FakeServer
) -> None:
    world.write_table(world.route(0, 100, "stable"))
    async with run(world, base_url, SHARED, **URL) as (server, client):
        before = sum(provider.calls.values())
        responses = await asyncio.gather(*(ask(client) for _ in range(100)))
        samples = scrape(server.metrics)
    labels = [response.json()["meta"]["cache"] for response in responses]
    assert sum(provider.calls.values()) == before + 1
    assert (labels.count("miss"), labels.count("hit")) == (1, 99)
    assert get(samples, "dspy_cache_requests_total", revision="rev0", tier="business", result="hit") == 99


async def test_revisions_share_no_answer_and_an_override_neither_reads_nor_writes(
    world: World, base_url: str, connected: fakeredis.FakeServer
) -> None:
    world.split(0)
    async with run(world, base_url, SHARED, wait_for=("rev0", "rev1"), **URL) as (server, client):
        stable = await ask_in_turn(server, client, "x", "x")
        preview = await ask_in_turn(server, client, "x", "x", X_Revision="canary")
        world.split(100)
        await until(lambda: server.keeper.poll() or server.keeper.current.generation == 2)
        canary = await ask_in_turn(server, client, "x", "x")
    assert get_labels(stable) == ["miss", "hit"]
    assert get_labels(preview) == ["bypass", "bypass"]
    assert get_labels(canary) == ["miss", "hit"]
    assert {body["outputs"]["queue"] for body in [*preview, *canary]} == {"shipping"}


@pytest.fixture
def own_provider() -> Provider:
    return Provider()


async def test_a_stale_answer_stands_in_when_no_model_answers_and_configured_outputs_are_not_kept(
    world: World, own_provider: Provider, connected: fakeredis.FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.write_table(world.route(0, 100, "stable"))
    with run_provider(own_provider) as url:
        config = build_lm(url, "openai/icl-100")
        config["serving"] = {
            "cache": {"scope": "Shared", "ttl": "1s", "staleIfError": "1h"},
            "degraded": {"outputs": {"queue": "account"}},
        }
        async with run(world, url, config, **URL) as (server, client):
            await ask_in_turn(server, client, "known")
            own_provider.set_faults({"*": {"fault": "fail500"}})
            now = server.cache.clock()
            server.cache.clock = lambda: now + 100
            stale = (await ask(client, "known")).json()
            others = await ask_in_turn(server, client, "unknown", "unknown")
            samples = scrape(server.metrics)
    assert (stale["outputs"], stale["meta"]["cache"]) == ({"queue": "billing"}, "hit")
    assert (stale["meta"]["degraded"], stale["meta"]["feedback_token"]) == (True, None)
    assert [(body["outputs"]["queue"], body["meta"]["cache"]) for body in others] == [("account", "miss")] * 2
    assert get(samples, "dspy_degraded_total", revision="rev0", kind="stale") == 1
    assert get(samples, "dspy_degraded_total", revision="rev0", kind="outputs") == 2
    assert get(samples, "dspy_request_duration_seconds_count", revision="rev0", cache="hit") == 0


async def test_without_redis_answers_go_on_and_the_errors_are_counted(
    world: World, base_url: str, connected: fakeredis.FakeServer
) -> None:
    world.write_table(world.route(0, 100, "stable"))
    async with run(world, base_url, SHARED, **URL) as (server, client):
        await ask(client)
        connected.connected = False
        lost = [await ask(client) for _ in range(5)]
        samples = scrape(server.metrics)
    assert {response.status_code for response in lost} == {200}
    assert {response.json()["meta"]["cache"] for response in lost} == {"miss"}
    assert get(samples, "dspy_cache_requests_total", revision="rev0", tier="business", result="error") == 5


def test_nothing_is_ever_deleted_or_searched_in_redis() -> None:
    """A key names its revision: invalidation is another key, and the rest expires."""
    folder = Path(str(dspy_server.__file__)).parent
    words = (".delete(", ".unlink(", ".scan", '.keys("', "flush", "'DEL'", "'SCAN'", "'KEYS'")
    for name in ("store", "answer_cache", "shared_limits", "scoring"):
        text = (folder / f"{name}.py").read_text()
        assert not [
            word for word in words if word in text.replace("async def flush", "").replace("to flush", "")
        ]
