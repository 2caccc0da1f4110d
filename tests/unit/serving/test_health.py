"""Health and readiness while programs are loaded: the loop stays free, and a pod is ready when it can answer."""

import asyncio
import statistics
import time
from pathlib import Path

import httpx
from tests.unit.serving.harness import run
from tests.unit.serving.test_clients import listen
from tests.unit.serving.worlds import World, build_artifact, until

from dspy_server.contract import ProgramState


async def test_healthz_answers_within_50_ms_while_a_program_is_loaded_and_ready_says_503(
    world: World, base_url: str, tmp_path: Path
) -> None:
    world.fill_slot(0, build_artifact(tmp_path, "billing", count=1000))
    world.write_table(world.route(0, 100, "stable", module="tests.unit.serving.programs:build_slowly"))
    took, codes = [], set()
    async with (
        asyncio.timeout(30),
        run(world, base_url, wait_for=()) as (server, _),
        listen(server) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        server.keeper.poll()
        while server.keeper.current is None:
            started = time.perf_counter()
            health = await client.get("/healthz")
            took.append(time.perf_counter() - started)
            codes.add((health.status_code, (await client.get("/ready")).status_code))
        assert server.keeper.get_states() == {"rev0": ProgramState.LOADED}
        ready = await client.get("/ready")
    assert (200, 503) in codes
    assert len(took) > 5
    assert statistics.median(took) < 0.05
    assert max(took) < 0.5
    assert (ready.status_code, ready.json()["programs"]) == (200, {"rev0": "loaded"})


async def test_ready_says_which_program_is_waited_for_and_why_another_is_refused(
    world: World, base_url: str
) -> None:
    world.fill_slot(1, b"{}")
    missing = world.route(2, 100, "stable")
    world.write_table(missing, world.route(1, 0, "canary"))
    async with run(world, base_url, wait_for=()) as (server, client):
        server.keeper.poll()
        await until(lambda: server.keeper.get_states()["rev1"] is ProgramState.REFUSED)
        response = await client.get("/ready")
    detail = response.json()
    assert (response.status_code, detail["code"]) == (503, "not_ready")
    assert (detail["generation"], detail["seenGeneration"]) == (0, 1)
    assert detail["programs"] == {"rev2": "waiting", "rev1": "refused"}
    assert detail["reasons"]["rev1"]
