"""Routes whose program lies elsewhere: the keeper fetches, says at once what is final, and never delays weights."""

import asyncio
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.unit.serving.worlds import WORKLOAD, Clock, World, get_stub_adapter, refresh_volume, until

from dspy_server import snapshot as snapshot_module
from dspy_server.contract import REFERENCE_KEY, ProgramState, RouteError, Track
from dspy_server.errors import DigestError, ForbiddenSourceError, LoadError, SourceError
from dspy_server.metrics import Metrics
from dspy_server.program import Program, load_program
from dspy_server.routes import Route
from dspy_server.slots import read_slot
from dspy_server.snapshot import KeeperConfig, RouteKeeper

URI = "https://models.example.com/triage.json"


@dataclass
class Remote:
    """Sources that a test fills, and who asked; `gate` keeps askers waiting."""

    answers: dict[str, bytes | LoadError] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def fetch(self, uri: str) -> bytes:
        self.asked.append(uri)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(uri)
            raise
        answer = self.answers[uri]
        if isinstance(answer, LoadError):
            raise answer
        return answer


@pytest.fixture
def remote() -> Remote:
    remote = Remote()
    remote.gate.set()
    return remote


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_module, "FETCH_PAUSES", (0.001, 0.001, 3600))


@pytest.fixture
def keeper(world: World, remote: Remote, clock: Clock) -> RouteKeeper:
    def load(data: bytes, route: Route) -> Program:
        return load_program(
            data,
            revision=route.revision,
            sha256=route.sha256,
            module=route.module,
            adapter=get_stub_adapter(),
        )

    config = KeeperConfig(world.routes_file, world.programs_root, WORKLOAD, 120.0)
    return RouteKeeper(config, load, remote.fetch, Metrics("triage"), clock)


def split(world: World, weight: int, uri: str = URI, **changes: Any) -> None:
    stable = world.route(0, 100 - weight, Track.STABLE)
    world.write_table(stable, world.route(1, weight, Track.CANARY, path=uri, **changes))


async def see(keeper: RouteKeeper, condition: Callable[[], bool]) -> None:
    def poll() -> bool:
        keeper.poll()
        return condition()

    await until(poll)


def get_canary(keeper: RouteKeeper) -> ProgramState | None:
    return keeper.get_states().get("rev1")


async def test_a_remote_program_serves(keeper: RouteKeeper, world: World, remote: Remote) -> None:
    remote.answers[URI] = world.slot_path(1).read_bytes()
    split(world, 50)
    await see(keeper, lambda: keeper.current is not None and len(keeper.current.programs) == 2)
    assert get_canary(keeper) is ProgramState.LOADED
    assert remote.asked == [URI]


async def test_weights_do_not_wait_for_a_fetch(keeper: RouteKeeper, world: World, remote: Remote) -> None:
    remote.gate.clear()
    split(world, 10)
    await see(keeper, lambda: keeper.current is not None and bool(remote.asked))
    split(world, 50)
    keeper.poll()
    assert keeper.get_view().generation == 2
    assert get_canary(keeper) is ProgramState.WAITING
    assert remote.asked == [URI]


async def test_a_newer_table_ends_a_fetch_that_nobody_wants(
    keeper: RouteKeeper, world: World, remote: Remote
) -> None:
    remote.gate.clear()
    split(world, 10)
    await see(keeper, lambda: bool(remote.asked))
    world.write_table(world.route(0, 100, Track.STABLE))
    await see(keeper, lambda: remote.cancelled == [URI])
    assert get_canary(keeper) is None


async def test_another_place_of_the_same_program_is_asked_instead(
    keeper: RouteKeeper, world: World, remote: Remote
) -> None:
    other = "s3://models/triage.json"
    remote.answers |= {URI: ForbiddenSourceError("down"), other: world.slot_path(1).read_bytes()}
    split(world, 10)
    await see(keeper, lambda: get_canary(keeper) is ProgramState.DIGEST)
    split(world, 20, other)
    await see(keeper, lambda: get_canary(keeper) is ProgramState.LOADED)


async def test_a_source_that_is_down_is_said_at_once_and_waited_for_without_an_end(
    keeper: RouteKeeper, world: World, remote: Remote, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_module, "FETCH_PAUSES", (0.001,))
    remote.answers[URI] = SourceError("the server answers 503")
    split(world, 50)
    await see(keeper, lambda: bool(keeper.get_reasons()))
    clock.now += 3600
    await see(keeper, lambda: len(remote.asked) > 5)
    assert get_canary(keeper) is ProgramState.WAITING
    assert keeper.get_reasons()["rev1"] == ("the server answers 503",)
    assert keeper.metrics.route_errors.labels("triage", "rev1", RouteError.FETCH)._value.get() == 1
    remote.answers[URI] = world.slot_path(1).read_bytes()
    await see(keeper, lambda: get_canary(keeper) is ProgramState.LOADED)
    assert keeper.get_reasons() == {}


