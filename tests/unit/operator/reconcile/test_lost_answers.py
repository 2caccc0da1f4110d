"""After a lost answer nothing is read or written before the epoch is higher; the worker outlives a Lease that fails."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from dspy_operator.errors import LostAnswer, Transient
from dspy_operator.reconcile.clock import ServerClock
from dspy_operator.reconcile.parts import Parts, Timing
from dspy_operator.reconcile.reconciler import Reconciler
from dspy_operator.reconcile.reporting import Reporter
from dspy_operator.reconcile.worklist import Key, Worklist
from dspy_operator.telemetry import Telemetry

KEY: Key = ("ml", "triage")


@dataclass
class World:
    """An API server that loses the first answer, then has nothing; a Lease whose first writes fail."""

    failures: list[Exception]
    done: list[str] = field(default_factory=list)
    calm: asyncio.Event = field(default_factory=asyncio.Event)
    epoch: int = 1

    async def find(self, _key: Key) -> None:
        self.done.append("pass")
        if len(self.done) == 1:
            raise LostAnswer("patch dspyrollouts/triage: no answer")
        self.calm.set()

    def is_valid(self) -> bool:
        return True

    async def raise_epoch(self) -> None:
        self.done.append("raise")
        if self.failures:
            raise self.failures.pop(0)

    def drop(self, _key: Key) -> None:
        """Nothing is read for it."""


async def work_until_calm(world: World) -> None:
    world_as: Any = world
    worklist = Worklist(asyncio.get_running_loop().time, jitter=lambda: 0.0)
    parts = Parts(
        reader=world_as,
        prometheus=world_as,
        sampler=world_as,
        recorder=world_as,
        executor=world_as,
        reporter=Reporter(world_as, Telemetry()),
        worklist=worklist,
        clock=ServerClock(asyncio.get_running_loop().time),
        leads=world_as,
        server_time=lambda: 1_800_000_000.0,
    )
    reconciler = Reconciler(parts, Timing(), "server:1")
    working = asyncio.create_task(reconciler.work())
    reconciler.note(KEY)
    async with asyncio.timeout(10):
        await asyncio.wait(
            [working, asyncio.create_task(world.calm.wait())], return_when=asyncio.FIRST_COMPLETED
        )
    assert not working.done()
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


async def test_the_epoch_is_raised_before_the_next_pass() -> None:
    world = World([])
    await work_until_calm(world)
    assert world.done == ["pass", "raise", "pass"]


async def test_a_lease_that_cannot_be_written_is_tried_again_and_nothing_is_done_before() -> None:
    world = World([LostAnswer("patch leases/dspy-operator: 500"), Transient("cannot reach the API server")])
    await work_until_calm(world)
    assert world.done == ["pass", "raise", "raise", "raise", "pass"]
