"""An OpenAI-compatible server in front of the in-context learner, for the tests and the demo.

Standard library only: a ConfigMap carries this file and `learner.py` into a pod at `/app/tests/provider`,
and `python3 -m tests.provider.icl_lm` in `/app` runs it. Models: see `learner.py`; `model+fault`: see FAULTS.

`POST /v1/chat/completions` (plain, `stream`, `n`), `GET /v1/models`, `GET /healthz`, `GET /_stats`,
`GET /_fault`, `POST /_fault {"MODEL or *": {"fault": "fail500", "rate": 0.5, "delay": 0.2}}`, merged model by
model; `null` in place of an object ends what was asked of that model, `{}` as the whole body ends it for all.

Latency, by environment variables, all 0 unless given: an answer takes
`(LATENCY + LATENCY_PER_1K_TOKENS * prompt tokens / 1000) * (1 + LATENCY_JITTER * u)` seconds, u in [-1, 1]
from a hash of the call. As with real providers a longer prompt is slower: an artifact can be slow by itself.
A `delay` given to `/_fault` takes the place of LATENCY for that model.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import re
import signal
import threading
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.provider.learner import count_tokens, get_hash, get_reply

if TYPE_CHECKING:
    from collections.abc import Iterator

FAULTS = {
    "fail500": "every call is a 500",
    "fail429": "every call is a 429 with Retry-After",
    "fail401": "every call is a 401",
    "slow": "three seconds more",
    "garbage": "text without any field",
    "flaky": "two of three calls are a 500",
    "cut": "the connection dies half way through the answer",
}
STATUS_OF_FAULT = {"fail500": 500, "fail429": 429, "fail401": 401, "flaky": 500}
SLOW_SECONDS = 3.0
MODEL = re.compile(r"(const|icl-(?:100|\d{1,2}))(?:\+(\w+))?")
GARBAGE = "I would rather talk about the weather."


@dataclass
class Fault:
    """What `/_fault` asks of a model; `rate` is the share of calls that it strikes, evenly spread."""

    fault: str = ""
    rate: float = 1.0
    delay: float | None = None
    calls: int = 0

    def strikes(self) -> bool:
        """Whether this call is one of the faulty ones."""
        self.calls += 1
        rate = self.rate * (2 / 3 if self.fault == "flaky" else 1)
        return bool(self.fault) and int(self.calls * rate + 1e-9) > int((self.calls - 1) * rate + 1e-9)


@dataclass
class Provider:
    """The state of one running server: latency, faults, counters."""

    latency: float = 0.0
    latency_per_1k_tokens: float = 0.0
    jitter: float = 0.0
    faults: dict[str, Fault] = field(default_factory=dict)
    own_faults: dict[str, Fault] = field(default_factory=dict)
    calls: Counter[tuple[str, int]] = field(default_factory=Counter)
    tokens: Counter[tuple[str, str]] = field(default_factory=Counter)
    keys: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def get_stats(self) -> dict[str, Any]:
        """`{calls: {model: {status: n}}, tokens: {model: {kind: n}}, keys: {model: [digest of a key]}}`."""
        calls: dict[str, dict[str, int]] = defaultdict(dict)
        tokens: dict[str, dict[str, int]] = defaultdict(dict)
        for (model, status), count in self.calls.items():
            calls[model][str(status)] = count
        for (model, kind), count in self.tokens.items():
            tokens[model][kind] = count
        return {"calls": calls, "tokens": tokens, "keys": {m: sorted(k) for m, k in self.keys.items()}}

    def set_faults(self, wanted: dict[str, dict[str, Any] | None]) -> dict[str, Any]:
        """Merge faults by model; raises ValueError or TypeError for what it does not know."""
        new = {m: Fault(**f) for m, f in wanted.items() if f is not None}
        if unknown := {f.fault for f in new.values()} - FAULTS.keys() - {""}:
            raise ValueError(f"unknown faults {sorted(unknown)}: known are {sorted(FAULTS)}")
        kept = {m: f for m, f in self.faults.items() if m not in wanted} if wanted else {}
        self.faults = kept | new
        return self.list_faults()

    def list_faults(self) -> dict[str, Any]:
        """What `/_fault` has asked for and not ended."""
        return {m: {"fault": f.fault, "rate": f.rate, "delay": f.delay} for m, f in self.faults.items()}

    def get_fault(self, name: str) -> tuple[str, float | None]:
        """The fault that strikes this call, or "", and the model's delay if one was set."""
        told = self.faults.get(name) or self.faults.get("*")
        own = self.own_faults.setdefault(name, Fault(name.partition("+")[2]))
        fault = told if told and told.fault else own
        return (fault.fault if fault.strikes() else ""), told.delay if told else None

    def get_latency(self, call: int, tokens: int, delay: float | None) -> float:
        """Seconds until the answer, see the module's docstring."""
        seconds = (self.latency if delay is None else delay) + self.latency_per_1k_tokens * tokens / 1000
        return seconds * (1 + self.jitter * (call / 2**63 - 1))

    async def complete(self, exchange: Exchange) -> None:
        """Answer one `POST /v1/chat/completions`."""
        request = json.loads(exchange.body)
        name, messages = str(request["model"]), request["messages"]
        self.keys[name].add(hashlib.sha256(exchange.key.encode()).hexdigest()[:12])
        model = MODEL.fullmatch(name)
        if model is None or (model[2] or "slow") not in FAULTS:
            self.calls[name, 404] += 1
            exchange.send(404, _build_error(f"no model {name}", "model_not_found"))
            return
        fault, delay = self.get_fault(name)
        text, prompt_tokens = get_reply(model[1], messages)
        call = get_hash(name, json.dumps(messages))
        seconds = self.get_latency(call, prompt_tokens, delay) + (SLOW_SECONDS if fault == "slow" else 0)
        if seconds > 0:
            await asyncio.sleep(seconds)
        status = STATUS_OF_FAULT.get(fault, 200)
        self.calls[name, status] += 1
        if status != 200:
            exchange.send(status, _build_error(f"fault {fault}", fault))
            return
        text = GARBAGE if fault == "garbage" else text
        answer = Answer(f"chatcmpl-{call:016x}", name, text, int(request.get("n") or 1), prompt_tokens)
        self.tokens[name, "prompt"] += prompt_tokens
        self.tokens[name, "completion"] += answer.usage["completion_tokens"]
        with_usage = bool((request.get("stream_options") or {}).get("include_usage"))
        body = answer.build_events(with_usage=with_usage) if request.get("stream") else answer.build_body()
        exchange.send(200, body, cut=fault == "cut")


