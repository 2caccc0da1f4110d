"""The LM cache in a whole server: what is answered without a call, for whom, and what a hit counts as."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.provider.icl_lm import Fault, Provider, run_provider
from tests.unit.serving.harness import ask, run
from tests.unit.serving.programs import SyncTriage
from tests.unit.serving.test_metrics import Sample, get, scrape
from tests.unit.serving.worlds import World, dump_program

from dspy_server.lm_cache import is_wanted
from dspy_server.server import Server
from dspy_server.settings import Cache, DiskCache

MODEL = "openai/icl-100"
CACHES = {"memory": {"lmMemoryEntries": 10}, "disk": {"lmMemoryEntries": 0, "disk": {"enabled": True}}}


@pytest.fixture
def teacher() -> Provider:
    """A provider of this test's own, which counts its calls."""
    return Provider()


@pytest.fixture
def url(teacher: Provider) -> Iterator[str]:
    with run_provider(teacher) as url:
        yield url


@asynccontextmanager
async def run_cached(
    world: World, url: str, cache: dict[str, Any], **more: Any
) -> AsyncIterator[tuple[Server, httpx.AsyncClient]]:
    async with run(world, url, {"serving": {"cache": cache}}, **more) as parts:
        yield parts


def count(provider: Provider) -> int:
    return sum(provider.calls.values())


def get_tier(samples: dict[Sample, float], tier: str, result: str, revision: str = "rev0") -> float:
    key = {"program": "triage", "revision": revision, "tier": tier, "result": result}
    return samples.get(("dspy_cache_requests_total", frozenset(key.items())), 0.0)


@pytest.mark.parametrize("tier", CACHES)
async def test_the_same_question_again_costs_nothing_and_says_so(
    world: World, teacher: Provider, url: str, tier: str
) -> None:
    world.split(0)
    async with run_cached(world, url, CACHES[tier], wait_for=("rev0", "rev1")) as (server, client):
        first, before = (await ask(client)).json(), scrape(server.metrics)
        again, after = (await ask(client)).json(), scrape(server.metrics)
    assert count(teacher) == 1
    assert again["outputs"] == first["outputs"]
    assert (first["meta"]["cache"], again["meta"]["cache"]) == ("miss", "hit")
    assert first["meta"]["model"] == again["meta"]["model"] == MODEL
    assert (first["meta"]["usage"]["lm_calls"], again["meta"]["usage"]["lm_calls"]) == (1, 0)
    assert sum(first["meta"]["usage"].values()) > 1
    assert sum(again["meta"]["usage"].values()) == 0
    assert (get_tier(after, tier, "miss"), get_tier(after, tier, "hit")) == (1, 1)
    names = (
        "dspy_requests_total",
        "dspy_tokens_total",
        "dspy_lm_cost_usd_total",
        "dspy_lm_unpriced_calls_total",
    )
    billed = {key: value for key, value in after.items() if key[0] in names}
    assert billed == {key: value for key, value in before.items() if key[0] in names}
    for label in ("miss", "hit"):
        assert get(after, "dspy_request_duration_seconds_count", revision="rev0", cache=label) == 1


async def test_no_answer_is_shared_between_revisions(world: World, teacher: Provider, url: str) -> None:
    world.fill_slot(1, world.slot_path(0).read_bytes())
    world.split(0)
    async with run_cached(world, url, CACHES["memory"], wait_for=("rev0", "rev1")) as (_, client):
        labels = [
            (await ask(client, **headers)).json()["meta"]["cache"]
            for headers in ({}, {"X_Revision": "rev1"}, {"X_Revision": "rev1"}, {"X_Revision": "rev0"}, {})
        ]
    assert labels == ["miss", "miss", "hit", "hit", "hit"]
    assert count(teacher) == 2


async def test_no_answer_is_shared_between_gateways(world: World, teacher: Provider, url: str) -> None:
    world.write_table(world.route(0, 100, "stable"))
    for address in (url, url.replace("127.0.0.1", "localhost"), url):
        async with run_cached(world, address, CACHES["disk"]) as (_, client):
            assert (await ask(client)).status_code == 200
    assert count(teacher) == 2


