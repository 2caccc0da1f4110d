"""The server as the image starts it: a real process, real sockets, real signals."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.servers import get_free_port
from tests.unit.serving.collector import run_collector
from tests.unit.serving.harness import build_lm
from tests.unit.serving.test_stream import ANSWER, join, parse_events, write_reply
from tests.unit.serving.worlds import World, until

REPOSITORY = Path(__file__).parents[3]


class Process:
    """A running server."""

    def __init__(self, env: dict[str, str], log: Path, *arguments: str) -> None:
        self.port, self.metrics_port = get_free_port(), get_free_port()
        self.log = log
        ports = {
            "DSPY_HOST": "127.0.0.1",
            "DSPY_PORT": str(self.port),
            "DSPY_METRICS_PORT": str(self.metrics_port),
            "DSPY_SHUTDOWN_DELAY": "1s",
            "PYTHONPATH": str(REPOSITORY),
        }
        base = {key: value for key, value in os.environ.items() if not key.startswith(("DSPY_", "OPENAI_"))}
        self.started = time.monotonic()
        with log.open("wb") as output:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "dspy_server.cli", "serve", *arguments],
                env={**base, **ports, **env},
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=log.parent,
            )
        self.url = f"http://127.0.0.1:{self.port}"

    async def wait_ready(self) -> None:
        async with asyncio.timeout(120), httpx.AsyncClient() as client:
            while True:
                assert self.popen.poll() is None, self.log.read_text()
                try:
                    if (await client.get(f"{self.url}/ready")).status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.05)

    async def wait_end(self) -> int:
        return await asyncio.to_thread(self.popen.wait, 30)


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    started: list[Process] = []
    yield started
    for process in started:
        if process.popen.poll() is None:
            process.popen.kill()
        process.popen.wait()


@pytest.fixture
def start(processes: list[Process], tmp_path: Path) -> Any:
    def start(env: dict[str, str], *arguments: str) -> Process:
        process = Process(env, tmp_path / "server.log", *arguments)
        processes.append(process)
        return process

    return start


async def ask(url: str, user: str) -> httpx.Response:
    """One request over a connection of its own, as a client behind a Service has it."""
    async with httpx.AsyncClient(timeout=20) as client:
        return await client.post(f"{url}/ask", json={"ticket": "hello"}, headers={"X-User-Id": user})


@asynccontextmanager
async def load(url: str) -> AsyncIterator[list[Any]]:
    """Steady load by eight users; like a Service it sends nothing to a pod that says it is not ready."""
    results: list[Any] = []
    stop = asyncio.Event()

    async def watch() -> None:
        async with httpx.AsyncClient(timeout=20) as client:
            while not stop.is_set():
                if (await client.get(f"{url}/ready")).status_code == 503:
                    stop.set()
                await asyncio.sleep(0.05)

    async def user(name: str) -> None:
        while not stop.is_set():
            try:
                results.append((await ask(url, name)).status_code)
            except httpx.TransportError as exc:
                results.append(exc)

    tasks = [asyncio.create_task(user(f"user-{index}")) for index in range(8)]
    tasks.append(asyncio.create_task(watch()))
    yield results
    stop.set()
    await asyncio.gather(*tasks)


async def test_a_new_table_and_then_sigterm_under_load_lose_no_request(
    start: Any, world: World, base_url: str
) -> None:
    world.split(0)
    process = start(world.build_env(base_url, DSPY_SHUTDOWN_DELAY="5s"))  # what a pod has
    await process.wait_ready()
    assert (await ask(process.url, "alice")).json()["outputs"] == {"queue": "billing"}
    async with load(process.url) as results:
        world.split(100)
        async with asyncio.timeout(60):
            while (await ask(process.url, "alice")).json()["outputs"] != {"queue": "shipping"}:
                pass
        text = await scrape(process)
        before = len(results)
        process.popen.send_signal(signal.SIGTERM)
        code = await process.wait_end()
    assert code == 0, process.log.read_text()
    assert 0 < before < len(results)
    assert set(results) == {200}
    assert 'dspy_routes_generation{program="triage"} 2.0' in text
    assert 'dspy_program_loaded{program="triage",revision="rev1"} 1.0' in text
    events = [json.loads(line)["event"] for line in process.log.read_text().splitlines()]
    draining = events.index("draining")
    assert set(events[draining + 1 : -1]) <= {"asked"}, events[draining:]
    assert events[-1] == "stopped"


async def scrape(process: Process) -> str:
    async with httpx.AsyncClient(timeout=20) as client:
        return (await client.get(f"http://127.0.0.1:{process.metrics_port}/metrics")).text


async def test_alone_on_a_laptop_it_serves_one_artifact_and_answers_what_it_began(
    start: Any, world: World, base_url: str
) -> None:
    slow = {
        "lm": {"primary": {"model": "openai/icl-100+slow", "apiBase": f"{base_url}/v1"}, "timeout": "20s"}
    }
    env = world.build_env(base_url, slow, DSPY_ROUTES="/nowhere/routes.json")
    process = start(
        env, "--artifact", str(world.slot_path(1)), "--module", "tests.unit.serving.programs:Triage"
    )
    await process.wait_ready()
    answer = asyncio.create_task(ask(process.url, "alice"))
    while not re.search(r"^dspy_inflight\{.*\} 1\.0$", await scrape(process), re.MULTILINE):
        pass
    process.popen.send_signal(signal.SIGTERM)
    body = (await answer).json()
    assert (body["outputs"], body["meta"]["track"]) == ({"queue": "shipping"}, "stable")
    assert await process.wait_end() == 0


async def test_a_stream_that_has_begun_is_told_to_its_end_after_sigterm(
    start: Any, world: World, base_url: str, tmp_path: Path
) -> None:
    write_reply(world, tmp_path)
    process = start(world.build_env(base_url, build_lm(base_url, "openai/icl-100+slow", timeout="20s")))
    await process.wait_ready()
    async with httpx.AsyncClient(timeout=30) as client:
        telling = asyncio.create_task(client.post(f"{process.url}/ask/stream", json={"ticket": "money back"}))
        while not re.search(r"^dspy_inflight\{.*\} 1\.0$", await scrape(process), re.MULTILINE):
            pass
        process.popen.send_signal(signal.SIGTERM)
        events = parse_events((await telling).text)
    assert (events[0][0], events[-1][0]) == ("chunk", "final")
    assert join(events)["answer"] == events[-1][1]["outputs"]["answer"] == ANSWER
    assert await process.wait_end() == 0


async def test_a_process_never_imports_litellm_to_answer(world: World, base_url: str) -> None:
    script = (
        "import asyncio, os, sys\n"
        "from tests.unit.serving.harness import ask, run\n"
        "from tests.unit.serving.worlds import World, until\n"
        "from pathlib import Path\n"
        "async def main():\n"
        "    world = World(Path(sys.argv[1])); world.shas = {0: sys.argv[3]}\n"
        "    world.write_table(world.route(0, 100, 'stable'))\n"
        "    async with run(world, sys.argv[2]) as (_, client):\n"
        "        assert (await ask(client)).status_code == 200\n"
        "asyncio.run(main())\n"
        "print('litellm' in sys.modules)\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(world.root), base_url, world.shas[0],
        cwd=REPOSITORY, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert output.split()[-1] == b"False"


async def test_sigterm_is_obeyed_while_dspy_is_still_being_imported(
    start: Any, world: World, base_url: str
) -> None:
    process = start(world.build_env(base_url))
    status = Path(f"/proc/{process.popen.pid}/status")
    caught = 1 << (signal.SIGTERM - 1)

    def has_handler() -> bool:
        mask = re.search(r"^SigCgt:\s*([0-9a-f]+)", status.read_text(), re.MULTILINE)
        return mask is not None and bool(int(mask[1], 16) & caught)

    await until(has_handler, seconds=60)
    process.popen.send_signal(signal.SIGTERM)
    assert await process.wait_end() == 128 + signal.SIGTERM
    assert process.log.read_text() == ""


async def test_a_taken_port_ends_the_process(world: World, base_url: str, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = {"DSPY_HOST": "127.0.0.1", "DSPY_PORT": str(taken.getsockname()[1]), "DSPY_METRICS_PORT": "0"}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "dspy_server.cli", "serve",
            env={**os.environ, **world.build_env(base_url), **ports}, cwd=tmp_path,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert await process.wait() != 0


async def test_sigterm_sends_the_spans_that_wait(start: Any, world: World, base_url: str) -> None:
    world.write_table(world.route(0, 100, "stable"))
    with run_collector() as collector:
        serving = {"tracing": {"endpoint": collector.url, "sample": "100%"}, "logs": {"text": "Redacted"}}
        slow = {"model": "openai/icl-100+slow", "apiBase": f"{base_url}/v1"}
        config = {"serving": serving, "lm": {"primary": slow, "timeout": "20s"}}
        process = start(world.build_env(base_url, config))
        await process.wait_ready()
        async with httpx.AsyncClient(timeout=20) as client:
            body = {"ticket": "write to alice@example.com"}
            asking = asyncio.create_task(client.post(f"{process.url}/ask", json=body))
            while not re.search(r"^dspy_inflight\{.*\} 1\.0$", await scrape(process), re.MULTILINE):
                pass
            process.popen.send_signal(signal.SIGTERM)
            answer = await asking
        assert await process.wait_end() == 0
    trace_id = answer.headers["x-trace-id"]
    assert collector.get_tree(trace_id)[0] == "POST /ask"
    lines = [json.loads(line) for line in process.log.read_text().splitlines()]
    (asked,) = [line for line in lines if line["event"] == "asked"]
    assert (asked["trace_id"], asked["inputs"]) == (trace_id, {"ticket": "write to [EMAIL]"})
    assert b"alice@example.com" not in collector.raw
