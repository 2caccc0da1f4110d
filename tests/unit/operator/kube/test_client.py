"""The client against a scripted API server over real HTTP: lost answers, hangs, half bodies, new logins."""

import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from kubernetes.aio.client import Configuration
from tests.servers import Server

from dspy_operator.errors import LostAnswer, Permanent, Transient
from dspy_operator.kube.client import Client
from dspy_operator.kube.resources import CONFIGMAPS, DSPYROLLOUTS, HTTPROUTES, PODS

Answer = Callable[["Handler"], None]
MAP = {"metadata": {"name": "a", "namespace": "ml"}}
BOUND = {"uid": "u", "resource_version": "1"}


@dataclass
class Script:
    """What the server answers, and what it heard."""

    answer: Answer
    url: str = ""
    heard: list[tuple[str, str, dict[str, str], Any]] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)


class Handler(BaseHTTPRequestHandler):
    """One exchange."""

    script: Script

    def handle_any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"null")
        self.script.heard.append((self.command, self.path, dict(self.headers.items()), body))
        try:
            self.script.answer(self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815  the standard library's names

    def send(self, status: int, body: bytes | dict[str, Any], **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the standard library's name
        pass


@contextmanager
def run(answer: Answer) -> Iterator[Script]:
    script = Script(answer)
    handler = type("ScriptedHandler", (Handler,), {"script": script})
    server = Server(("127.0.0.1", 0), handler)
    script.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield script
    finally:
        script.release.set()
        server.shutdown()
        server.server_close()
        thread.join()


Open = Callable[..., Client]


@pytest.fixture
async def connect() -> AsyncIterator[Open]:
    opened: list[Client] = []

    def connect_to(script: Script, token: str = "", **kwargs: Any) -> Client:
        configuration = Configuration(host=script.url)
        if token:
            configuration.api_key["BearerToken"] = f"Bearer {token}"
        opened.append(Client(configuration, **kwargs))
        return opened[-1]

    yield connect_to
    for client in opened:
        await client.close()


def hang(handler: Handler) -> None:
    handler.script.release.wait(5)
    handler.close_connection = True


def reset(handler: Handler) -> None:
    handler.close_connection = True


def half(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "100")
    handler.end_headers()
    handler.wfile.write(b'{"kind":')
    handler.close_connection = True


def garbage(handler: Handler) -> None:
    handler.send(200, b"<html>ok</html>")


def unavailable(handler: Handler) -> None:
    handler.send(503, b"<html>secret of a proxy</html>", Retry_After="7")


@pytest.mark.parametrize("answer", [hang, reset, half, garbage, unavailable])
async def test_a_write_without_an_answer_may_still_land(connect: Open, answer: Answer) -> None:
    with run(answer) as script:
        client = connect(script, timeout=0.3)
        for attempt in (
            client.create(CONFIGMAPS, MAP),
            client.apply(CONFIGMAPS, MAP, **BOUND),
            client.patch_status(DSPYROLLOUTS, "ml", "a", {}, **BOUND),
            client.delete(CONFIGMAPS, "ml", "a", uid="u"),
        ):
            with pytest.raises(LostAnswer) as caught:
                await attempt
            assert "secret" not in str(caught.value)


@pytest.mark.parametrize("answer", [hang, reset, half, garbage, unavailable])
async def test_a_read_without_an_answer_is_tried_again(connect: Open, answer: Answer) -> None:
    with run(answer) as script:
        client = connect(script, timeout=0.3)
        with pytest.raises(Transient) as caught:
            await client.find(CONFIGMAPS, "ml", "a")
        assert not isinstance(caught.value, LostAnswer)


async def test_a_write_that_never_left_is_not_lost(connect: Open) -> None:
    with run(reset) as gone:
        pass
    client = connect(gone)
    with pytest.raises(Transient, match="cannot reach the API server") as caught:
        await client.create(CONFIGMAPS, MAP)
    assert not isinstance(caught.value, LostAnswer)


async def test_the_servers_wish_to_wait_is_heard(connect: Open) -> None:
    with run(unavailable) as script:
        with pytest.raises(LostAnswer) as caught:
            await connect(script).create(CONFIGMAPS, MAP)
        assert caught.value.retry_after == 7.0


async def test_a_refused_token_is_replaced_for_the_next_call(connect: Open) -> None:
    def answer(handler: Handler) -> None:
        good = handler.headers.get("Authorization") == "Bearer new"
        handler.send(200 if good else 401, MAP if good else {"kind": "Status", "message": "Unauthorized"})

    with run(answer) as script:

        async def login() -> Configuration:
            fresh = Configuration(host=script.url)
            fresh.api_key["BearerToken"] = "Bearer new"
            return fresh

        client = connect(script, token="old", login=login)
        with pytest.raises(Transient, match="401"):
            await client.find(CONFIGMAPS, "ml", "a")
        assert await client.find(CONFIGMAPS, "ml", "a") is not None


async def test_a_verb_that_is_not_granted_is_named(connect: Open) -> None:
    status = {"kind": "Status", "message": 'pods "x" is forbidden: no'}
    with run(lambda handler: handler.send(403, status)) as script:
        with pytest.raises(Permanent, match="patch pods/x: 403") as caught:
            await connect(script).annotate(PODS, "ml", "x", {"a": "1"})
        assert caught.value.code == 403


async def test_names_are_quoted_in_paths(connect: Open) -> None:
    with run(lambda handler: handler.send(404, {})) as script:
        assert await connect(script).find(HTTPROUTES, "ml", "../../secrets?x") is None
    assert script.heard[0][1] == (
        "/apis/gateway.networking.k8s.io/v1/namespaces/ml/httproutes/..%2F..%2Fsecrets%3Fx"
    )


@pytest.mark.parametrize("name", ["", ".", ".."])
async def test_a_name_that_would_be_another_path_is_never_sent(connect: Open, name: str) -> None:
    with run(lambda handler: handler.send(200, MAP)) as script, pytest.raises(Permanent, match="is no name"):
        await connect(script).find(CONFIGMAPS, "ml", name)
    assert script.heard == []


async def test_every_call_is_told_to_the_hook(connect: Open) -> None:
    calls: list[tuple[str, str, str]] = []
    answers: list[Answer] = [lambda handler: handler.send(200, MAP), hang, reset]

    def answer(handler: Handler) -> None:
        answers.pop(0)(handler)

    with run(answer) as script:
        client = connect(script, timeout=0.3, on_request=lambda *call: calls.append(call))
        await client.find(CONFIGMAPS, "ml", "a")
        for _ in range(2):
            with pytest.raises(LostAnswer):
                await client.create(CONFIGMAPS, MAP)
    assert calls == [
        ("get", "configmaps", "200"),
        ("create", "configmaps", "timeout"),
        ("create", "configmaps", "error"),
    ]
