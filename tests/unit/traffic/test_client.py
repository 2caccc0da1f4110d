"""The traffic client against a small server that answers, fails, hangs up and keeps silent on command."""

from __future__ import annotations

import asyncio
import json
import math
import re
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from tests.traffic.client import (
    Answer,
    Arm,
    Client,
    Recorder,
    load_build_ticket,
    main,
    post,
    read_options,
    serve_control,
)
from tests.traffic.manifest import CONTROL_PORT, TICKETS, build_traffic_objects

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ANSWER = {
    "outputs": {"queue": "sales"},
    "meta": {"revision": "aaa", "track": "stable", "feedback_token": "v1.token"},
}


@dataclass
class FakeServer:
    """Answers every POST with the next of `answers`, the last one for ever; remembers what was asked."""

    answers: list[bytes]
    heads: list[str] = field(default_factory=list)
    bodies: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        size = re.search(r"Content-Length: (\d+)", head)
        assert size
        body = json.loads(await reader.readexactly(int(size[1])))
        self.heads.append(head)
        self.bodies.append((head.split(" ")[1], body))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer == b"silence":
            await reader.read()
        writer.write(answer if answer != b"silence" else b"")
        writer.close()


def http(status: int, body: Any, *, cut: int = 0) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status} -\r\ncontent-length: {len(data)}\r\n\r\n".encode()
    return (head + data)[: len(head) + len(data) - cut]


@asynccontextmanager
async def serving(handler: Any) -> AsyncIterator[str]:
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def build_client(url: str, *more: str) -> Client:
    return Client(read_options(["--url", f"{url}/ask", "--rps", "0", *more]), load_build_ticket(TICKETS))


async def ask(answers: list[bytes], count: int, *more: str) -> tuple[Client, FakeServer]:
    fake = FakeServer(answers)
    async with serving(fake) as url:
        client = build_client(url, *more)
        for _ in range(count):
            await client.ask()
    return client, fake


async def test_each_request_is_a_ticket_of_the_seed_over_a_connection_of_its_own_with_a_user() -> None:
    client, fake = await ask([http(200, ANSWER)], 20, "--users", "3")
    build_ticket = load_build_ticket(TICKETS)
    asked = [{"inputs": {"ticket": build_ticket(1000, n)["ticket"]}} for n in range(20)]
    users = {m[1] for head in fake.heads if (m := re.search(r"X-User-Id: (\S+)", head))}
    assert fake.bodies == [("/ask", body) for body in asked]
    assert users == {"user-000000", "user-000001", "user-000002"}
    assert client.recorder.total.answered == 20


async def test_answers_are_counted_by_revision_and_track_and_compared_with_the_true_queue() -> None:
    canary = {**ANSWER, "meta": {"revision": "bbb", "track": "canary"}}
    client, _ = await ask([http(200, canary), http(200, ANSWER)], 10)
    report = client.build_report()["total"]
    build_ticket = load_build_ticket(TICKETS)
    right = sum(build_ticket(1000, n)["queue"] == "sales" for n in range(1, 10))
    assert report["tracks"] == {"canary": 1, "stable": 9}
    assert report["revisions"]["aaa"]["right"] == right
    assert report["revisions"]["bbb"]["share"] == 0.1
    assert 0 < report["revisions"]["aaa"]["latency"]["p50"] <= report["revisions"]["aaa"]["latency"]["max"]
    assert (report["failed"], report["pending"]) == (0, 0)


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (http(503, {"code": "degraded"}), "http 503 degraded"),
        (http(500, b"oops"), "http 500"),
        (http(201, b"[]"), "http 201 without a JSON object"),
        (http(200, {"outputs": {}}), "KeyError"),
        (http(200, ANSWER, cut=5), "closed before the answer was complete"),
        (b"", "closed before the answer was complete"),
        (b"silence", "timeout"),
        (b"nonsense\r\n\r\n", "IndexError"),
    ],
)
async def test_whatever_is_not_a_complete_answer_is_one_failed_request(answer: bytes, cause: str) -> None:
    client, fake = await ask([answer, http(200, ANSWER)], 2, "--timeout", "1")
    report = client.build_report()
    assert report["total"]["causes"] == {cause: 1}
    assert (report["total"]["sent"], report["total"]["answered"], len(fake.bodies)) == (2, 1, 2)
    assert report["first_failures"][0]["cause"] == cause
    assert sum(bucket.get("failed", 0) for _, bucket in report["buckets"]) == 1


