"""A request leaves nothing in memory: no history, no trace, and no more in the LM cache than it may hold."""

import gc
import itertools
import sys

from tests.provider.icl_lm import Provider, run_provider
from tests.unit.serving.harness import ask, run
from tests.unit.serving.worlds import World

from dspy_server import lifecycle

ROUNDS, REQUESTS = 4, 250
STORY = "a long story about an invoice " * 270


async def test_requests_of_8_kilobytes_leave_nothing_in_memory(world: World) -> None:
    world.write_table(world.route(0, 100, "stable"))
    config = {"serving": {"cache": {"lmMemoryEntries": 20}}}
    with run_provider(Provider()) as url:
        async with run(world, url, config) as (_, client):

            async def answer(first: int) -> int:
                for number in range(first, first + REQUESTS):
                    answered = await ask(client, f"{number} {STORY}")
                    assert (answered.status_code, answered.json()["meta"]["model"]) == (200, "openai/icl-100")
                gc.collect()
                return sys.getallocatedblocks()

            blocks = [await answer(index * REQUESTS) for index in range(ROUNDS)]
    assert len(STORY) > 8000
    # Some hundred objects come and go, however many requests lie between: what is kept of each shows in every round.
    assert min(after - before for before, after in itertools.pairwise(blocks)) < REQUESTS / 2


def test_what_is_here_to_stay_is_not_looked_through_again() -> None:
    before = gc.get_threshold()
    try:
        lifecycle.freeze()
        seen = len(gc.get_objects())
        assert gc.get_freeze_count() > 20 * seen
        assert gc.get_threshold() == (lifecycle.COLLECT_AFTER, 10, 10)
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