async def test_what_was_asked_for_last_stays(world: World, teacher: Provider, url: str) -> None:
    world.write_table(world.route(0, 100, "stable"))
    async with run_cached(world, url, {"lmMemoryEntries": 2}) as (_, client):
        labels = [(await ask(client, ticket)).json()["meta"]["cache"] for ticket in "abacab"]
    assert labels == ["miss", "miss", "hit", "miss", "hit", "miss"]
    assert count(teacher) == 4


async def test_without_a_tier_every_question_is_asked(world: World, teacher: Provider, url: str) -> None:
    world.write_table(world.route(0, 100, "stable"))
    async with run_cached(world, url, {"lmMemoryEntries": 0}) as (server, client):
        for _ in range(2):
            assert (await ask(client)).json()["meta"]["cache"] == "miss"
        samples = scrape(server.metrics)
    assert count(teacher) == 2
    assert not any(name.startswith("dspy_cache_requests") and value for (name, _), value in samples.items())


async def test_a_program_in_a_worker_thread_has_the_cache_too(
    world: World, teacher: Provider, url: str, tmp_path: Path
) -> None:
    world.fill_slot(0, dump_program(SyncTriage(), tmp_path))
    world.write_table(world.route(0, 100, "stable", module="tests.unit.serving.programs:SyncTriage"))
    async with run_cached(world, url, CACHES["memory"]) as (_, client):
        labels = [(await ask(client)).json()["meta"]["cache"] for _ in range(2)]
    assert (labels, count(teacher)) == (["miss", "hit"], 1)


async def test_a_failure_is_not_kept(world: World, teacher: Provider, url: str) -> None:
    world.write_table(world.route(0, 100, "stable"))
    teacher.faults["icl-100"] = Fault("fail500")
    async with run_cached(world, url, CACHES["memory"]) as (_, client):
        assert (await ask(client)).status_code >= 500
        teacher.faults.clear()
        answer = await ask(client)
    assert (answer.status_code, answer.json()["meta"]["cache"]) == (200, "miss")


@pytest.mark.parametrize("tier", CACHES)
async def test_an_answer_that_nobody_can_parse_is_asked_for_again(
    world: World, teacher: Provider, url: str, tier: str
) -> None:
    world.write_table(world.route(0, 100, "stable"))
    teacher.faults["icl-100"] = Fault("garbage")
    async with run_cached(world, url, CACHES[tier]) as (_, client):
        assert (await ask(client)).json()["code"] == "parse"
        teacher.faults.clear()
        answers = [(await ask(client)).json()["meta"] for _ in range(2)]
    assert [meta["cache"] == "hit" for meta in answers] == [False, True]
    assert count(teacher) == 3


async def test_many_at_once_each_get_their_own_answer(world: World, teacher: Provider, url: str) -> None:
    world.write_table(world.route(0, 100, "stable"))
    async with run_cached(world, url, {**CACHES["memory"], **CACHES["disk"], "lmMemoryEntries": 3}) as (
        _,
        client,
    ):
        for _ in range(2):
            tickets = [f"billing question {number % 6}" for number in range(24)]
            answers = await asyncio.gather(*(ask(client, ticket) for ticket in tickets))
            assert {answer.status_code for answer in answers} == {200}
            assert {answer.json()["outputs"]["queue"] for answer in answers} == {"billing"}
    assert 6 <= count(teacher) <= 24


async def test_a_new_process_finds_what_the_last_one_left_on_disk(
    world: World, teacher: Provider, url: str
) -> None:
    world.write_table(world.route(0, 100, "stable"))
    both = {"lmMemoryEntries": 5, "disk": {"enabled": True}}
    async with run_cached(world, url, both) as (_, client):
        await ask(client)
    async with run_cached(world, url, both) as (server, client):
        assert [(await ask(client)).json()["meta"]["cache"] for _ in range(2)] == ["hit", "hit"]
        samples = scrape(server.metrics)
    assert count(teacher) == 1
    assert [get_tier(samples, "memory", result) for result in ("miss", "hit")] == [1, 1]
    assert [get_tier(samples, "disk", result) for result in ("miss", "hit")] == [0, 1]


def test_a_cache_is_wanted_if_a_tier_is() -> None:
    assert is_wanted(Cache())
    assert not is_wanted(Cache(lm_memory_entries=0))
    assert is_wanted(Cache(lm_memory_entries=0, disk=DiskCache(enabled=True)))