async def test_a_refused_connection_and_an_unknown_name_are_failed_requests() -> None:
    async with serving(FakeServer([b""])) as url:
        pass
    refused, unknown = build_client(url), build_client("http://no-such-host.invalid")
    await refused.ask()
    await unknown.ask()
    assert refused.recorder.total.causes == {"ConnectionRefusedError": 1}
    assert unknown.recorder.total.causes == {"name not resolved": 1}


async def test_only_the_first_twenty_failures_are_kept_and_all_are_counted() -> None:
    client, _ = await ask([http(500, b"")], 25)
    assert client.recorder.total.causes == {"http 500": 25}
    assert len(client.recorder.first_failures) == 20


async def test_feedback_says_whether_the_queue_was_right_and_is_no_request() -> None:
    client, fake = await ask([http(200, ANSWER)], 30, "--feedback", "0.5")
    votes = [body for path, body in fake.bodies if path == "/feedback"]
    assert 5 <= len(votes) <= 25
    assert {vote["feedback_token"] for vote in votes} == {"v1.token"}
    assert {vote["score"] for vote in votes} == {0.0, 1.0}
    assert client.recorder.total.feedback == {"posted": len(votes)}
    assert client.recorder.total.sent == 30


async def test_failed_and_impossible_feedback_is_counted_apart() -> None:
    failing, _ = await ask([http(200, ANSWER), http(503, {"code": "x"})], 1, "--feedback", "1")
    tokenless = {**ANSWER, "meta": {"revision": "aaa", "track": "stable", "feedback_token": None}}
    without, _ = await ask([http(200, tokenless)], 1, "--feedback", "1")
    assert failing.recorder.total.feedback == {"http 503 x": 1}
    assert without.recorder.total.feedback == {"no token": 1}
    assert not failing.recorder.total.causes


def answer(user: str, revision: str, sent_at: float = 100.0, seconds: float = 0.1) -> Answer:
    return Answer(sent_at, seconds, user, "", revision, "stable", right=True)


def test_a_request_belongs_to_the_window_in_which_it_was_sent() -> None:
    recorder = Recorder()
    early = recorder.begin()
    ended = recorder.mark("second")
    recorder.record(early, answer("u", "aaa"))
    recorder.record(recorder.begin(), answer("u", "aaa"))
    first, second = (window.build_report() for window in recorder.windows)
    assert (ended["sent"], ended["pending"]) == (1, 1)
    assert (first["name"], first["answered"], second["name"], second["answered"]) == ("start", 1, "second", 1)
    assert first["ended_at"] == second["started_at"]


def test_a_user_who_changes_revision_is_a_flip_in_the_window_of_the_change() -> None:
    recorder = Recorder()
    for user, revision in (("u", "aaa"), ("v", "aaa"), ("u", "bbb"), ("v", "aaa"), ("u", "aaa")):
        recorder.record(recorder.begin(), answer(user, revision))
    recorder.record(recorder.begin(), Answer(100.0, 0.1, "u", "timeout"))
    assert recorder.total.flips == {"aaa->bbb": 1, "bbb->aaa": 1}


def test_buckets_are_seconds_of_sending_and_can_be_asked_for_since_a_time() -> None:
    recorder = Recorder()
    for sent_at, revision in ((100.2, "aaa"), (100.9, "bbb"), (101.0, "aaa")):
        recorder.record(recorder.begin(), answer("u", revision, sent_at))
    assert recorder.build_report()["buckets"] == [[100, {"aaa": 1, "bbb": 1}], [101, {"aaa": 1}]]
    assert recorder.build_report(101)["buckets"] == [[101, {"aaa": 1}]]


def test_quantiles_are_at_most_two_percent_too_high() -> None:
    arm = Arm()
    for n in range(1, 1001):
        arm.add(answer("u", "aaa", seconds=n / 1000))
    for share in (0.5, 0.95, 0.99, 1.0):
        assert share <= arm.get_quantile(share) <= share * 1.0201
    assert Arm().get_quantile(0.5) == 0.0
    assert math.isinf(Arm().first_sent_at)


async def control(url: str, method: str, path: str, body: str = "") -> tuple[int, dict[str, Any]]:
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"{method} {path} HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
    head, _, payload = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), json.loads(payload)


