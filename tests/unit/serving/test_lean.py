"""A request leaves nothing in memory: no history, no trace, and no more in the LM cache than it may hold."""

import gc
import sys

from tests.provider.icl_lm import Provider, run_provider
from tests.unit.serving.harness import ask, run
from tests.unit.serving.worlds import World

WARM, REQUESTS = 200, 400
STORY = "a long story about an invoice " * 270


async def test_requests_of_8_kilobytes_leave_nothing_in_memory(world: World) -> None:
    world.write_table(world.route(0, 100, "stable"))
    config = {"serving": {"cache": {"lmMemoryEntries": 20}}}
    with run_provider(Provider()) as url:
        async with run(world, url, config) as (_, client):

            async def answer(first: int, count: int) -> int:
                for number in range(first, first + count):
                    answered = await ask(client, f"{number} {STORY}")
                    assert (answered.status_code, answered.json()["meta"]["cache"]) == (200, "miss")
                gc.collect()
                return sys.getallocatedblocks()

            before = await answer(0, WARM)
            after = await answer(WARM, REQUESTS)
    assert len(STORY) > 8000
    assert after - before < REQUESTS / 2  # one object kept of each would be twice that
