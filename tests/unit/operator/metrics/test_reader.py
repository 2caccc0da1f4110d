"""The reader against a scripted Prometheus over real HTTP: every odd answer is a value, never an exception."""

import gzip
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.unit.operator.metrics.scripted import (
    CLOCK,
    NOW,
    Answer,
    Handler,
    Scripted,
    is_counters_query,
    is_state_query,
    run_scripted,
    series,
    success,
)

from dspy_operator.api.names import Metric
from dspy_operator.metrics.queries import DURATION_BUCKET
from dspy_operator.metrics.reader import PrometheusReader
from dspy_operator.metrics.readings import CounterKey, Interest, Reading
from dspy_operator.metrics.session import BoundedSession, QueryFailed
from dspy_operator.rollout.judging import MetricConfig, MetricType
from dspy_operator.rollout.model import Unmeasured

INTEREST = Interest(("ml", "triage"))
POD = {"namespace": "ml", "pod": "pod-0", "program": "triage", "instance": "10.0.0.1:9090"}
MARKER = "do-not-repeat-this"


def state(**pod: str) -> list[dict[str, Any]]:
    """What one pod reports of itself."""
    labels = POD | pod
    return [
        series(None, NOW - 2, **labels),
        series(Metric.ROUTES_GENERATION, 7, **labels),
        series(Metric.ROUTES_APPLIED, NOW - 50, **labels),
        series(Metric.PROGRAM_LOADED, 1, revision="a", **labels),
        series(Metric.PROGRAM_STATE, 1, revision="a", state="loaded", **labels),
        series(Metric.PROGRAM_STATE, 0, revision="a", state="refused", **labels),
    ]


def rows(state_rows: list[dict[str, Any]], counters: list[dict[str, Any]] | None = None) -> Answer:
    """Answer the state query with the one, that of the counters with the other, that of the histogram with none."""

    def answer(handler: Handler) -> None:
        if is_state_query(handler.form):
            handler.send(success([*state_rows, CLOCK]))
        else:
            handler.send(success((counters or []) if is_counters_query(handler.form) else []))

    return answer


@pytest.fixture
async def read() -> AsyncIterator[Callable[..., Any]]:
    readers: list[PrometheusReader] = []

    async def read_from(script: Scripted, *interests: Interest, deadline: float = 5.0, **kwargs: Any) -> Any:
        reader = PrometheusReader(script.url, deadline=deadline)
        readers.append(reader)
        return await reader.read(interests or [INTEREST], **kwargs)

    yield read_from
    for reader in readers:
        reader.close()


@contextmanager
def answering(answer: Answer) -> Iterator[Scripted]:
    with run_scripted(answer) as script:
        yield script


async def test_a_reading_has_each_pods_gauges_and_counters(read: Callable[..., Any]) -> None:
    counters = [series(Metric.HTTP_REQUESTS, 5, revision="a", route="/ask", code="200", **POD)]
    with answering(rows(state(), counters)) as prometheus:
        reading = await read(prometheus)
    assert isinstance(reading, Reading)
    assert reading.t == NOW
    pod = reading.programs["ml", "triage"]["pod-0"]
    assert (pod.generation, pod.sampled_at, pod.applied_at) == (7, NOW - 2, NOW - 50)
    assert (pod.loaded, pod.states) == ({"a": True}, {"a": "loaded"})
    key = CounterKey(Metric.HTTP_REQUESTS, "a", (("code", "200"), ("route", "/ask")))
    assert pod.counters[key] == 5


async def test_three_queries_of_one_instant_serve_all_programs(read: Callable[..., Any]) -> None:
    interests = [Interest(("ml", f"p{index}"), ("1.0",), ("refusals_total",)) for index in range(50)]
    with answering(rows([])) as prometheus:
        assert isinstance(await read(prometheus, *interests), Reading)
    assert len(prometheus.queries) == 3
    assert [query.get("time") for query in prometheus.queries] == [None, f"{NOW:.3f}", f"{NOW:.3f}"]
    assert all("p49" in query["query"] for query in prometheus.queries)