@dataclass(frozen=True)
class Answer:
    """One completion in OpenAI's shape, whole or as server-sent events."""

    id: str
    model: str
    text: str
    choices: int
    prompt_tokens: int

    @property
    def usage(self) -> dict[str, int]:
        """Tokens: the prompt's, the completions', both."""
        completion = count_tokens(self.text) * self.choices
        total = self.prompt_tokens + completion
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": completion, "total_tokens": total}

    def _build(self, kind: str, choices: list[dict[str, Any]], **more: object) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": 0, "model": self.model, "choices": choices, **more}

    def build_body(self) -> dict[str, Any]:
        """The body of a plain answer."""
        message = {"role": "assistant", "content": self.text}
        choices = [{"index": i, "message": message, "finish_reason": "stop"} for i in range(self.choices)]
        return self._build("chat.completion", choices, usage=self.usage)

    def build_events(self, *, with_usage: bool) -> list[str]:
        """The events: a role, one a word, the stop, the usage when asked, `[DONE]`."""
        deltas = [
            {"role": "assistant", "content": ""},
            *({"content": w} for w in re.findall(r"\s*\S+\s*", self.text)),
        ]
        events = [
            self._build("chat.completion.chunk", [{"index": i, "delta": delta, "finish_reason": reason}])
            for i in range(self.choices)
            for delta, reason in [*((d, None) for d in deltas), ({}, "stop")]
        ]
        if with_usage:
            events.append(self._build("chat.completion.chunk", [], usage=self.usage))
        return [f"data: {data}\n\n" for data in [*map(json.dumps, events), "[DONE]"]]


def _build_error(message: str, code: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "provider_error", "code": code, "param": None}}


