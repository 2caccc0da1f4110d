"""Tables that change under load: a request ends with what it began with, and nothing is lost or kept."""

import asyncio
import gc
import sys
from collections import Counter

import httpx
from tests.provider.icl_lm import Fault, Provider, run_provider
from tests.unit.serving.harness import ask, build_lm, run
from tests.unit.serving.programs import TwoStep
from tests.unit.serving.test_metrics import get, scrape
from tests.unit.serving.worlds import World, build_demos, dump_program, list_users, until

from dspy_server.server import Server
from dspy_server.snapshot import RouteKeeper

QUEUES = {"rev0": "billing", "rev1": "shipping"}
BOTH = ("rev0", "rev1")
WIDE = {"serving": {"limits": {"concurrency": 200}}}


def fill_slots(world: World) -> None:
    for slot, queue in enumerate(QUEUES.values()):
        program = TwoStep()
        for predictor in (program.first, program.second):
            predictor.demos = build_demos(queue, 2)
        world.fill_slot(slot, dump_program(program, world.root))


def split(world: World, weight: int) -> None:
    module = "tests.unit.serving.programs:TwoStep"
    world.write_table(
        world.route(0, 100 - weight, "stable", module=module), world.route(1, weight, "canary", module=module)
    )


async def test_200_requests_in_flight_see_one_revision_each(world: World) -> None:
    """Each asks its LM twice while the split goes from 50 to 100, to 0, and on."""
    fill_slots(world)
    split(world, 50)
    with run_provider(Provider(faults={"icl-100": Fault(delay=0.4)})) as url:
        config = WIDE | build_lm(url, "openai/icl-100", timeout="2m")
        async with run(world, url, config, wait_for=BOTH) as (server, client):
            asking = asyncio.gather(*(ask(client, X_User_Id=user) for user in list_users(200)))
            await until(lambda: count_inflight(server) == 200)
            changes = 0
            while not asking.done():
                split(world, (100, 0, 50, 10)[changes % 4])
                server.keeper.poll()
                changes += 1
                await asyncio.sleep(0.03)
            answers = [response.json() for response in await asking]
            metrics = scrape(server.metrics)
    assert changes > 20
    seen = Counter(answer["meta"]["revision"] for answer in answers)
    assert min(seen[revision] for revision in BOTH) > 50, seen
    for answer in answers:
        expected = QUEUES[answer["meta"]["revision"]]
        assert answer["outputs"] == {"queue": expected, "again": expected}
    for revision, count in seen.items():
        calls = get(metrics, "dspy_requests_total", revision=revision, model="openai/icl-100", status="ok")
        assert calls == 2 * count


def count_inflight(server: Server) -> float:
    metrics = scrape(server.metrics)
    return sum(get(metrics, "dspy_inflight", revision=revision) for revision in BOTH)


async def test_a_thousand_tables_under_load_lose_no_request_and_leave_nothing_in_memory(
    world: World, base_url: str
) -> None:
    world.split(50)
    async with run(world, base_url, wait_for=BOTH) as (server, client):
        await change_tables(world, server.keeper, client, 300)
        before = count_blocks()
        statuses = await change_tables(world, server.keeper, client, 1000)
        kept = count_blocks() - before
        view = server.keeper.get_view()
    assert set(statuses) == {200}
    assert statuses[200] > 200
    assert view.generation == world.generation
    assert kept < 500, "one object kept of each table would be 1,000"


async def change_tables(
    world: World, keeper: RouteKeeper, client: httpx.AsyncClient, count: int
) -> Counter[int]:
    """So many tables, each in force at once, while four clients ask; what they were answered."""
    statuses: Counter[int] = Counter()
    changing = True

    async def load(number: int) -> None:
        while changing:
            response = await ask(client, X_User_Id=f"user-{number}-{len(statuses)}")
            statuses[response.status_code] += 1

    clients = [asyncio.create_task(load(number)) for number in range(4)]
    for number in range(count):
        world.split(number % 101)
        keeper.poll()
        assert keeper.get_view().generation == world.generation
        await asyncio.sleep(0)
    changing = False
    await asyncio.gather(*clients)
    return statuses


def count_blocks() -> int:
    gc.collect()
    return sys.getallocatedblocks()