async def test_programs_without_frozen_limits_do_not_make_the_others_read_every_bound(
    read: Callable[..., Any],
) -> None:
    def bucket(le: str, namespace: str, program: str) -> dict[str, Any]:
        labels = POD | {"namespace": namespace, "program": program}
        return series(DURATION_BUCKET, 1, revision="a", cache="miss", le=le, **labels)

    def answer(handler: Handler) -> None:
        places = [("ml", "one"), ("qa", "two"), ("ml", "two")]
        if is_state_query(handler.form):
            pods = [
                row for namespace, program in places for row in state(namespace=namespace, program=program)
            ]
            handler.send(success([*pods, CLOCK]))
        elif is_counters_query(handler.form):
            handler.send(success([]))
        else:
            bounds = ["1.0", "2.0", "+Inf"] if 'le=~".+"' in handler.form["query"] else ["1.0", "+Inf"]
            handler.send(success([bucket(le, *place) for place in places for le in bounds]))

    frozen = [Interest(("ml", "one"), ("1.0",)), Interest(("qa", "two"), ("1.0",))]
    with answering(answer) as prometheus:
        reading = await read(prometheus, *frozen, Interest(("ml", "two")))
    assert len(prometheus.queries) == 4
    assert reading.unmeasured == {}
    read_bounds = {key: len(pods["pod-0"].counters) for key, pods in reading.programs.items()}
    assert read_bounds == {("ml", "one"): 2, ("qa", "two"): 2, ("ml", "two"): 3}


async def test_a_confirmation_needs_one_query(read: Callable[..., Any]) -> None:
    with answering(rows(state())) as prometheus:
        reading = await read(prometheus, Interest(("ml", "triage"), gauges_only=True))
    assert reading.programs["ml", "triage"]["pod-0"].generation == 7
    assert len(prometheus.queries) == 1


async def test_the_past_is_read_at_its_time(read: Callable[..., Any]) -> None:
    with answering(rows([])) as prometheus:
        await read(prometheus, at=NOW - 600.5)
    assert prometheus.queries[0]["time"] == f"{NOW - 600.5:.3f}"


async def test_queries_travel_in_the_body_and_not_in_the_url(read: Callable[..., Any]) -> None:
    with answering(rows([])) as prometheus:
        await read(prometheus)
    assert {header["Content-Type"] for header in prometheus.headers} == {"application/x-www-form-urlencoded"}


async def test_other_namespaces_and_programs_are_ignored(read: Callable[..., Any]) -> None:
    foreign = [*state(namespace="other"), *state(program="else")]
    with answering(rows([*state(), *foreign])) as prometheus:
        reading = await read(prometheus)
    assert set(reading.programs) == {("ml", "triage")}
    assert set(reading.programs["ml", "triage"]) == {"pod-0"}


async def test_a_series_of_the_servers_own_cannot_be_asked_for_as_a_users_counter(
    read: Callable[..., Any],
) -> None:
    interest = Interest(("ml", "triage"), series=("dspy_request_duration_seconds_bucket", "refusals_total"))
    with answering(rows([])) as prometheus:
        await read(prometheus, interest)
    (asked,) = [form["query"] for form in prometheus.queries if is_counters_query(form)]
    assert "refusals_total" in asked
    assert "bucket" not in asked


async def test_a_program_that_no_pod_reports_has_none(read: Callable[..., Any]) -> None:
    with answering(rows([])) as prometheus:
        reading = await read(prometheus)
    assert reading.programs == {("ml", "triage"): {}}


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf"])
async def test_a_program_with_a_number_that_is_none_is_unmeasured_and_the_others_are_not(
    read: Callable[..., Any], value: str
) -> None:
    bad = series(Metric.SCORE_SUM, value, revision="a", source="metric", **POD)
    with answering(rows([*state(), *state(program="fine")], [bad])) as prometheus:
        reading = await read(prometheus, INTEREST, Interest(("ml", "fine")))
    assert "dspy_score_sum_total" in reading.unmeasured["ml", "triage"].message
    assert set(reading.programs) == {("ml", "fine")}


@pytest.mark.parametrize("value", ["", None, "x", [1]])
async def test_a_value_of_another_shape_is_no_reading(read: Callable[..., Any], value: Any) -> None:
    row = {"metric": POD | {"__name__": "dspy_routes_generation"}, "value": [NOW, value]}
    with answering(rows([row])) as prometheus:
        assert isinstance(await read(prometheus), Unmeasured)


async def test_the_same_series_twice_is_unmeasured(read: Callable[..., Any]) -> None:
    row = series(Metric.SCORE_SUM, 1, revision="a", source="metric", **POD)
    with answering(rows(state(), [row, row])) as prometheus:
        reading = await read(prometheus)
    assert "twice" in reading.unmeasured["ml", "triage"].message


async def test_a_label_that_a_newer_server_adds_is_seen_and_not_silently_left_out(
    read: Callable[..., Any],
) -> None:
    split = [
        series(Metric.SCORE_SUM, 1, revision="a", source="metric", tenant=tenant, **POD) for tenant in "xy"
    ]
    with answering(rows(state(), split)) as prometheus:
        reading = await read(prometheus)
    assert "dspy_score_sum_total" in reading.unmeasured["ml", "triage"].message


