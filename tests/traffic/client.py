"""Sends support tickets to a served program at a steady rate and counts what comes back, request by request.

Standard library only: a ConfigMap carries this file and the example's `tickets.py` into a pod (`manifest.py`). Every
request is one attempt over a new connection; whatever is not a complete 200 is a failed request, never tried again.

Control, on `--port`: `GET /stats` (the report, see Recorder.build_report; `?since=UNIX` limits the buckets),
`POST /rate {"rps": 20}`, `POST /mark {"name": "at 10 %"}` ends the window, answers with its numbers and begins another,
`GET /healthz`. A request belongs to the window and the second in which it was sent. SIGTERM: no more requests, the
open ones are awaited, the report is printed as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import math
import random
import re
import signal
import socket
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLE = "examples/support-triage/tickets.py"
BUCKETS_KEPT, FAILURES_KEPT = 7200, 20
HISTOGRAM_STEP = math.log(1.02)
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}


def get_now() -> float:
    """Unix time: the report is laid beside Prometheus and the API server."""
    return time.time()  # noqa: TID251 - no part of the operator; nobody could hand the time in


class BadAnswer(Exception):  # noqa: N818 - it is an answer
    """The server answered, but not with a complete and correct 200."""


@dataclass
class Arm:
    """What one revision answered; latencies of right and wrong answers alike, in steps of 2 %."""

    requests: int = 0
    right: int = 0
    tracks: Counter[str] = field(default_factory=Counter)
    first_sent_at: float = math.inf
    last_sent_at: float = 0.0
    steps: Counter[int] = field(default_factory=Counter)

    def add(self, answer: Answer) -> None:
        """Count one answer."""
        self.requests += 1
        self.right += answer.right
        self.tracks[answer.track] += 1
        self.first_sent_at = min(self.first_sent_at, answer.sent_at)
        self.last_sent_at = max(self.last_sent_at, answer.sent_at)
        self.steps[math.ceil(math.log(max(answer.seconds, 1e-4)) / HISTOGRAM_STEP)] += 1

    def get_quantile(self, share: float) -> float:
        """Seconds that this share of the answers did not exceed, up to 2 % too high."""
        left = share * self.requests
        for step in sorted(self.steps):
            left -= self.steps[step]
            if left <= 0:
                return round(math.exp(step * HISTOGRAM_STEP), 5)
        return 0.0

    def build_report(self, requests: int) -> dict[str, Any]:
        """Counts, the share of the window's answered requests, accuracy, quantiles in seconds."""
        return {
            "requests": self.requests,
            "share": round(self.requests / requests, 5),
            "tracks": dict(self.tracks),
            "right": self.right,
            "accuracy": round(self.right / self.requests, 4),
            "first_sent_at": round(self.first_sent_at, 3),
            "last_sent_at": round(self.last_sent_at, 3),
            "latency": {name: self.get_quantile(share) for name, share in QUANTILES.items()},
        }


@dataclass(frozen=True)
class Answer:
    """One complete answer, or (with `cause`) one failed request."""

    sent_at: float
    seconds: float
    user: str
    cause: str = ""
    revision: str = ""
    track: str = ""
    right: bool = False


@dataclass
class Window:
    """The counts of one named stretch of time."""

    name: str
    started_at: float
    ended_at: float | None = None
    sent: int = 0
    answered: int = 0
    causes: Counter[str] = field(default_factory=Counter)
    arms: dict[str, Arm] = field(default_factory=lambda: defaultdict(Arm))
    flips: Counter[str] = field(default_factory=Counter)
    feedback: Counter[str] = field(default_factory=Counter)

    def add(self, answer: Answer, before: str) -> None:
        """Count one answer or failure; `before` is the revision that this user saw last."""
        if answer.cause:
            self.causes[answer.cause] += 1
            return
        self.answered += 1
        self.arms[answer.revision].add(answer)
        if before != answer.revision:
            self.flips[f"{before}->{answer.revision}"] += 1

    def build_report(self) -> dict[str, Any]:
        """JSON; `pending` requests are sent and not yet answered, `flips` are users who changed revision."""
        failed = sum(self.causes.values())
        return {
            "name": self.name,
            "started_at": round(self.started_at, 3),
            "ended_at": self.ended_at and round(self.ended_at, 3),
            "sent": self.sent,
            "answered": self.answered,
            "failed": failed,
            "pending": self.sent - self.answered - failed,
            "causes": dict(self.causes),
            "tracks": dict(sum((arm.tracks for arm in self.arms.values()), Counter())),
            "revisions": {r: arm.build_report(self.answered) for r, arm in sorted(self.arms.items())},
            "flips": dict(self.flips),
            "feedback": dict(self.feedback),
        }


