import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.serving.worlds import (
    WORKLOAD,
    Clock,
    World,
    build_artifact,
    get_stub_adapter,
    list_users,
    until,
)

from dspy_server import snapshot as snapshot_module
from dspy_server.contract import ProgramState, RouteError, ScoreSource
from dspy_server.errors import ModuleError
from dspy_server.fetch import Fetcher
from dspy_server.metrics import Metrics
from dspy_server.program import Program, load_program
from dspy_server.routes import Route
from dspy_server.snapshot import KeeperConfig, RouteKeeper


def load(data: bytes, route: Route) -> Program:
    return load_program(
        data, revision=route.revision, sha256=route.sha256, module=route.module, adapter=get_stub_adapter()
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def quick_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_module, "SLOT_POLL_SECONDS", 0.001)
    monkeypatch.setattr(snapshot_module, "LATE_SLOT_POLL_SECONDS", 0.001)


def build_keeper(world: World, clock: Clock, workload: str = WORKLOAD, loader: Any = load) -> RouteKeeper:
    config = KeeperConfig(world.routes_file, world.programs_root, workload, 120.0, (ScoreSource.METRIC,))
    return RouteKeeper(config, loader, Fetcher(world.root / "pull").fetch, Metrics("triage"), clock)


@pytest.fixture
def keeper(world: World, clock: Clock) -> RouteKeeper:
    return build_keeper(world, clock)


def loaded(keeper: RouteKeeper) -> list[str]:
    return [] if keeper.current is None else sorted(keeper.current.programs)


def get_errors(keeper: RouteKeeper, reason: RouteError, revision: str = "") -> float:
    return float(keeper.metrics.route_errors.labels("triage", revision, reason)._value.get())


async def settle(keeper: RouteKeeper, *revisions: str) -> None:
    """Poll until exactly these revisions serve."""

    def has_settled() -> bool:
        keeper.poll()
        return loaded(keeper) == sorted(revisions)

    await until(has_settled)


async def test_without_a_table_nothing_serves_and_nothing_is_an_error(keeper: RouteKeeper) -> None:
    keeper.poll()
    assert keeper.current is None
    assert keeper.error == ""


async def test_a_table_splits_its_users_by_weight(keeper: RouteKeeper, world: World) -> None:
    world.split(10)
    await settle(keeper, "rev0", "rev1")
    assert keeper.current is not None
    chosen = [keeper.current.choose(user).route.revision for user in list_users(2000)]
    assert 150 <= chosen.count("rev1") <= 250


async def test_a_weight_of_100_sends_everybody_to_the_canary(keeper: RouteKeeper, world: World) -> None:
    world.split(100)
    await settle(keeper, "rev0", "rev1")
    assert keeper.current is not None
    assert {keeper.current.choose(user).route.revision for user in list_users(200)} == {"rev1"}


async def test_new_weights_of_loaded_programs_apply_in_the_same_poll(
    keeper: RouteKeeper, world: World
) -> None:
    world.split(10)
    await settle(keeper, "rev0", "rev1")
    world.split(50)
    keeper.poll()
    assert keeper.get_view().generation == 2
    assert keeper.get_view().weights == (("rev0", "stable", 50), ("rev1", "canary", 50))


async def test_stable_serves_while_the_canary_still_waits_for_its_slot(
    keeper: RouteKeeper, world: World, tmp_path: Path
) -> None:
    data = build_artifact(tmp_path, "account")
    world.shas[1] = world.fill_slot(2, data)
    world.split(50)
    await settle(keeper, "rev0")
    assert keeper.get_states() == {"rev0": ProgramState.LOADED, "rev1": ProgramState.WAITING}
    assert keeper.current is not None
    choices = [keeper.current.choose(user) for user in list_users(100)]
    assert {choice.route.revision for choice in choices} == {"rev0"}
    assert 25 <= sum(choice.instead_of == "rev1" for choice in choices) <= 75
    world.fill_slot(1, data)
    await settle(keeper, "rev0", "rev1")
    assert keeper.get_view().generation == 1


