"""`POST /ask/stream`: what is told while the program works, and how it ends."""

import asyncio
import json
from pathlib import Path
from typing import Any

import dspy
import httpx
import pytest
from tests.unit.serving.harness import build_lm, run
from tests.unit.serving.test_clients import listen, send
from tests.unit.serving.test_metrics import get, scrape
from tests.unit.serving.worlds import World, dump_program, until

from dspy_server import stream

SCORING = {"scoring": {"function": "tests.unit.serving.programs:score_reply"}}
ANSWER = "We are sorry. The money is on its way."
ADVICE = "be [kind]\nand quick"


def write_reply(world: World, folder: Path, module: str = "Reply") -> None:
    """A table whose one program answers with ANSWER and ADVICE."""
    from tests.unit.serving.programs import Reply  # noqa: PLC0415 - it imports dspy_server.counter

    program = Reply()
    program.reply.demos = [dspy.Example(ticket="money back", mood="angry", answer=ANSWER, advice=ADVICE)]
    world.fill_slot(2, dump_program(program, folder))
    world.write_table(world.route(2, 100, "stable", module=f"tests.unit.serving.programs:{module}"))


def parse_events(text: str) -> list[tuple[str, Any]]:
    """Kind and data of each event; a comment is of kind ""."""
    events = []
    for block in text.strip().split("\n\n"):
        lines = dict(line.partition(": ")[::2] for line in block.split("\n"))
        events.append((lines.get("event", ""), json.loads(lines.get("data", "null"))))
    return events