async def test_a_place_that_was_refused_and_is_away_now_is_waited_for(
    keeper: RouteKeeper, world: World, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_module, "FETCH_PAUSES", (0.001,))
    remote.answers[URI] = ForbiddenSourceError("no")
    split(world, 50)
    await see(keeper, lambda: get_canary(keeper) is ProgramState.DIGEST)
    remote.answers[URI] = SourceError("the server answers 503")
    await see(keeper, lambda: get_canary(keeper) is ProgramState.WAITING)
    assert keeper.get_reasons()["rev1"] == ("the server answers 503",)


async def test_a_source_that_stays_away_is_asked_at_the_given_distances_and_then_at_the_last(
    keeper: RouteKeeper, world: World, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_module, "FETCH_PAUSES", (0, 0, 0.2))
    remote.answers[URI] = SourceError("the server answers 404")
    split(world, 50)
    await see(keeper, lambda: bool(keeper.get_reasons()))
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(remote.asked) == 3
    began = asyncio.get_running_loop().time()
    await see(keeper, lambda: len(remote.asked) == 5)
    assert asyncio.get_running_loop().time() - began > 0.2


def refer(world: World, slot: int, sha256: str, uri: str = URI) -> None:
    """What the operator puts into a slot for an artifact with a URI."""
    folder = world.slot_path(slot).parent
    shutil.rmtree(folder, ignore_errors=True)
    refresh_volume(folder, {REFERENCE_KEY: json.dumps({"sha256": sha256, "uri": uri}).encode()})


async def test_a_slot_may_refer_to_where_its_program_lies(
    keeper: RouteKeeper, world: World, remote: Remote
) -> None:
    remote.answers[URI] = world.slot_path(1).read_bytes()
    refer(world, 1, world.shas[1])
    world.split(50)
    await see(keeper, lambda: get_canary(keeper) is ProgramState.LOADED)
    assert remote.asked == [URI]


async def test_a_slot_that_still_refers_to_another_program_is_waited_for(
    keeper: RouteKeeper, world: World, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_module, "SLOT_POLL_SECONDS", 0.001)
    remote.answers[URI] = world.slot_path(1).read_bytes()
    refer(world, 1, "0" * 64, "https://old.example.com/p.json")
    world.split(50)
    await see(keeper, lambda: keeper.current is not None)
    assert (get_canary(keeper), remote.asked) == (ProgramState.WAITING, [])
    refer(world, 1, world.shas[1])
    await see(keeper, lambda: get_canary(keeper) is ProgramState.LOADED)


async def test_a_corrected_reference_is_followed_without_a_new_table(
    keeper: RouteKeeper, world: World, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_module, "FETCH_PAUSES", (0.001,))
    remote.answers |= {URI: world.slot_path(1).read_bytes(), "s3://typo/p": ForbiddenSourceError("no")}
    refer(world, 1, world.shas[1], "s3://typo/p")
    world.split(50)
    await see(keeper, lambda: get_canary(keeper) is ProgramState.DIGEST)
    refer(world, 1, world.shas[1])
    await see(keeper, lambda: get_canary(keeper) is ProgramState.LOADED)


@pytest.mark.parametrize("data", [b"", b"[]", b'{"uri": "s3://a/b"}', b"[" * 5000])
def test_what_is_no_reference_is_an_error(data: bytes, tmp_path: Path) -> None:
    (tmp_path / REFERENCE_KEY).write_bytes(data)
    with pytest.raises(SourceError, match="names no program"):
        read_slot(tmp_path / "program.json")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ForbiddenSourceError("loopback"), RouteError.FETCH),
        (DigestError("the layer"), RouteError.DIGEST),
    ],
)
async def test_what_another_try_cannot_change_is_refused_at_once(
    error: LoadError, reason: RouteError, keeper: RouteKeeper, world: World, remote: Remote
) -> None:
    remote.answers[URI] = error
    split(world, 50)
    await see(keeper, lambda: get_canary(keeper) is ProgramState.DIGEST)
    assert len(remote.asked) == 1
    assert keeper.get_reasons()["rev1"] == error.reasons
    assert keeper.metrics.route_errors.labels("triage", "rev1", reason)._value.get() == 1
    await see(keeper, lambda: keeper.current is not None)
    assert keeper.current is not None
    assert sorted(keeper.current.programs) == ["rev0"]


async def test_other_bytes_than_the_table_says_are_refused_at_once(
    keeper: RouteKeeper, world: World, remote: Remote
) -> None:
    remote.answers[URI] = b"{}"
    split(world, 50)
    await see(keeper, lambda: get_canary(keeper) is ProgramState.DIGEST)
    assert len(remote.asked) == 1
    assert world.shas[1] in keeper.get_reasons()["rev1"][0]
