"""One line a request, as it is on standard output: whole, true, without text unless told, and then redacted."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any, TextIO, cast

import dspy
import pytest
import structlog
from dspy.utils.callback import BaseCallback
from tests.unit.serving.harness import ask, build_lm, run
from tests.unit.serving.nested import TimedTwice
from tests.unit.serving.test_redact import SECRETS
from tests.unit.serving.worlds import World, get_stub_adapter

from dspy_server import compat, logs
from dspy_server.journal import Journal
from dspy_server.redact import Redactor

FIELDS = {
    "event", "level", "timestamp", "program", "route", "status", "request_id", "trace_id", "revision", "track",
    "judged", "class", "code", "cache", "seconds", "modules", "model", "questions", "lm_calls", "tokens",
}  # fmt: skip


class Output:
    """Standard output's bytes."""

    def __init__(self) -> None:
        self.buffer = io.BytesIO()

    def list_lines(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.buffer.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event]


@pytest.fixture
def output() -> Iterator[Output]:
    output = Output()
    root = logging.getLogger()
    handlers, level, context = root.handlers, root.level, structlog.contextvars.get_contextvars()
    logs.configure("INFO", program="triage", redactor=Redactor([r"EMP-\d{4}"]), file=cast("TextIO", output))
    structlog.configure(cache_logger_on_first_use=False)
    yield output
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(**context)


async def test_each_request_has_one_line_that_says_what_became_of_it(
    world: World, base_url: str, output: Output
) -> None:
    world.write_table(world.route(0, 100, "stable"))
    async with run(world, base_url) as (_, client):
        meta = (await ask(client, "confidential")).json()["meta"]
        await ask(client, "explode")
        await client.post("/ask", json={"inputs": {"wrong": "field"}})
        await client.get("/healthz")
    good, bad, wrong = output.list_lines("asked")
    assert set(good) == FIELDS
    assert {key: good[key] for key in ("program", "status", "class", "code", "cache", "model", "lm_calls")} == {
        "program": "triage", "status": 200, "class": None, "code": None, "cache": "miss",
        "model": "openai/icl-100", "lm_calls": 1,
    }  # fmt: skip
    assert {key: good[key] for key in ("request_id", "revision", "track")} == {
        key: meta[key] for key in ("request_id", "revision", "track")
    }
    assert good["tokens"]["prompt"] == meta["usage"]["prompt_tokens"]
    seconds = good["seconds"]
    assert 0 < seconds["lm"] <= seconds["program"] <= seconds["total"]
    assert seconds["queue"] >= 0
    assert good["modules"]["Triage"]["calls"] == 1
    assert (bad["status"], bad["class"], bad["code"], bad["lm_calls"]) == (500, "internal", "internal", 0)
    assert (wrong["status"], wrong["class"], wrong["code"]) == (422, None, "inputs")
    assert b"confidential" not in output.buffer.getvalue()


async def test_a_request_that_waits_for_its_slot_says_so(world: World, base_url: str, output: Output) -> None:
    world.write_table(world.route(0, 100, "stable"))
    config = {
        **build_lm(base_url, "openai/icl-100+slow", timeout="20s"),
        "serving": {"limits": {"concurrency": 1}},
    }
    async with run(world, base_url, config) as (_, client):
        await asyncio.gather(ask(client), ask(client))
    first, second = sorted(line["seconds"]["queue"] for line in output.list_lines("asked"))
    assert first < 0.5
    assert 2.5 < second < 6


async def test_text_is_logged_only_where_it_is_wanted_and_then_redacted(
    world: World, base_url: str, output: Output
) -> None:
    world.write_table(world.route(0, 100, "stable"))
    config = {"serving": {"logs": {"text": "Redacted"}}}
    secrets = [*(secret for group in SECRETS.values() for secret in group), "EMP-1234"]
    async with run(world, base_url, config) as (_, client):
        plain = (await ask(client, "where is it")).json()["outputs"]
        for secret in secrets:
            assert (await ask(client, f"my invoice\n{secret}")).json()["outputs"] == plain
    lines = output.list_lines("asked")
    assert len(lines) == len(secrets) + 1
    assert lines[0]["inputs"] == {"ticket": "where is it"}
    assert lines[0]["outputs"] == {"queue": "billing"}
    text = output.buffer.getvalue().decode()
    assert [secret for secret in secrets if secret in text or json.dumps(secret)[1:-1] in text] == []
    assert text.count("my invoice") == len(secrets)