async def test_the_control_port_reports_sets_the_rate_and_marks_windows() -> None:
    client = build_client("http://127.0.0.1:1")
    async with serving(lambda r, w: serve_control(client, r, w)) as url:
        assert await control(url, "GET", "/healthz") == (200, {"status": "ok"})
        assert await control(url, "POST", "/rate", '{"rps": 35}') == (200, {"rps": 35.0})
        status, ended = await control(url, "POST", "/mark", '{"name": "at 10 %"}')
        assert (status, ended["name"]) == (200, "start")
        status, report = await control(url, "GET", "/stats?since=5")
        assert (report["rps"], [w["name"] for w in report["windows"]]) == (35.0, ["start", "at 10 %"])
        assert (await control(url, "POST", "/rate", "{}"))[0] == 400
        assert (await control(url, "GET", "/nowhere"))[0] == 404


async def test_sigterm_ends_the_sending_awaits_what_is_open_and_prints_the_report(
    capsys: pytest.CaptureFixture[str],
) -> None:
    enough = asyncio.Event()
    fake = FakeServer([http(200, ANSWER)])

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(fake.bodies) >= 9:
            enough.set()
        await fake(reader, writer)

    async with serving(count) as url:
        options = ["--url", f"{url}/ask", "--rps", "200", "--host", "127.0.0.1", "--port", "0"]
        running = asyncio.create_task(main(options))
        await asyncio.wait_for(enough.wait(), 30)
        signal.raise_signal(signal.SIGTERM)
        await asyncio.wait_for(running, 30)
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["total"]["answered"] == report["total"]["sent"] == len(fake.bodies) >= 10
    assert (report["total"]["pending"], report["total"]["failed"]) == (0, 0)


@pytest.mark.parametrize(("late_by", "expected"), [([0.01] * 60, 50), ([0.01] * 9 + [3.0] + [0.01] * 60, 20)])
async def test_the_rate_is_kept_and_a_stall_is_followed_by_no_burst(
    monkeypatch: pytest.MonkeyPatch, late_by: list[float], expected: int
) -> None:
    client = build_client("http://127.0.0.1:1")
    client.rps = 10.0
    clock, asked = [0.0], []

    async def sleep(seconds: float) -> None:
        clock[0] += seconds + late_by.pop(0)
        if clock[0] >= 5:
            client.stopping.set()

    async def note() -> None:
        asked.append(clock[0])

    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: clock[0])
    monkeypatch.setattr("tests.traffic.client.asyncio.sleep", sleep)
    monkeypatch.setattr(client, "ask", note)
    await client.run()
    assert abs(len(asked) - expected) <= 1


async def test_headers_of_the_command_line_go_with_every_request_and_replace_the_host() -> None:
    more = ("--header", "Host", "triage.example", "--header", "X-Preview", "a: b", "--feedback", "1")
    _, fake = await ask([http(200, ANSWER)], 1, *more)
    assert [path for path, _ in fake.bodies] == ["/ask", "/feedback"]
    for head in fake.heads:
        assert re.findall(r"(?m)^Host: (.*)\r$", head) == ["triage.example"]
        assert "\r\nX-Preview: a: b\r\n" in head
    with pytest.raises(SystemExit):
        build_client("http://x", "--header", "no-value")


async def test_post_sends_one_attempt_only() -> None:
    fake = FakeServer([http(503, {})])
    async with serving(fake) as url:
        with pytest.raises(Exception, match="http 503"):
            await post(f"{url}/ask", {}, {}, 5)
    assert len(fake.bodies) == 1


def test_the_pod_carries_its_two_files_and_runs_restricted() -> None:
    code, pod = build_traffic_objects(
        "ml", "localhost/python:1", "http://support-triage/ask", options=("--users", "9")
    )
    container = pod["spec"]["containers"][0]
    assert set(code["data"]) == {"client.py", "tickets.py"}
    assert container["command"][:4] == ["python3", "/app/client.py", "--url", "http://support-triage/ask"]
    assert container["command"][-2:] == ["--users", "9"]
    assert container["ports"][0]["containerPort"] == CONTROL_PORT
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True


async def test_the_files_run_alone_with_nothing_but_the_standard_library(tmp_path: Any) -> None:
    code, _ = build_traffic_objects("ml", "x", "http://x/ask")
    for name, text in code["data"].items():
        (tmp_path / name).write_text(text)
    command = [sys.executable, "-I", "-S", str(tmp_path / "client.py"), "--help"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0
    assert b"--feedback" in out