def join(events: list[tuple[str, Any]]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for kind, data in events:
        if kind == "chunk":
            texts[data["field"]] = texts.get(data["field"], "") + data["text"]
    return texts


async def ask(client: httpx.AsyncClient, ticket: str = "money back") -> httpx.Response:
    return await client.post("/ask/stream", json={"inputs": {"ticket": ticket}})


async def test_text_comes_in_pieces_and_then_the_whole(world: World, base_url: str, tmp_path: Path) -> None:
    write_reply(world, tmp_path)
    async with run(world, base_url, SCORING, wait_for=("rev2",)) as (server, client):
        response = await ask(client, "think of money back")
        await server.scorer.flush()
        samples = scrape(server.metrics)
        plain = (await client.post("/ask", json={"ticket": "think of money back"})).json()
    assert (response.status_code, response.headers["content-type"]) == (
        200,
        "text/event-stream; charset=utf-8",
    )
    events = parse_events(response.text)
    assert [kind for kind, _ in events].count("chunk") > 10
    kind, final = events[-1]
    assert (kind, final["outputs"]) == ("final", {"mood": "angry", "answer": ANSWER, "advice": ADVICE})
    assert join(events) == {"answer": ANSWER, "advice": ADVICE}
    assert final["outputs"] == plain["outputs"]
    assert final["meta"]["request_id"] == response.headers["x-request-id"]
    assert final["meta"]["feedback_token"].startswith("v1.")
    assert final["meta"]["usage"] == plain["meta"]["usage"]
    assert get(samples, "dspy_http_requests_total", revision="rev2", route="/ask/stream", code="200") == 1
    assert get(samples, "dspy_request_duration_seconds_count", revision="rev2", cache="miss") == 1
    assert get(samples, "dspy_score_samples_total", revision="rev2", source="metric") == 1


@pytest.mark.parametrize("module", ["SyncReply", "Triage"])
async def test_a_program_without_aforward_or_without_text_sends_only_the_end(
    world: World, base_url: str, tmp_path: Path, module: str
) -> None:
    if module == "SyncReply":
        write_reply(world, tmp_path, module)
    else:
        world.write_table(world.route(0, 100, "stable"))
    async with run(world, base_url, wait_for=("rev2" if module == "SyncReply" else "rev0",)) as (_, client):
        events = parse_events((await ask(client)).text)
    assert [kind for kind, _ in events] == ["final"]
    assert events[0][1]["outputs"]


@pytest.mark.parametrize(
    ("model", "status", "code"),
    [("icl-100+fail500", 502, "server"), ("icl-100+garbage", 502, "parse"), ("icl-100+slow", 504, "timeout")],
)
async def test_what_fails_before_the_first_event_is_an_ordinary_problem(
    world: World, base_url: str, tmp_path: Path, model: str, status: int, code: str
) -> None:
    write_reply(world, tmp_path)
    config = build_lm(base_url, f"openai/{model}", timeout="500ms")
    async with run(world, base_url, config, wait_for=("rev2",)) as (server, client):
        response = await ask(client)
        wrong = await client.post("/ask/stream", json={"inputs": {}})
        samples = scrape(server.metrics)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert (wrong.status_code, wrong.json()["code"]) == (422, "inputs")
    assert get(samples, "dspy_program_errors_total", revision="rev2", class_=code) == 1
    labels = {"route": "/ask/stream", "code": str(status)}
    assert get(samples, "dspy_http_requests_total", revision="rev2", **labels) == 1


async def test_what_fails_after_it_is_an_error_event_and_counted_as_the_failure_that_it_is(
    world: World, base_url: str, tmp_path: Path
) -> None:
    write_reply(world, tmp_path)
    config = build_lm(base_url, "openai/icl-100+cut", "openai/icl-90")
    config["serving"] = {"degraded": {"outputs": {"answer": "later"}}}
    async with run(world, base_url, config, wait_for=("rev2",)) as (server, client):
        cut = await ask(client)
        samples = scrape(server.metrics)
    assert cut.status_code == 200
    events = parse_events(cut.text)
    assert ANSWER.startswith(join(events)["answer"])
    kind, problem = events[-1]
    assert (kind, problem["code"], problem["status"]) == ("error", "transport", 502)
    assert problem["request_id"] == cut.headers["x-request-id"]
    assert get(samples, "dspy_http_requests_total", revision="rev2", route="/ask/stream", code="502") == 1
    assert get(samples, "dspy_http_requests_total", revision="rev2", route="/ask/stream", code="200") == 0
    assert get(samples, "dspy_request_duration_seconds_count", revision="rev2", cache="miss") == 0


async def test_a_program_that_fails_after_its_text_says_nothing_of_the_user(
    world: World, base_url: str, tmp_path: Path
) -> None:
    write_reply(world, tmp_path)
    async with run(world, base_url, wait_for=("rev2",)) as (_, client):
        response = await ask(client, "late money back")
    kind, problem = parse_events(response.text)[-1]
    assert (kind, problem["code"]) == ("error", "internal")
    assert "secret" not in response.text


async def test_the_configured_answer_is_a_final_event_when_no_model_can_begin(
    world: World, base_url: str, tmp_path: Path
) -> None:
    write_reply(world, tmp_path)
    config = build_lm(base_url, "openai/icl-100+fail500")
    config["serving"] = {"degraded": {"outputs": {"answer": "later"}}}
    async with run(world, base_url, config, wait_for=("rev2",)) as (_, client):
        events = parse_events((await ask(client)).text)
    assert [kind for kind, _ in events] == ["final"]
    assert (events[0][1]["outputs"], events[0][1]["meta"]["degraded"]) == ({"answer": "later"}, True)


async def test_a_silent_program_sends_comments(
    world: World, base_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "SILENCE_SECONDS", 0.05)
    write_reply(world, tmp_path)
    config = build_lm(base_url, "openai/icl-100+slow", timeout="400ms")
    async with run(world, base_url, config, wait_for=("rev2",)) as (server, client):
        response = await ask(client)
        samples = scrape(server.metrics)
    events = parse_events(response.text)
    assert [kind for kind, _ in events[:3]] == ["", "", ""]
    assert (events[-1][0], events[-1][1]["code"]) == ("error", "timeout")
    assert get(samples, "dspy_http_requests_total", revision="rev2", route="/ask/stream", code="504") == 1


@pytest.mark.parametrize("has_begun", [False, True])
async def test_a_client_that_leaves_a_stream_is_counted_and_its_call_of_the_model_ends(
    world: World, base_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_begun: bool
) -> None:
    monkeypatch.setattr(stream, "SILENCE_SECONDS", 0.05 if has_begun else 15.0)
    write_reply(world, tmp_path)
    config = build_lm(base_url, "openai/icl-100+slow", timeout="30s")
    async with run(world, base_url, config, wait_for=("rev2",)) as (server, _), listen(server) as port:
        reader, writer = await send(port, "/ask/stream", {"ticket": "money"})
        if has_begun:
            await reader.readuntil(b": still working")
        await until(lambda: server.metrics.inflight.labels("triage", "rev2")._value.get() == 1)
        gone = server.metrics.http.labels("triage", "rev2", "/ask/stream", "499")
        calls = server.metrics.lm_calls.labels("triage", "rev2", "openai/icl-100+slow", "cancelled")
        await asyncio.sleep(0.1)  # let the call begin: nothing outside tells
        writer.close()
        await until(lambda: gone._value.get() == 1 and calls._value.get() == 1)
        assert server.metrics.inflight.labels("triage", "rev2")._value.get() == 0


async def test_interleaved_streams_get_their_own_text(world: World, base_url: str, tmp_path: Path) -> None:
    write_reply(world, tmp_path)
    async with run(world, base_url, wait_for=("rev2",)) as (_, client):
        responses = await asyncio.gather(*(ask(client, f"money {index}") for index in range(20)))
    for response in responses:
        events = parse_events(response.text)
        assert {key: events[-1][1]["outputs"][key] for key in ("answer", "advice")} == join(events)
