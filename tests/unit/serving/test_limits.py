"""What a pod takes when it is asked for ten times what it can do."""

import asyncio
import contextlib
import gc
import itertools
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from tests.provider.icl_lm import Fault, Provider, run_provider
from tests.unit.serving.harness import ask, run
from tests.unit.serving.test_metrics import get, scrape
from tests.unit.serving.virtual import run_virtually
from tests.unit.serving.worlds import Clock, World, until

from dspy_server.limits import Admission, Bucket, QueueFullError

SLOTS, PATIENCE, SECONDS = 4, 3.0, 120


@dataclass
class Load:
    """Requests of one second's work each (0.5 to 1.5 s), so many a second; virtual time."""

    per_second: int
    answered: int = 0
    refused: int = 0
    late: int = 0
    retry_after: list[float] = field(default_factory=list)
    most_tasks: int = 0

    async def run(self, queue: int) -> None:
        loop = asyncio.get_running_loop()
        admission = Admission(SLOTS, queue, loop.time)
        work = itertools.cycle((0.5, 1.5, 0.8, 1.2, 1.0))
        async with asyncio.TaskGroup() as group:
            while loop.time() < SECONDS:
                group.create_task(self._request(admission, next(work)))
                self.most_tasks = max(self.most_tasks, len(asyncio.all_tasks()))
                await asyncio.sleep(1 / self.per_second)

    async def _request(self, admission: Admission, seconds: float) -> None:
        deadline = asyncio.get_running_loop().time() + PATIENCE
        try:
            async with asyncio.timeout(PATIENCE), admission.slot(deadline):
                await asyncio.sleep(seconds)
            self.answered += 1
        except QueueFullError as exc:
            self.refused += 1
            self.retry_after.append(exc.retry_after)
        except TimeoutError:
            self.late += 1


@pytest.mark.parametrize("queue", [0, 8, 128, 10_000])
def test_ten_times_the_load_keeps_nine_tenths_of_the_answers_whatever_the_queue(queue: int) -> None:
    load = Load(per_second=10 * SLOTS)
    run_virtually(load.run(queue))
    assert load.answered >= 0.9 * SLOTS * SECONDS
    assert load.late <= 0.1 * load.answered
    assert load.most_tasks < SLOTS + 3 * SLOTS + 20
    assert max(load.retry_after) <= PATIENCE


def test_less_load_than_it_can_do_is_never_refused() -> None:
    load = Load(per_second=SLOTS - 1)
    run_virtually(load.run(8))
    assert (load.refused, load.late) == (0, 0)


def test_the_queue_is_bounded_before_anything_is_known_about_the_work() -> None:
    async def main() -> tuple[int, int]:
        admission = Admission(2, 3, asyncio.get_running_loop().time)

        async def hold() -> None:
            async with admission.slot(60.0):
                await asyncio.sleep(1)

        results = await asyncio.gather(*(hold() for _ in range(10)), return_exceptions=True)
        return results.count(None), sum(isinstance(item, QueueFullError) for item in results)

    assert run_virtually(main()) == (5, 5)


def test_work_that_was_cut_off_is_not_taken_for_quick_work() -> None:
    async def main() -> float:
        admission = Admission(1, 1, asyncio.get_running_loop().time)
        for seconds, patience in [(1.0, 60.0), *[(1.0, 0.1)] * 20]:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience), admission.slot(1e9):
                    await asyncio.sleep(seconds)
        return admission._held

    assert run_virtually(main()) == 1.0


def test_one_who_leaves_the_queue_leaves_room() -> None:
    async def main() -> None:
        admission = Admission(1, 1, asyncio.get_running_loop().time)

        async def hold() -> None:
            async with admission.slot(60.0):
                await asyncio.sleep(1)

        first, second = asyncio.ensure_future(hold()), asyncio.ensure_future(hold())
        await asyncio.sleep(0.1)
        second.cancel()
        await asyncio.sleep(0.1)
        await asyncio.gather(first, hold())
        assert second.cancelled()

    run_virtually(main())


def test_a_bucket_refills_evenly_and_says_how_long_to_wait() -> None:
    bucket = Bucket(2.0, 2.0, 0.0)
    assert [bucket.take(0.0) for _ in range(3)] == [0, 0, 0.5]
    assert bucket.take(0.5) == 0
    assert [bucket.take(100.0) for _ in range(3)] == [0, 0, 0.5]


async def test_so_many_requests_a_second_and_no_more() -> None:
    clock = Clock()
    admission = Admission(100, 100, clock, rate=10)
    assert await count_admitted(admission, clock) == 10
    clock.now += 0.375
    assert await count_admitted(admission, clock) == 3


async def count_admitted(admission: Admission, clock: Callable[[], float]) -> int:
    admitted, pauses = 0, []
    for _ in range(30):
        try:
            async with admission.slot(clock() + 60):
                admitted += 1
        except QueueFullError as exc:
            pauses.append(exc.retry_after)
    assert 0 < min(pauses) <= max(pauses) <= 0.1
    return admitted


async def test_what_is_refused_leaves_nothing_in_memory(world: World) -> None:
    world.write_table(world.route(0, 100, "stable"))
    provider = Provider(faults={"icl-100": Fault(delay=3600)})
    config = {"serving": {"limits": {"concurrency": 1, "queue": 0}}}
    with run_provider(provider) as url:
        config["lm"] = {"primary": {"model": "openai/icl-100", "apiBase": f"{url}/v1"}, "timeout": "1h"}
        async with run(world, url, config) as (server, client):
            answering = asyncio.create_task(ask(client))
            await until(lambda: get(scrape(server.metrics), "dspy_inflight", revision="rev0") == 1)

            async def flood(count: int) -> int:
                for _ in range(count):
                    assert (await ask(client)).status_code == 429
                    await asyncio.sleep(0)  # without sockets nothing else lets the loop drop cancelled timers
                gc.collect()
                return sys.getallocatedblocks()

            before = await flood(500)
            after = await flood(1000)
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)
            assert get(scrape(server.metrics), "dspy_inflight", revision="rev0") == 0
    assert after - before < 500  # one object kept of each would be 1,000
