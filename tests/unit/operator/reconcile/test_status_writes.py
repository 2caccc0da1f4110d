"""How often what people read is written: numbers once a checkpoint, all else at once."""

from dataclasses import replace
from typing import Any, cast

import pytest
from tests.unit.operator.rollout.plans import INTERVAL, build_program
from tests.unit.operator.rollout.world import World

from dspy_operator.manifests.owner import Owner
from dspy_operator.reconcile.memory import Given, Memory
from dspy_operator.reconcile.record import Recorder
from dspy_operator.reconcile.snapshot import Snapshot
from dspy_operator.rollout.decide import decide
from dspy_operator.rollout.status import Telemetry

POINTER = {"revision": "b", "source": "b", "attempt": 1, "rollout": "b-1", "rolloutUID": "uid-1"}


class Server:
    """Merges status patches as the API server does, one level below `status` deep."""

    def __init__(self) -> None:
        self.patches: list[dict[str, Any]] = []
        self.obj: dict[str, Any] = {
            "metadata": {
                "namespace": "ml",
                "name": "triage",
                "uid": "u",
                "resourceVersion": "1",
                "generation": 2,
            },
            "spec": {"replicas": 2},
            "status": {"canary": dict(POINTER)},
        }

    async def patch_status(self, *wanted: Any, **_: Any) -> dict[str, Any]:
        patch: dict[str, Any] = wanted[3]
        self.patches.append(patch)
        status = self.obj["status"]
        merged = {
            key: {**status.get(key, {}), **value} for key, value in patch.items() if isinstance(value, dict)
        }
        self.obj = {**self.obj, "status": {**status, **patch, **merged}}
        self.obj["metadata"] = {**self.obj["metadata"], "resourceVersion": str(len(self.patches) + 1)}
        return self.obj


@pytest.fixture
def canary() -> World:
    """A world whose canary has 10 % and is judged."""
    world = World(requests=1.0)  # too few to decide anything
    world.revisions["a"] = build_program("a")
    step(world, 20)
    world.target = build_program("b")
    step(world, 40)
    assert world.table is not None
    assert world.table.split.weight == 10
    return world


def step(world: World, passes: int) -> None:
    for _ in range(passes):
        world.make_pass()
        world.now += 1.0


async def show(server: Server, memory: Memory, world: World) -> bool:
    """One look ten seconds after the last."""
    world.now += INTERVAL
    seen = world.observe()
    decision = replace(decide(seen), deployment=None)
    owner = Owner("ml", "triage", "u")
    given = Given(
        now=world.now, epoch=1, serving_image="", checkpoint_interval=60.0, stale_after=30.0, reading=None
    )
    world.test = decision.analysis or world.test
    recorder = Recorder(cast("Any", server), lambda: None)
    return await recorder.show(seen, decision, Snapshot(owner, server.obj, None), memory, given)


async def test_numbers_of_an_open_attempt_are_written_once_a_checkpoint(canary: World) -> None:
    server, memory = Server(), Memory()
    written = [await show(server, memory, canary) for _ in range(19)]
    assert written == [number % 6 == 0 for number in range(19)]
    assert server.obj["status"]["canary"].items() >= POINTER.items()


async def test_what_is_no_number_is_written_at_once(canary: World) -> None:
    server, memory = Server(), Memory()
    assert await show(server, memory, canary)
    assert not await show(server, memory, canary)
    canary.paused = True
    assert await show(server, memory, canary)
    assert server.obj["status"]["paused"]


async def test_a_new_process_that_has_not_looked_yet_says_of_the_scraping_what_the_last_one_said(
    canary: World,
) -> None:
    server = Server()
    await show(
        server, Memory(telemetry=Telemetry("True", "Scraped", "Prometheus scrapes all 2 pods")), canary
    )
    assert await show(server, Memory(), canary)
    (shown,) = [c for c in server.obj["status"]["conditions"] if c["type"] == "TelemetryReady"]
    assert (shown["status"], shown["reason"]) == ("True", "Scraped")