async def test_of_a_pair_of_scrapers_one_is_read_for_good() -> None:
    def scraped(replica: str, n: int) -> list[dict[str, Any]]:
        counter = series(Metric.SCORE_SAMPLES, n, revision="a", source="metric", replica=replica, **POD)
        return [*state(replica=replica), counter]

    answers = [[*scraped("b", 11)], [*scraped("a", 12), *scraped("b", 13)], [*scraped("a", 14)]]
    current: list[dict[str, Any]] = []

    def answer(handler: Handler) -> None:
        mine = [row for row in current if (row["metric"].get("__name__") == Metric.SCORE_SAMPLES)]
        others = [row for row in current if row not in mine]
        rows(others, mine)(handler)

    seen = []
    with run_scripted(answer) as prometheus:
        reader = PrometheusReader(prometheus.url)
        for rows_now in answers:
            current[:] = rows_now
            reading = await reader.read([INTEREST])
            assert isinstance(reading, Reading)
            pod = reading.programs["ml", "triage"]["pod-0"]
            seen.append((next(iter(pod.counters.values())), "replica=b" in pod.replica))
        reader.close()
    assert seen == [(11, True), (13, True), (14, False)]


async def expect_outage(read: Callable[..., Any], answer: Answer, text: str, deadline: float = 5.0) -> None:
    began = time.monotonic()
    with answering(answer) as prometheus:
        outcome = await read(prometheus, deadline=deadline)
    assert isinstance(outcome, Unmeasured)
    assert outcome.reason == "PrometheusUnreachable"
    assert text in outcome.message
    assert MARKER not in outcome.message
    assert time.monotonic() - began < deadline + 1


@pytest.mark.parametrize("more", [{"warnings": [MARKER]}, {"infos": [MARKER]}])
async def test_an_answer_with_warnings_or_infos_is_no_reading(
    read: Callable[..., Any], more: dict[str, Any]
) -> None:
    await expect_outage(read, lambda handler: handler.send(success([CLOCK], **more)), "warnings")


async def test_a_page_of_html_is_no_reading(read: Callable[..., Any]) -> None:
    page = f"<html>{MARKER}</html>".encode()
    await expect_outage(read, lambda handler: handler.send(page), "no JSON")


@pytest.mark.parametrize(("status", "kind"), [(400, "bad_data"), (503, "timeout"), (500, MARKER)])
async def test_an_error_is_told_by_its_status_and_known_type_only(
    read: Callable[..., Any], status: int, kind: str
) -> None:
    body = json.dumps({"status": "error", "errorType": kind, "error": MARKER}).encode()
    text = f"status {status}" + (f" ({kind})" if kind != MARKER else "")
    await expect_outage(read, lambda handler: handler.send(body, status), text)


async def test_a_redirect_is_not_followed(read: Callable[..., Any]) -> None:
    elsewhere: list[str] = []

    def steal(handler: Handler) -> None:
        elsewhere.append(handler.path)
        handler.send(success([CLOCK]))

    with run_scripted(steal) as other:
        await expect_outage(
            read, lambda handler: handler.send(b"", 307, Location=f"{other.url}/{MARKER}"), "status 307"
        )
    assert elsewhere == []


async def test_an_answer_that_is_too_large_is_cut_off(read: Callable[..., Any]) -> None:
    def flood(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(10 * 1024**3))
        handler.end_headers()
        while True:
            handler.wfile.write(MARKER.encode() * 4096)

    await expect_outage(read, flood, "larger than 16 MiB", deadline=20.0)


async def test_a_gzip_bomb_is_cut_off(read: Callable[..., Any]) -> None:
    bomb = gzip.compress(b" " * (200 * 1024**2), compresslevel=9)
    await expect_outage(
        read, lambda handler: handler.send(bomb, Content_Encoding="gzip"), "larger than 16 MiB", deadline=20.0
    )


async def test_a_broken_gzip_stream_is_no_reading(read: Callable[..., Any]) -> None:
    await expect_outage(
        read, lambda handler: handler.send(b"no gzip", Content_Encoding="gzip"), "connection failed"
    )


@pytest.mark.parametrize("where", ["before", "headers", "body"])
async def test_a_server_that_hangs_or_trickles_costs_no_more_than_the_deadline(
    read: Callable[..., Any], where: str
) -> None:
    release = threading.Event()

    def trickle(handler: Handler) -> None:
        if where == "headers":
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        if where == "body":
            handler.send_response(200)
            handler.send_header("Content-Length", "100000")
            handler.end_headers()
        for _ in range(60):
            if release.wait(0.05):
                return
            if where != "before":
                handler.wfile.write(b" ")
                handler.wfile.flush()

    try:
        await expect_outage(read, trickle, "", deadline=0.5)
    finally:
        release.set()


def test_a_trickling_body_ends_the_thread_that_reads_it_too() -> None:
    def trickle(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        for _ in range(40):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.05)

    with run_scripted(trickle) as prometheus:
        session = BoundedSession(deadline=0.3)
        with pytest.raises(QueryFailed, match="did not end in time"):
            session.request("POST", f"{prometheus.url}/api/v1/query")
        session.close()


