"""Spans over a real wire: each request's own tree, nothing of another's, no secret, and no answer that waits for it."""

import asyncio
import contextvars
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from opentelemetry.trace import get_current_span
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from tests.servers import get_free_port
from tests.unit.serving.collector import Collector, Received, run_collector
from tests.unit.serving.harness import ask, run
from tests.unit.serving.nested import Nested, Odd, SyncNested
from tests.unit.serving.test_redact import SECRETS
from tests.unit.serving.worlds import World, build_demos, dump_program, until

from dspy_server import compat
from dspy_server.app import build_metrics_app
from dspy_server.exporter import build_tracer
from dspy_server.redact import Redactor
from dspy_server.server import Server

INNER = ("Inner", (("Predict(ticket -> queue)", (("chat openai/icl-100", ()),)),))


def expect(program: str) -> Any:
    return "POST /ask", ((program, (INNER, INNER, ("execute_tool count_words", ()))),)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with run_collector() as collector:
        yield collector


def configure(collector: Collector, sample: str = "100%", text: str = "Off") -> dict[str, Any]:
    return {"serving": {"tracing": {"endpoint": collector.url, "sample": sample}, "logs": {"text": text}}}


def serve(world: World, tmp_path: Path, *programs: Any) -> None:
    """A table of these programs, half of the traffic each."""
    routes = []
    for slot, program in enumerate(programs):
        program.inner.route.demos = build_demos("billing", 2)
        world.fill_slot(slot, dump_program(program, tmp_path))
        module = f"tests.unit.serving.nested:{type(program).__name__}"
        track = ("stable", "canary")[slot]
        routes.append(world.route(slot, 100 // len(programs), track, module=module))
    world.write_table(*routes)


async def flush(server: Server) -> None:
    assert server.tracer is not None
    await asyncio.to_thread(server.tracer.flush)


async def test_twenty_requests_at_once_are_twenty_trees_and_none_knows_of_another(
    world: World, base_url: str, tmp_path: Path, collector: Collector
) -> None:
    serve(world, tmp_path, Nested(), SyncNested())
    config = configure(collector, text="Redacted")
    async with run(world, base_url, config, wait_for=("rev0", "rev1")) as (server, client):
        answers = await asyncio.gather(
            *(ask(client, f"ticket-{index}-", X_User_Id=f"user-{index}") for index in range(20))
        )
        await flush(server)
    programs = {"rev0": "Nested", "rev1": "SyncNested"}
    seen = {answer.json()["meta"]["revision"] for answer in answers}
    assert seen == set(programs)
    traces = [answer.headers["x-trace-id"] for answer in answers]
    assert len(set(traces)) == 20
    assert {span.trace_id for span in collector.spans} == set(traces)
    for index, answer in enumerate(answers):
        meta, trace_id = answer.json()["meta"], traces[index]
        assert collector.get_tree(trace_id) == expect(programs[meta["revision"]])
        spans = [span for span in collector.spans if span.trace_id == trace_id]
        assert {span.attributes["dspy.request_id"] for span in spans} == {meta["request_id"]}
        assert {span.attributes["dspy.revision"] for span in spans} == {meta["revision"]}
        assert {span.attributes["dspy.track"] for span in spans} == {meta["track"]}
        told = set(re.findall(r"ticket-\d+-", str([span.attributes for span in spans])))
        assert told == {f"ticket-{index}-"}
    assert collector.resource["service.name"] == "triage"


async def test_an_lm_span_says_model_and_tokens_and_no_text_unless_told(
    world: World, base_url: str, tmp_path: Path, collector: Collector
) -> None:
    serve(world, tmp_path, Nested())
    async with run(world, base_url, configure(collector)) as (server, client):
        usage = (await ask(client, "confidential")).json()["meta"]["usage"]
        await flush(server)
    lms = [span for span in collector.spans if span.name.startswith("chat")]
    assert [span.kind for span in lms] == [3, 3]  # client
    assert {span.attributes["gen_ai.request.model"] for span in lms} == {"openai/icl-100"}
    for kind, name in (("prompt", "input"), ("completion", "output")):
        total = sum(span.attributes[f"gen_ai.usage.{name}_tokens"] for span in lms)
        assert total == usage[f"{kind}_tokens"] > 0
    assert b"confidential" not in collector.raw


async def test_a_fallback_is_two_attempts_of_one_lm_span(
    world: World, base_url: str, tmp_path: Path, collector: Collector
) -> None:
    serve(world, tmp_path, Nested())
    models = [
        {"model": name, "apiBase": f"{base_url}/v1"} for name in ("openai/icl-100+fail500", "openai/icl-100")
    ]
    lm = {"lm": {"primary": models[0], "fallbacks": models[1:], "timeout": "5s"}}
    async with run(world, base_url, {**configure(collector), **lm}) as (server, client):
        assert (await ask(client)).status_code == 200
        await flush(server)
    span = next(span for span in collector.spans if span.name.startswith("chat"))
    assert [(event["gen_ai.request.model"], event["dspy.status"]) for _, event in span.events] == [
        ("openai/icl-100+fail500", "server"),
        ("openai/icl-100", "ok"),
    ]


async def test_a_callers_trace_goes_on_and_its_sampling_is_obeyed(
    world: World, base_url: str, tmp_path: Path, collector: Collector
) -> None:
    serve(world, tmp_path, Nested())
    caller, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    async with run(world, base_url, configure(collector, sample="0%")) as (server, client):
        kept = await ask(client, traceparent=f"00-{caller}-{parent}-01")
        dropped = await ask(client, traceparent=f"00-{caller}-{parent}-00")
        alone = await ask(client)
        forged = await ask(client, traceparent="00-zz\t{}-01")
        await flush(server)
    assert kept.headers["x-trace-id"] == caller
    assert [span.parent_id for span in collector.spans if span.name == "POST /ask"] == [parent]
    for answer in (dropped, alone, forged):
        assert (answer.status_code, answer.headers.get("x-trace-id")) == (200, None)
    assert {span.trace_id for span in collector.spans} == {caller}


async def test_half_of_the_requests_are_sampled_whole_or_not_at_all(
    world: World, base_url: str, tmp_path: Path, collector: Collector
) -> None:
    serve(world, tmp_path, Nested())
    async with run(world, base_url, configure(collector, sample="50%")) as (server, client):
        answers = await asyncio.gather(*(ask(client) for _ in range(60)))
        await flush(server)
    sampled = [answer.headers["x-trace-id"] for answer in answers if "x-trace-id" in answer.headers]
    assert 10 <= len(sampled) <= 50
    assert {span.trace_id for span in collector.spans} == set(sampled)
    assert all(collector.get_tree(trace_id) == expect("Nested") for trace_id in sampled)


async def test_a_planted_secret_is_in_no_span_and_the_answer_is_the_same(
    world: World, base_url: str, tmp_path: Path, collector: Collector
) -> None:
    serve(world, tmp_path, Nested())
    secrets = [secret for group in SECRETS.values() for secret in group]
    async with run(world, base_url, configure(collector, text="Redacted")) as (server, client):
        plain = await ask(client, "where is it")
        for secret in secrets:
            answer = await ask(client, f"first line\n{secret}\nmy invoice")
            assert answer.json()["outputs"] == plain.json()["outputs"]
        await flush(server)
    text = str([(span.name, span.attributes, span.events) for span in collector.spans])
    assert "my invoice" in text
    assert [secret for secret in secrets if secret in text or repr(secret)[1:-1] in text] == []
    assert [label for label in SECRETS if label not in text] == []


def get_program_span(collector: Collector) -> Received:
    return next(span for span in collector.spans if span.name == "Odd")


async def test_what_a_program_says_to_its_span_is_bounded_and_redacted(
    world: World, base_url: str, tmp_path: Path, collector: Collector
) -> None:
    serve(world, tmp_path, Odd())
    async with run(world, base_url, configure(collector)) as (server, client):
        assert (await ask(client)).status_code == 200
        await flush(server)
    attributes = get_program_span(collector).attributes
    assert len(attributes) <= 64
    assert max(len(str(value)) for value in attributes.values()) <= 4097
    assert "13800138000" not in str(attributes)
    assert b"13800138000" not in collector.raw


async def test_an_error_is_told_by_its_type_and_never_by_its_text(
    world: World, base_url: str, tmp_path: Path, collector: Collector
) -> None:
    serve(world, tmp_path, Odd())
    async with run(world, base_url, configure(collector)) as (server, client):
        assert (await ask(client, "explode: a secret of the user")).status_code == 500
        await flush(server)
    span = get_program_span(collector)
    root = next(span for span in collector.spans if span.name == "POST /ask")
    assert (span.attributes["error.type"], span.is_error) == ("ValueError", True)
    assert (root.attributes["error.type"], root.is_error) == ("internal", True)
    assert root.attributes["http.response.status_code"] == 500
    assert b"a secret of the user" not in collector.raw


async def test_a_step_that_outlives_its_request_is_ended_with_it(
    world: World, base_url: str, tmp_path: Path, collector: Collector
) -> None:
    serve(world, tmp_path, Odd())
    async with run(world, base_url, configure(collector)) as (server, client):
        assert (await ask(client, "late")).status_code == 200
        await flush(server)
        orphan = next(span for span in collector.spans if span.name == "Late")
        count = len(collector.spans)
        await asyncio.sleep(0.6)  # until it really ends
        await flush(server)
    assert orphan.attributes["dspy.orphan"] is True
    assert len(collector.spans) == count


async def test_a_dead_collector_delays_no_answer_and_is_told_once(
    world: World, base_url: str, tmp_path: Path, collector: Collector
) -> None:
    serve(world, tmp_path, Nested())
    collector.status = 400
    with structlog.testing.capture_logs() as lines:
        async with run(world, base_url, configure(collector)) as (server, client):
            for _ in range(5):
                assert (await ask(client)).status_code == 200
                await flush(server)
            await until(lambda: collector.posts >= 5)
            collector.status = 200
            assert (await ask(client)).status_code == 200
            await flush(server)
    told = [line["event"] for line in lines if line["event"].startswith("spans")]
    assert told == ["spans_not_sent", "spans_sent_again"]
    assert collector.get_tree(collector.spans[0].trace_id) == expect("Nested")


async def test_a_collector_that_is_not_there_delays_neither_answers_nor_the_end(
    world: World, base_url: str, tmp_path: Path
) -> None:
    serve(world, tmp_path, Nested())
    nowhere = Collector(url=f"http://127.0.0.1:{get_free_port()}")
    async with run(world, base_url, configure(nowhere)) as (server, client):
        async with asyncio.timeout(5):
            answers = await asyncio.gather(*(ask(client) for _ in range(20)))
        assert {answer.status_code for answer in answers} == {200}
        assert server.tracer is not None
        async with asyncio.timeout(3):
            await asyncio.to_thread(server.tracer.close, 0.5)


async def test_without_an_endpoint_there_is_no_tracer_and_no_trace_id(
    world: World, base_url: str, tmp_path: Path
) -> None:
    serve(world, tmp_path, Nested())
    async with run(world, base_url) as (server, client):
        answer = await ask(client)
    assert server.tracer is None
    assert "x-trace-id" not in answer.headers


async def scrape(server: Server, accept: str, *, has_exemplars: bool) -> httpx.Response:
    app = build_metrics_app(server.metrics, has_exemplars=has_exemplars)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://pod") as client:
        return await client.get("/metrics", headers={"accept": accept})


OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"


async def test_a_slow_requests_bucket_names_its_trace_where_openmetrics_is_asked_for(
    world: World, base_url: str, tmp_path: Path, collector: Collector
) -> None:
    serve(world, tmp_path, Nested())
    async with run(world, base_url, configure(collector)) as (server, client):
        trace_id = (await ask(client)).headers["x-trace-id"]
        page = await scrape(server, OPENMETRICS, has_exemplars=True)
        classic = await scrape(server, "text/plain", has_exemplars=True)
        untraced = await scrape(server, OPENMETRICS, has_exemplars=False)
    assert page.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    exemplars = [
        sample.exemplar.labels
        for family in text_string_to_metric_families(page.text)
        for sample in family.samples
        if sample.exemplar is not None
    ]
    assert exemplars == [{"trace_id": trace_id}]
    for answer in (classic, untraced):
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert "trace_id" not in answer.text


async def test_a_stream_is_one_trace_that_ends_with_it(
    world: World, base_url: str, tmp_path: Path, collector: Collector
) -> None:
    serve(world, tmp_path, Nested())
    with structlog.testing.capture_logs() as lines:
        async with run(world, base_url, configure(collector)) as (server, client):
            answer = await client.post("/ask/stream", json={"inputs": {"ticket": "hello"}})
            await flush(server)
    trace_id = answer.headers["x-trace-id"]
    name, children = collector.get_tree(trace_id)
    assert (name, children) == ("POST /ask/stream", expect("Nested")[1])
    (line,) = [line for line in lines if line["event"] == "asked"]
    assert (line["route"], line["status"], line["trace_id"]) == ("/ask/stream", 200, trace_id)


async def test_a_step_that_began_elsewhere_ends_quietly_and_changes_no_context() -> None:
    with run_collector() as collector:
        tracer = build_tracer(collector.url, 1.0, "triage", "0", Redactor(), has_text=False)
        trace = tracer.start("POST", "/ask", None)
        assert trace is not None
        context = contextvars.copy_context()
        context.run(trace.begin, "call", compat.Step(compat.StepKind.MODULE, "Module", None, {}))
        before = get_current_span()
        trace.end("call", None, None)
        assert get_current_span() is before
        trace.finish(200, "")
        trace.begin("late", compat.Step(compat.StepKind.MODULE, "Late", None, {}))
        trace.end("late", None, None)
        assert not get_current_span().get_span_context().is_valid
        await asyncio.to_thread(tracer.close, 5)
    assert collector.get_tree(trace.trace_id) == ("POST /ask", (("Module", ()),))


async def test_a_batch_is_one_trace_and_one_line(
    world: World, base_url: str, tmp_path: Path, collector: Collector
) -> None:
    serve(world, tmp_path, Nested())
    tickets = {"name": "ticket", "shape": [3], "datatype": "BYTES", "data": ["one", "two", "three"]}
    with structlog.testing.capture_logs() as lines:
        async with run(world, base_url, configure(collector)) as (server, client):
            answer = await client.post("/v2/models/triage/infer", json={"inputs": [tickets]})
            await flush(server)
    assert answer.status_code == 200, answer.text
    _, children = collector.get_tree(answer.headers["x-trace-id"])
    assert children == expect("Nested")[1] * 3
    (line,) = [line for line in lines if line["event"] == "asked"]
    assert (line["questions"], line["lm_calls"], line["modules"]["Nested"]["calls"]) == (3, 6, 3)
    sent = [
        span.attributes["gen_ai.usage.input_tokens"]
        for span in collector.spans
        if span.name.startswith("chat")
    ]
    assert line["tokens"]["prompt"] == sum(sent)


async def test_a_server_without_traces_does_not_pay_for_them() -> None:
    script = "import sys, dspy_server.lifecycle; print([m for m in sys.modules if 'telemetry.exporter' in m])"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert (process.returncode, output) == (0, b"[]\n")