class Exchange:
    """One HTTP request and the way to answer it."""

    def __init__(self, writer: asyncio.StreamWriter, head: str, body: bytes) -> None:
        self.writer, self.body = writer, body
        start, *lines = head.split("\r\n")
        self.method, self.path, _ = start.split(" ", 2)
        fields = (line.partition(":") for line in lines)
        self.key = next((v.strip() for n, _, v in fields if n.lower() == "authorization"), "")

    def send(self, status: int, body: dict[str, Any] | list[str], *, cut: bool = False) -> None:
        """Write an answer, JSON or a list of events; `cut` ends the connection in the middle of it."""
        events = isinstance(body, list)
        parts = body if isinstance(body, list) else [json.dumps(body)]
        data = [f"{len(p.encode()):x}\r\n{p}\r\n" for p in [*parts, ""]] if events else parts
        size = "Transfer-Encoding: chunked" if events else f"Content-Length: {len(parts[0].encode())}"
        kind = "text/event-stream" if events else "application/json"
        retry = "Retry-After: 1\r\n" if status == 429 else ""
        payload = "".join(data).encode()
        self.writer.write(f"HTTP/1.1 {status} -\r\nContent-Type: {kind}\r\n{size}\r\n{retry}\r\n".encode())
        self.writer.write(payload[: len(payload) // 2] if cut else payload)
        if cut:
            self.writer.close()


async def _answer(provider: Provider, exchange: Exchange) -> None:
    try:
        match exchange.method, exchange.path.partition("?")[0]:
            case "POST", "/v1/chat/completions":
                await provider.complete(exchange)
            case "POST", "/_fault":
                exchange.send(200, provider.set_faults(json.loads(exchange.body)))
            case "GET", "/_fault":
                exchange.send(200, provider.list_faults())
            case "GET", "/_stats":
                exchange.send(200, provider.get_stats())
            case "GET", "/v1/models":
                models = [{"id": m, "object": "model"} for m in ("icl-100", "icl-95", "icl-90", "const")]
                exchange.send(200, {"object": "list", "data": models})
            case "GET", "/healthz":
                exchange.send(200, {"status": "ok"})
            case _:
                exchange.send(404, _build_error("no such endpoint", "not_found"))
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        exchange.send(400, _build_error(f"{type(error).__name__}: {error}", "bad_request"))


async def _serve_connection(
    provider: Provider, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    # Only _stop cancels, and asyncio's own callback would report a cancelled connection as an error.
    gone = (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, asyncio.CancelledError)
    with contextlib.suppress(*gone):
        while not writer.is_closing():
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            size = re.search(r"(?i)\ncontent-length: *(\d+)", head)
            body = await reader.readexactly(int(size[1])) if size else b""
            await _answer(provider, Exchange(writer, head, body))
            await writer.drain()
    writer.close()


async def start_server(provider: Provider, host: str = "127.0.0.1", port: int = 0) -> asyncio.Server:
    """Listen; the port is in `server.sockets[0].getsockname()[1]`."""
    return await asyncio.start_server(partial(_serve_connection, provider), host, port)


@contextlib.contextmanager
def run_provider(provider: Provider | None = None) -> Iterator[str]:
    """A provider on a free loopback port, in a thread of its own; yields its base URL, without `/v1`."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="icl-lm")
    thread.start()
    starting = start_server(provider or Provider())
    server = asyncio.run_coroutine_threadsafe(starting, loop).result(10)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        asyncio.run_coroutine_threadsafe(_stop(server), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _stop(server: asyncio.Server) -> None:
    server.close()
    connections = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in connections:
        task.cancel()
    await asyncio.gather(*connections, return_exceptions=True)


def read_provider() -> Provider:
    """A provider with the latency that the environment sets."""
    latency, per_1k, jitter = (
        float(os.environ.get(name, "0")) for name in ("LATENCY", "LATENCY_PER_1K_TOKENS", "LATENCY_JITTER")
    )
    return Provider(latency, per_1k, jitter)


async def _serve(host: str, port: int) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    server = await start_server(read_provider(), host, port)
    print(f"in-context learner on {server.sockets[0].getsockname()}", flush=True)
    await stopped.wait()
    await _stop(server)


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(
        description="An OpenAI-compatible server that answers from the prompt alone."
    )
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    asyncio.run(_serve(arguments.host, arguments.port))


if __name__ == "__main__":
    main()