async def test_a_body_that_ends_early_is_no_reading(read: Callable[..., Any]) -> None:
    def cut(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b'{"status":')
        handler.close_connection = True

    await expect_outage(read, cut, "connection failed")


async def test_nobody_listening_is_an_outage() -> None:
    with run_scripted(rows([])) as gone:
        pass
    reader = PrometheusReader(gone.url)
    outcome = await reader.read([INTEREST])
    reader.close()
    assert isinstance(outcome, Unmeasured)
    assert "connection failed" in outcome.message


async def test_one_failed_query_of_three_is_no_reading(read: Callable[..., Any]) -> None:
    def answer(handler: Handler) -> None:
        if is_state_query(handler.form):
            handler.send(success([*state(), CLOCK]))
        else:
            handler.send(b"", 502)

    await expect_outage(read, answer, "status 502")


async def test_every_query_is_counted() -> None:
    outcomes: list[str] = []
    with run_scripted(rows(state())) as prometheus:
        reader = PrometheusReader(prometheus.url, on_query=outcomes.append)
        await reader.read([INTEREST])
        prometheus.answer = lambda handler: handler.send(b"", 503)
        await reader.read([INTEREST])
        reader.close()
    assert outcomes == ["ok", "ok", "ok", "failed"]


async def test_a_token_is_read_anew_for_each_query(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    with run_scripted(rows([])) as prometheus:
        reader = PrometheusReader(prometheus.url, token_file=token)
        await reader.read([Interest(("ml", "triage"), gauges_only=True)])
        token.write_text("second\n")
        await reader.read([Interest(("ml", "triage"), gauges_only=True)])
        reader.close()
    assert [sent["Authorization"] for sent in prometheus.headers] == ["Bearer first", "Bearer second"]


async def test_while_idle_one_query_tells_pods_scores_and_missing_labels() -> None:
    unlabelled = series(Metric.ROUTES_GENERATION, 3, program="lost")
    scored = series(Metric.SCORE_SAMPLES, 40, revision="a", source="metric", **POD)
    with run_scripted(rows([*state()[1:2], scored, unlabelled])) as prometheus:
        reader = PrometheusReader(prometheus.url)
        idle = await reader.read_generations()
        reader.close()
    assert not isinstance(idle, Unmeasured)
    assert idle.generations == {("ml", "triage"): {"pod-0": 7}}
    assert idle.scores == {("ml", "triage"): {("a", "metric"): 40}}
    assert idle.unlabelled == {"lost"}
    assert len(prometheus.queries) == 1


async def test_a_metric_without_a_days_history_has_no_reference() -> None:
    def answer(handler: Handler) -> None:
        asked = handler.form["query"]
        if Metric.HTTP_REQUESTS in asked:
            found = [series("", 990, code="200"), series("", 10, code="500"), series("", 500, code="422")]
        elif Metric.SCORE_SAMPLES in asked:
            found = [series("", 19, source="metric"), series("", 50, source="feedback")]
        elif Metric.SCORE_SUMSQ in asked or Metric.SCORE_SUM in asked:
            found = [series("", 19, source="metric"), series("", 40, source="feedback")]
        else:
            found = []
        handler.send(success(found))

    metrics = [
        MetricConfig("score", MetricType.SCORE, 0.05),
        MetricConfig("pinned", MetricType.SCORE, 0.05),
        MetricConfig("errors", MetricType.ERROR_RATE, 0.01),
        MetricConfig("latency", MetricType.LATENCY_P95, 0.2),
    ]
    with run_scripted(answer) as prometheus:
        reader = PrometheusReader(prometheus.url)
        references = await reader.read_reference(("ml", "triage"), "a", metrics, {"pinned": "metric"})
        reader.close()
    assert not isinstance(references, Unmeasured)
    assert set(references) == {"score", "errors"}
    assert (references["score"].mean, references["score"].source) == (0.8, "feedback")
    assert references["score"].variance == pytest.approx(0.16)
    assert references["errors"].mean == pytest.approx(0.99)
    assert references["errors"].variance == pytest.approx(0.0099)


@pytest.mark.parametrize(("requests", "known"), [(99, set()), (100, {"errors"})])
async def test_a_share_needs_a_hundred_requests_of_history(requests: int, known: set[str]) -> None:
    answer = success([series("", requests, code="200")])
    with run_scripted(lambda handler: handler.send(answer)) as prometheus:
        reader = PrometheusReader(prometheus.url)
        references = await reader.read_reference(
            ("ml", "triage"), "a", [MetricConfig("errors", MetricType.ERROR_RATE, 0.01)]
        )
        reader.close()
    assert not isinstance(references, Unmeasured)
    assert set(references) == known
