"""The reader against a Prometheus out of order: every odd answer is a value in time, never an exception."""

import gzip
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.operator.metrics.answers import INTEREST, rows, state
from tests.unit.operator.metrics.scripted import CLOCK, Answer, Handler, is_state_query, run_scripted, success

from dspy_operator.metrics.reader import PrometheusReader
from dspy_operator.metrics.session import BoundedSession, QueryFailed
from dspy_operator.rollout.model import Unmeasured

MARKER = "do-not-repeat-this"


async def expect_outage(read: Callable[..., Any], answer: Answer, text: str, deadline: float = 5.0) -> None:
    began = time.monotonic()
    with run_scripted(answer) as prometheus:
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


@pytest.mark.parametrize("url", ["https://127.0.0.1:{port}", "http://prometheus.invalid:{port}"])
async def test_a_wrong_certificate_or_name_is_an_outage(url: str) -> None:
    began = time.monotonic()
    with run_scripted(rows(state())) as prometheus:
        reader = PrometheusReader(url.format(port=prometheus.url.rsplit(":", 1)[1]), deadline=2.0)
        outcome = await reader.read([INTEREST])
        reader.close()
    assert isinstance(outcome, Unmeasured)
    assert outcome.reason == "PrometheusUnreachable"
    assert prometheus.queries == []
    assert time.monotonic() - began < 3


async def test_one_failed_query_of_three_is_no_reading(read: Callable[..., Any]) -> None:
    def answer(handler: Handler) -> None:
        if is_state_query(handler.form):
            handler.send(success([*state(), CLOCK]))
        else:
            handler.send(b"", 502)

    await expect_outage(read, answer, "status 502")