class Recorder:
    """All counts: a total, named windows, one bucket a second."""

    def __init__(self) -> None:
        self.total = Window("total", get_now())
        self.windows = [Window("start", self.total.started_at)]
        self.buckets: dict[int, Counter[str]] = {}
        self.first_failures: list[dict[str, Any]] = []
        self.revisions: dict[str, str] = {}

    def mark(self, name: str) -> dict[str, Any]:
        """End the current window and begin another; returns the ended one's report."""
        ended = self.windows[-1]
        ended.ended_at = get_now()
        self.windows.append(Window(name, ended.ended_at))
        return ended.build_report()

    def begin(self) -> Window:
        """A request is being sent: it belongs to the window that is returned."""
        window = self.windows[-1]
        window.sent += 1
        self.total.sent += 1
        return window

    def record(self, window: Window, answer: Answer) -> None:
        """A request has ended."""
        bucket = self.buckets.setdefault(int(answer.sent_at), Counter())
        if len(self.buckets) > BUCKETS_KEPT:
            del self.buckets[min(self.buckets)]
        bucket["failed" if answer.cause else answer.revision] += 1
        if answer.cause and len(self.first_failures) < FAILURES_KEPT:
            failure = {"sent_at": answer.sent_at, "seconds": round(answer.seconds, 4), "cause": answer.cause}
            self.first_failures.append(failure)
        before = self.revisions.get(answer.user, answer.revision)
        for counts in (window, self.total):
            counts.add(answer, before)
        if not answer.cause:
            self.revisions[answer.user] = answer.revision

    def build_report(self, since: float = 0.0) -> dict[str, Any]:
        """`{now, total, windows: [...], buckets: [[second, {revision or "failed": n}]], first_failures}`."""
        return {
            "now": round(get_now(), 3),
            "total": self.total.build_report(),
            "windows": [window.build_report() for window in self.windows],
            "buckets": [[s, dict(counts)] for s, counts in sorted(self.buckets.items()) if s >= since],
            "first_failures": self.first_failures,
        }


async def post(url: str, body: dict[str, Any], more: dict[str, str], timeout: float) -> dict[str, Any]:  # noqa: ASYNC109 - a number of the report
    """One POST over a new connection, one attempt; raises OSError, TimeoutError, EOFError or BadAnswer."""
    where = urlsplit(url)
    data = json.dumps(body).encode()
    headers = {"Host": where.netloc, "Content-Type": "application/json"} | more
    headers |= {"Content-Length": str(len(data)), "Connection": "close"}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    async with asyncio.timeout(timeout):
        # IPv4 only: with two addresses for a name asyncio would quietly try the second.
        reader, writer = await asyncio.open_connection(
            where.hostname, where.port or 80, family=socket.AF_INET
        )
        try:
            writer.write(f"POST {where.path} HTTP/1.1\r\n{head}\r\n".encode() + data)
            answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            size = re.search(r"(?i)\ncontent-length: *(\d+)", answer)
            payload = await (reader.readexactly(int(size[1])) if size else reader.read())
        finally:
            writer.close()
    return _read_answer(int(answer.split(" ", 2)[1]), payload)