async def test_a_slot_that_stays_wrong_becomes_a_digest_mismatch_and_still_heals(
    keeper: RouteKeeper, world: World, tmp_path: Path, clock: Clock
) -> None:
    data = build_artifact(tmp_path, "account")
    world.shas[1] = world.fill_slot(2, data)
    world.split(50)
    await settle(keeper, "rev0")
    clock.now += 121
    await until(lambda: keeper.get_states()["rev1"] is ProgramState.DIGEST)
    assert get_errors(keeper, RouteError.DIGEST, "rev1") == 1
    assert "sha256" in keeper.get_reasons()["rev1"][0]
    world.fill_slot(1, data)
    await settle(keeper, "rev0", "rev1")
    assert keeper.get_reasons() == {}


async def test_a_missing_slot_is_waited_for(keeper: RouteKeeper, world: World) -> None:
    world.write_table(world.route(2, 100, "stable", sha256="0" * 64))
    keeper.poll()
    await asyncio.sleep(0.01)
    assert keeper.get_states() == {"rev2": ProgramState.WAITING}
    assert keeper.current is None


@pytest.mark.parametrize(
    ("slot_data", "module", "state", "reason"),
    [
        (b'{"not": "a program"}', None, ProgramState.REFUSED, RouteError.REFUSED),
        (None, "tests.unit.serving.programs:Other", ProgramState.SIGNATURE, RouteError.REFUSED),
        (None, "tests.unit.serving.programs:Missing", ProgramState.MODULE, RouteError.MODULE),
        (None, "no_such_module:Triage", ProgramState.MODULE, RouteError.MODULE),
        (None, "tests.unit.serving.programs:Broken", ProgramState.MODULE, RouteError.MODULE),
        (None, "tests.unit.serving.programs:NOT_A_PROGRAM", ProgramState.MODULE, RouteError.MODULE),
    ],
)
async def test_a_canary_that_cannot_be_loaded_gets_no_request(
    keeper: RouteKeeper,
    world: World,
    slot_data: bytes | None,
    module: str | None,
    state: ProgramState,
    reason: RouteError,
) -> None:
    if slot_data is not None:
        world.fill_slot(1, slot_data)
    changes = {} if module is None else {"module": module}
    world.write_table(world.route(0, 50, "stable"), world.route(1, 50, "canary", **changes))
    keeper.poll()
    await until(lambda: keeper.get_states()["rev1"] is state)
    await settle(keeper, "rev0")
    assert get_errors(keeper, reason, "rev1") == 1
    assert keeper.get_reasons()["rev1"]
    assert keeper.current is not None
    assert {keeper.current.choose(user).route.revision for user in list_users(50)} == {"rev0"}


async def test_a_new_stable_that_cannot_be_loaded_leaves_the_old_table_in_force(
    keeper: RouteKeeper, world: World
) -> None:
    world.write_table(world.route(0, 100, "stable"))
    await settle(keeper, "rev0")
    world.fill_slot(1, b"{}")
    world.write_table(world.route(1, 100, "stable"))
    keeper.poll()
    await until(lambda: keeper.get_states()["rev1"] is ProgramState.REFUSED)
    assert (loaded(keeper), keeper.get_view().generation, keeper.seen_generation) == (["rev0"], 1, 2)


@pytest.mark.parametrize("data", [b"{", b"", b'{"generation": 9}'])
async def test_a_broken_table_leaves_the_old_one_in_force(
    keeper: RouteKeeper, world: World, data: bytes
) -> None:
    world.write_table(world.route(0, 100, "stable"))
    await settle(keeper, "rev0")
    world.write_raw(data)
    keeper.poll()
    assert (loaded(keeper), keeper.get_view().generation) == (["rev0"], 1)
    assert keeper.error
    assert get_errors(keeper, RouteError.TABLE) == 1
    world.split(10)
    await settle(keeper, "rev0", "rev1")
    assert keeper.error == ""


