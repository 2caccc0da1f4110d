"""Captured questions: redacted, sampled, capped, and no harm to anybody when Redis fails."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import fakeredis
import pytest
from fakeredis import FakeAsyncRedis
from tests.unit.serving.harness import ask, run
from tests.unit.serving.worlds import Clock, World

from dspy_server import harvest_command
from dspy_server.capture import Capture, get_key, list_captured
from dspy_server.cli import main
from dspy_server.contract import Track
from dspy_server.redact import Redactor
from dspy_server.settings import Capture as CaptureSettings
from dspy_server.store import Store

REDIS = {"DSPY_REDIS_URL": "redis://127.0.0.1:1/0"}
ON = {"serving": {"capture": {"sample": "100%", "max": 3}}}


@pytest.fixture
def server() -> fakeredis.FakeServer:
    return fakeredis.FakeServer()


@pytest.fixture
async def store(server: fakeredis.FakeServer) -> AsyncIterator[Store]:
    store = Store(FakeAsyncRedis(server=server), Clock(), timeout=30.0)
    yield store
    await store.close()


@pytest.fixture(autouse=True)
def redis(server: fakeredis.FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("parts", "harvest_command"):
        monkeypatch.setattr(f"dspy_server.{module}.build_client", lambda _url: FakeAsyncRedis(server=server))


def build(store: Store | None, *, sample: float = 1.0, most: int = 500, **options: Any) -> Capture:
    settings = CaptureSettings(sample=sample, max=most)
    return Capture(store, settings, Redactor(["ticket-[0-9]+"]), program="triage", **options)


async def settle(store: Store) -> None:
    await asyncio.gather(*store._later)


async def test_what_is_kept_is_redacted_and_what_is_answered_is_not(store: Store) -> None:
    inputs = {"ticket": "mail jane@example.com about ticket-77, card 4111 1111 1111 1111", "urgent": True}
    outputs = {"queue": "billing", "people": ["jane@example.com"]}
    build(store).offer(Track.STABLE, inputs, outputs)
    await settle(store)
    (found,) = await list_captured(store, "triage")
    text = json.dumps([found.inputs, found.outputs])
    assert not [secret for secret in ("jane", "example.com", "ticket-77", "4111") if secret in text]
    assert (found.track, found.outputs["queue"], found.inputs["urgent"]) == ("stable", "billing", True)
    assert inputs["ticket"].startswith("mail jane@example.com")
    assert outputs["people"] == ["jane@example.com"]


async def test_the_list_is_capped_and_ends_some_day(store: Store) -> None:
    capture = build(store, most=3)
    for number in range(10):
        capture.offer(Track.STABLE, {"ticket": f"number {number}"}, {"queue": "billing"})
        await settle(store)
    found = [item.inputs["ticket"] for item in await list_captured(store, "triage")]
    assert found == ["number 9", "number 8", "number 7"]
    assert await store.call("TTL", get_key("triage")) > 86_400


async def test_only_the_sample_is_kept(store: Store) -> None:
    draws = iter([0.2, 0.5, 0.49])
    capture = build(store, sample=0.5, choose=lambda: next(draws))
    for number in range(3):
        capture.offer(Track.STABLE, {"ticket": f"number {number}"}, {"queue": "billing"})
    await settle(store)
    assert {item.inputs["ticket"] for item in await list_captured(store, "triage")} == {
        "number 0",
        "number 2",
    }


async def test_half_a_question_is_no_example(store: Store) -> None:
    capture = build(store)
    capture.offer(Track.STABLE, {"ticket": "word " * 2000}, {"queue": "billing"})
    capture.offer(Track.STABLE, {"ticket": "short"}, {"notes": ["word " * 2000]})
    await settle(store)
    assert await list_captured(store, "triage") == []


async def test_values_that_cannot_be_read_are_left_out(store: Store) -> None:
    for value in (b"\xff", b"[]", b"{", b'{"track": "stable", "inputs": {}, "outputs": {"a": 1}}'):
        await store.call("LPUSH", get_key("triage"), value)
    assert await list_captured(store, "triage") == []


async def test_a_server_captures_what_it_answers_and_not_what_the_override_header_sends(
    world: World, base_url: str, store: Store
) -> None:
    world.split(0)
    async with run(world, base_url, ON, wait_for=("rev0", "rev1"), **REDIS) as (_, client):
        for ticket in ("call +49 170 1234567", "a second one", "a second one"):
            answer = await ask(client, ticket)
            assert answer.json()["outputs"] == {"queue": "billing"}
        assert (await ask(client, "to the canary", X_Revision="rev1")).status_code == 200
    found = await list_captured(store, "triage")
    assert [item.outputs for item in found] == [{"queue": "billing"}] * len(found)
    assert len(found) == 3
    assert "1234567" not in json.dumps([dict(item.inputs) for item in found])


async def test_redis_that_is_down_costs_no_answer(
    world: World, base_url: str, server: fakeredis.FakeServer
) -> None:
    server.connected = False
    world.write_table(world.route(0, 100, "stable"))
    async with run(world, base_url, ON, **REDIS) as (_, client):
        for _ in range(5):
            assert (await ask(client)).status_code == 200


async def test_without_redis_nothing_is_captured_and_somebody_is_told(
    world: World, base_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    world.write_table(world.route(0, 100, "stable"))
    async with run(world, base_url, ON) as (_, client):
        assert (await ask(client)).status_code == 200
    assert "nothing_captured" in capsys.readouterr().out


def fill(server: fakeredis.FakeServer, count: int) -> None:
    client = fakeredis.FakeRedis(server=server)
    for number in range(count):
        words = " ".join(f"w{number}x{n}" for n in range(10))
        record = {
            "track": "stable" if number % 2 else "canary",
            "inputs": {"ticket": words},
            "outputs": {"queue": "billing"},
        }
        client.lpush(get_key("triage"), json.dumps(record))


def test_harvest_prints_fresh_lines_that_are_in_none_of_the_sets(
    tmp_path: Path,
    server: fakeredis.FakeServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fill(server, 40)
    given = {
        "canary": {
            "inputs": {"ticket": " ".join(f"w0x{n}" for n in range(10))},
            "gold": {},
            "date": "2026-11-02",
        },
        "train": {"ticket": " ".join(f"w1x{n}" for n in range(10)), "queue": "billing"},
        "val": {"ticket": " ".join(f"w2x{n}" for n in range(10)), "queue": "billing"},
    }
    for name, line in given.items():
        (tmp_path / name).write_text(json.dumps(line) + "\n")
    monkeypatch.setenv("DSPY_REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("DSPY_PROGRAM", "triage")
    sets = [f"--against={tmp_path / name}" for name in ("train", "val")]
    assert main(["eval", "--harvest=38", f"--dataset={tmp_path / 'canary'}", *sets]) == 0
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert len(lines) == 37
    assert {line["inputs"]["ticket"][:3] for line in lines}.isdisjoint({"w0x", "w1x", "w2x"})
    assert all(set(line) == {"inputs", "proposed", "date"} for line in lines)
    assert printed.err == "37 of 40 captured questions; 3 were known\n"


def test_harvest_without_redis_says_so(
    tmp_path: Path,
    server: fakeredis.FakeServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "set").write_text("")
    monkeypatch.delenv("DSPY_REDIS_URL", raising=False)
    assert main(["eval", "--harvest=20", f"--dataset={tmp_path / 'set'}"]) == 2
    assert "DSPY_REDIS_URL" in capsys.readouterr().err
    monkeypatch.setenv("DSPY_REDIS_URL", "redis://127.0.0.1:1/0")
    assert main(["eval", "--harvest=20", f"--dataset={tmp_path / 'missing'}"]) == 2
    assert "missing" in capsys.readouterr().err
    server.connected = False
    assert harvest_command.run(tmp_path / "set", [], 20) == 3
    assert "Redis does not answer" in capsys.readouterr().err