def _read_answer(status: int, payload: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(payload)
    except ValueError:
        parsed = None
    if status >= 300:
        code = parsed.get("code", "") if isinstance(parsed, dict) else ""
        raise BadAnswer(f"http {status} {code}".strip())
    if not isinstance(parsed, dict):
        raise BadAnswer(f"http {status} without a JSON object")
    return parsed


def get_cause(error: Exception) -> str:
    """A short stable name of why a request failed."""
    match error:
        case BadAnswer():
            return str(error)
        case TimeoutError():
            return "timeout"
        case EOFError():
            return "closed before the answer was complete"
        case socket.gaierror():
            return "name not resolved"
        case _:
            return type(error).__name__


class Client:
    """The sender: an open loop, so that a slow server does not slow the questions."""

    def __init__(
        self, options: argparse.Namespace, build_ticket: Callable[[int, int], dict[str, str]]
    ) -> None:
        self.options, self.build_ticket = options, build_ticket
        self.recorder = Recorder()
        self.rps = float(options.rps)
        self.rng = random.Random(options.seed)
        self.asked = 0
        self.behind = 0.0
        self.stopping = asyncio.Event()
        self.open: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Ask until told to stop, then await what is open."""
        clock = asyncio.get_running_loop().time
        due = clock()
        while not self.stopping.is_set():
            if self.rps <= 0:
                await asyncio.sleep(0.02)
                due = clock()
                continue
            due += 1 / self.rps
            await asyncio.sleep(max(due - clock(), 0))
            late = clock() - due
            self.behind = max(self.behind, late)
            due += late if late > 1 else 0  # after a stall: no burst
            task = asyncio.create_task(self.ask())
            self.open.add(task)
            task.add_done_callback(self.open.discard)
        await asyncio.gather(*self.open)

    async def ask(self) -> None:
        """One ticket, and perhaps the feedback on its answer."""
        ticket = self.build_ticket(self.options.seed, self.asked)
        self.asked += 1
        user = f"user-{self.rng.randrange(self.options.users):06d}"
        gives_feedback = self.rng.random() < self.options.feedback
        window, sent_at, clock = self.recorder.begin(), get_now(), asyncio.get_running_loop().time
        began = clock()
        try:
            body = {"inputs": {"ticket": ticket["ticket"]}}
            answer = await post(self.options.url, body, self.build_headers(user), self.options.timeout)
            right, meta = answer["outputs"]["queue"] == ticket["queue"], answer["meta"]
            arrived = Answer(sent_at, clock() - began, user, "", meta["revision"], meta["track"], right)
        except Exception as error:  # noqa: BLE001 - whatever it was, the request has failed
            self.recorder.record(window, Answer(sent_at, clock() - began, user, get_cause(error)))
            return
        self.recorder.record(window, arrived)
        if gives_feedback:
            await self.give_feedback(window, meta.get("feedback_token"), user, right=right)

    async def give_feedback(self, window: Window, token: str | None, user: str, *, right: bool) -> None:
        """The client knows the true queue, as a person would who had to forward the ticket."""
        result = "no token" if token is None else "posted"
        if token is not None:
            body = {"feedback_token": token, "score": float(right)}
            url = self.options.url.rpartition("/")[0] + "/feedback"
            try:
                await post(url, body, self.build_headers(user), self.options.timeout)
            except Exception as error:  # noqa: BLE001 - the same for a vote
                result = get_cause(error)
        window.feedback[result] += 1
        self.recorder.total.feedback[result] += 1

    def build_headers(self, user: str) -> dict[str, str]:
        """Who asks, and what the command line adds."""
        return {"X-User-Id": user} | dict(self.options.header)

    def build_report(self, since: float = 0.0) -> dict[str, Any]:
        """The recorder's report, and how far behind the rate the sender was at worst."""
        told = {"url": self.options.url, "rps": self.rps, "behind_seconds": round(self.behind, 3)}
        return told | self.recorder.build_report(since)

    def control(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """Answer one control request."""
        where = urlsplit(path)
        match method, where.path:
            case "GET", "/healthz":
                return 200, {"status": "ok"}
            case "GET", "/stats":
                return 200, self.build_report(float(parse_qs(where.query).get("since", ["0"])[0]))
            case "POST", "/rate":
                self.rps = float(json.loads(body)["rps"])
                return 200, {"rps": self.rps}
            case "POST", "/mark":
                return 200, self.recorder.mark(str(json.loads(body)["name"]))
        return 404, {"error": "no such endpoint"}


async def serve_control(client: Client, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One control request a connection."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        size = re.search(r"(?i)\ncontent-length: *(\d+)", head)
        body = await reader.readexactly(int(size[1])) if size else b""
        method, path, _ = head.split(" ", 2)
        status, answer = client.control(method, path, body)
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, OSError) as error:
        status, answer = 400, {"error": f"{type(error).__name__}: {error}"}
    data = json.dumps(answer).encode()
    kind = "Content-Type: application/json\r\nConnection: close"
    writer.write(f"HTTP/1.1 {status} -\r\n{kind}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
    writer.close()


def load_build_ticket(path: Path) -> Callable[[int, int], dict[str, str]]:
    """The generator of `tickets.py`, wherever that file lies."""
    spec = importlib.util.spec_from_file_location("tickets", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    build_ticket: Callable[[int, int], dict[str, str]] = module.build_ticket
    return build_ticket


def read_options(arguments: list[str]) -> argparse.Namespace:
    """What the command line says."""
    here = Path(__file__).resolve()
    beside, example = here.with_name("tickets.py"), here.parents[2] / EXAMPLE
    parser = argparse.ArgumentParser(description="Steady traffic of support tickets.")
    parser.add_argument("--url", required=True, help="for example http://support-triage/ask")
    parser.add_argument("--rps", type=float, default=20.0, help="requests a second; 0 waits for POST /rate")
    parser.add_argument("--seed", type=int, default=1000, help="of the tickets and users")
    parser.add_argument("--users", type=int, default=100_000, help="how many different X-User-Id")
    parser.add_argument("--feedback", type=float, default=0.0, help="share of answers with POST /feedback")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds until a request has failed")
    parser.add_argument("--header", nargs=2, action="append", default=[], help="such as Host NAME")
    parser.add_argument("--tickets", type=Path, default=beside if beside.exists() else example)
    parser.add_argument("--host", default="0.0.0.0", help="where the control port listens")
    parser.add_argument("--port", type=int, default=8081, help="of the control endpoints")
    return parser.parse_args(arguments)


async def main(arguments: list[str]) -> None:
    """Send until SIGTERM or SIGINT, then print the report."""
    options = read_options(arguments)
    client = Client(options, load_build_ticket(options.tickets))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, client.stopping.set)
    server = await asyncio.start_server(partial(serve_control, client), options.host, options.port)
    print(json.dumps({"control": server.sockets[0].getsockname()}), flush=True)
    await client.run()
    server.close()
    print(json.dumps(client.build_report()), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