async def test_an_unknown_key_is_refused_and_not_ignored(keeper: RouteKeeper, world: World) -> None:
    world.write_table(world.route(0, 100, "stable", region="eu"))
    keeper.poll()
    assert "region" in keeper.error


async def test_an_older_table_is_refused(keeper: RouteKeeper, world: World) -> None:
    world.generation = 4
    world.split(10)
    await settle(keeper, "rev0", "rev1")
    world.generation = 3
    world.write_table(world.route(0, 100, "stable"), generation=4)
    keeper.poll()
    assert "not newer" in keeper.error
    assert keeper.get_view().weights[1] == ("rev1", "canary", 10)


async def test_the_same_table_again_is_no_error(keeper: RouteKeeper, world: World) -> None:
    world.split(10)
    await settle(keeper, "rev0", "rev1")
    world.write_raw(world.routes_file.read_bytes())
    keeper.poll()
    assert keeper.error == ""
    assert get_errors(keeper, RouteError.TABLE) == 0


async def test_a_plain_file_is_watched_too(world: World, clock: Clock, tmp_path: Path) -> None:
    table = tmp_path / "plain.json"
    world.split(10)
    table.write_bytes(world.routes_file.read_bytes())
    config = KeeperConfig(table, world.programs_root, WORKLOAD, 120.0)
    keeper = RouteKeeper(config, load, Fetcher(tmp_path).fetch, Metrics("triage"), clock)
    await settle(keeper, "rev0", "rev1")
    value = json.loads(table.read_bytes())
    table.write_text(json.dumps({**value, "generation": 22}))
    keeper.poll()
    assert keeper.get_view().generation == 22


async def test_a_table_that_vanishes_changes_nothing(keeper: RouteKeeper, world: World) -> None:
    world.split(10)
    await settle(keeper, "rev0", "rev1")
    (world.routes_file.parent / "..data").unlink()
    keeper.poll()
    assert loaded(keeper) == ["rev0", "rev1"]
    assert keeper.error == ""


async def test_a_pod_serves_its_workload_only(world: World, clock: Clock) -> None:
    world.write_table(world.route(0, 90, "stable"), world.route(1, 10, "canary", workload="bbbbbbbb"))
    stable, canary, third = (build_keeper(world, clock, name) for name in (WORKLOAD, "bbbbbbbb", "cccccccc"))
    await settle(stable, "rev0")
    await settle(canary, "rev1")
    third.poll()
    assert stable.current is not None
    assert canary.current is not None
    assert {stable.current.choose(user).route.revision for user in list_users(50)} == {"rev0"}
    assert {canary.current.choose(user).route.revision for user in list_users(50)} == {"rev1"}
    assert third.current is None


async def test_a_table_without_the_pods_workload_advances_the_generation_and_keeps_the_programs(
    keeper: RouteKeeper, world: World
) -> None:
    world.write_table(world.route(0, 100, "stable"))
    await settle(keeper, "rev0")
    world.write_table(world.route(1, 100, "stable", workload="bbbbbbbb"))
    keeper.poll()
    assert (loaded(keeper), keeper.get_view().generation) == (["rev0"], 2)


async def test_a_rollback_does_not_wait_for_a_load(world: World, clock: Clock) -> None:
    release = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(data: bytes, route: Route) -> Program:
        if route.revision == "rev1":
            asyncio.run_coroutine_threadsafe(wait(release), loop).result(10)
        return load(data, route)

    async def wait(event: asyncio.Event) -> None:
        await event.wait()

    keeper = build_keeper(world, clock, loader=slow)
    world.split(10)
    await settle(keeper, "rev0")
    await until(lambda: keeper.get_states()["rev1"] is ProgramState.LOADING)
    world.write_table(world.route(0, 100, "stable"))
    keeper.poll()
    assert keeper.get_view().generation == 2
    abandoned = [task for task in asyncio.all_tasks() if task.get_name() == "load-rev1"]
    release.set()
    await asyncio.wait(abandoned, timeout=10)
    assert [task.cancelled() for task in abandoned] == [True]
    assert keeper.get_states() == {"rev0": ProgramState.LOADED}
    assert keeper.metrics.list_revisions() == ["rev0"]