INJECTED = 'x"}\r\n{"event": "asked", "status": 999, "level": "info"}\n\u2028\x1b[31m\x00'


async def test_nothing_that_a_client_sends_makes_a_line_of_its_own(
    world: World, base_url: str, output: Output
) -> None:
    world.write_table(world.route(0, 100, "stable"))
    config = {"serving": {"logs": {"text": "Redacted"}}}
    headers = {
        "X-User-Id": 'mallory"} {"event"',
        "traceparent": "00-{}-\t-01",
        "X-Request-Id": "mine",
        "X-Revision": "",
    }
    async with run(world, base_url, config) as (_, client):
        await client.post("/ask", json={"inputs": {"ticket": INJECTED}}, headers=headers)
        await client.post("/ask", json={"inputs": {INJECTED: 1}}, headers=headers)
    lines = output.buffer.getvalue().decode().split("\n")[:-1]
    assert [json.loads(line)["status"] for line in lines if '"asked"' in line] == [200, 422]
    assert not [line for line in lines if "mallory" in line or "mine" in line or "\x1b" in line]


def test_a_line_is_written_whatever_is_in_it(output: Output) -> None:
    logs.get_logger().info(
        "odd", half="\ud83d", nan=float("nan"), keys={1: {2}}, thing=object, mail="a@example.com"
    )
    (line,) = output.list_lines("odd")
    assert (line["half"], line["mail"]) == ("\ud83d", "[EMAIL]")


def test_what_a_library_says_is_redacted_and_what_dspy_says_is_left_out(output: Output) -> None:
    logging.getLogger("somebody").warning("cannot reach %s", "alice@example.com")
    logging.getLogger("dspy.predict").critical("a prompt of alice@example.com")
    first, second = output.list_lines("library")
    assert (first["logger"], first["message"]) == ("somebody", "cannot reach [EMAIL]")
    assert second["logger"] == "dspy.predict"
    assert "message" not in second


def test_an_id_of_digits_is_no_phone(output: Output) -> None:
    logs.get_logger().info("asked", revision="13800138000", note="13800138000")
    (line,) = output.list_lines("asked")
    assert (line["revision"], line["note"]) == ("13800138000", "[PHONE]")


async def test_fifty_nested_calls_at_once_are_each_timed_within_5_ms() -> None:
    module = TimedTwice()
    waits = [0.2 + 0.005 * index for index in range(50)]

    async def measure(seconds: float) -> tuple[Journal, float]:
        journal = Journal()
        with compat.overrides(callbacks=compat.watch(journal)):
            prediction = await module.acall(seconds=seconds)
        return journal, prediction.took

    errors = []
    for journal, took in await asyncio.gather(*(measure(seconds) for seconds in waits)):
        inner, outer = journal.modules["Timed"], journal.modules["TimedTwice"]
        assert (inner.calls, outer.calls) == (1, 1)
        errors += [abs(inner.seconds - took), outer.seconds - inner.seconds]
    assert min(errors) >= 0
    assert sorted(errors)[-4] < 0.005  # the machine may take its time between two lines, but not often


async def test_one_journal_of_fifty_calls_at_once_adds_them_up() -> None:
    module, journal = TimedTwice(), Journal()
    with compat.overrides(callbacks=compat.watch(journal)):
        predictions = await asyncio.gather(*(module.acall(seconds=0.1) for _ in range(50)))
    assert journal.modules["Timed"].calls == 50
    assert journal.modules["Timed"].seconds == pytest.approx(sum(item.took for item in predictions), abs=0.25)
    assert journal.lm == 0


async def test_an_adapters_steps_cost_no_callback() -> None:
    heard: list[str] = []

    class Loud(BaseCallback):  # type: ignore[misc]  # dspy has no types
        def on_adapter_format_start(self, call_id: str, instance: Any, inputs: Any) -> None:
            heard.append("adapter")

        def on_lm_start(self, call_id: str, instance: Any, inputs: Any) -> None:
            heard.append("lm")

    lm = compat.build_lm("stub/x", compat.StubEngine(), compat.AsyncStubEngine(), sampling={})
    with compat.overrides(lm=lm, adapter=get_stub_adapter(), callbacks=[Loud()]):
        await dspy.Predict("question -> word").acall(question="warm")
    assert heard == ["lm"]