async def test_a_dropped_program_stays_warm_for_ten_minutes(
    keeper: RouteKeeper, world: World, clock: Clock
) -> None:
    world.split(10)
    await settle(keeper, "rev0", "rev1")
    world.write_table(world.route(0, 100, "stable"))
    keeper.poll()
    clock.now += 599
    world.split(10)
    keeper.poll()
    assert loaded(keeper) == ["rev0", "rev1"]
    world.write_table(world.route(0, 100, "stable"))
    keeper.poll()
    clock.now += 601
    keeper.poll()
    assert keeper.get_states() == {"rev0": ProgramState.LOADED}
    clock.now += 1801
    keeper.poll()
    assert keeper.metrics.list_revisions() == ["rev0"]


async def test_at_most_four_programs_stay_in_memory(
    keeper: RouteKeeper, world: World, tmp_path: Path, clock: Clock
) -> None:
    for number in range(7):
        clock.now += 1
        world.fill_slot(1, build_artifact(tmp_path, "account", count=number + 3))
        world.write_table(
            world.route(0, 90, "stable"), world.route(1, 10, "canary", revision=f"canary{number}")
        )
        await settle(keeper, "rev0", f"canary{number}")
    keeper.poll()
    assert sorted(keeper.get_states()) == ["canary4", "canary5", "canary6", "rev0"]


async def test_a_loader_that_raises_anything_refuses_the_program(world: World, clock: Clock) -> None:
    def explode(_data: bytes, _route: Route) -> Program:
        raise ZeroDivisionError

    keeper = build_keeper(world, clock, loader=explode)
    world.write_table(world.route(0, 100, "stable"))
    keeper.poll()
    await until(lambda: keeper.get_states()["rev0"] is ProgramState.REFUSED)
    assert get_errors(keeper, RouteError.WARMUP, "rev0") == 1


async def test_a_thousand_swaps_never_leave_a_request_without_a_program(
    keeper: RouteKeeper, world: World
) -> None:
    world.split(50)
    await settle(keeper, "rev0", "rev1")
    answered: dict[str, int] = {"rev0": 0, "rev1": 0}
    stop = asyncio.Event()

    async def ask() -> None:
        for number in range(10**9):
            if stop.is_set():
                return
            assert keeper.current is not None
            choice = keeper.current.choose(f"user-{number}")
            await asyncio.sleep(0)
            assert choice.program.revision == choice.route.revision
            answered[choice.route.revision] += 1

    askers = [asyncio.create_task(ask()) for _ in range(4)]
    for number in range(1000):
        world.split(number % 101)
        keeper.poll()
        assert keeper.get_view().generation == world.generation
        await asyncio.sleep(0)
    stop.set()
    await asyncio.gather(*askers)
    assert min(answered.values()) > 100


async def test_a_refused_canary_is_loaded_no_second_time_by_the_next_weights(
    world: World, clock: Clock
) -> None:
    loads: list[str] = []

    def count(data: bytes, route: Route) -> Program:
        loads.append(route.revision)
        if route.revision == "rev1":
            raise ModuleError("no")
        return load(data, route)

    keeper = build_keeper(world, clock, loader=count)
    world.split(10)
    keeper.poll()
    await until(lambda: keeper.get_states()["rev1"] is ProgramState.MODULE)
    world.split(20)
    await settle(keeper, "rev0")
    assert keeper.get_view().generation == 2
    assert sorted(loads) == ["rev0", "rev1"]
