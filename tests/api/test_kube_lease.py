"""The elector against a real API server, with a clock of the test's own: nobody waits."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest

from dspy_operator.api.names import ANNOTATION_EPOCH
from dspy_operator.errors import Conflict
from dspy_operator.kube.client import Client
from dspy_operator.kube.lease import Elector, new_identity
from dspy_operator.kube.resources import LEASES

pytestmark = pytest.mark.api

NAMESPACE = "default"


@dataclass
class Clock:
    """Time that passes when somebody sleeps, and renewals that happen when the test says so."""

    now: float = 1000.0
    sleepers: list[asyncio.Event] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    async def wait_until_woken(self, _: float) -> None:
        gate = asyncio.Event()
        self.sleepers.append(gate)
        await gate.wait()

    async def pass_by(self, seconds: float) -> None:
        self.now += seconds

    async def wait_for_sleeper(self) -> None:
        for _ in range(100):
            if self.sleepers:
                return
            await asyncio.sleep(0.01)

    async def wake(self) -> None:
        """Let everyone who sleeps make one more attempt, and wait until they sleep again or end."""
        woken, self.sleepers = self.sleepers, []
        for gate in woken:
            gate.set()
        for _ in range(100):
            if len(self.sleepers) == len(woken):
                return
            await asyncio.sleep(0.01)


@dataclass
class Operator:
    """An elector, its clock, and how often it ended its process."""

    elector: Elector
    clock: Clock
    deaths: list[str]
    identity: str


@pytest.fixture
def lease_name() -> str:
    return f"lease-{uuid.uuid4().hex[:8]}"


@pytest.fixture
async def start(client: Client, lease_name: str) -> AsyncIterator[Callable[..., Operator]]:
    started: list[Operator] = []

    def start_one(*, waits_by_itself: bool = False, pod_uid: str = "") -> Operator:
        clock, deaths, identity = Clock(), [], new_identity(pod_uid)
        elector = Elector(
            client,
            NAMESPACE,
            lease_name,
            identity,
            pod_uid=pod_uid,
            die=lambda: deaths.append(identity),
            monotonic=clock.monotonic,
            sleep=clock.pass_by if waits_by_itself else clock.wait_until_woken,
        )
        started.append(Operator(elector, clock, deaths, identity))
        return started[-1]

    yield start_one
    for operator in started:
        await operator.elector.release()


async def read_epoch(client: Client, name: str) -> int:
    lease = await client.find(LEASES, NAMESPACE, name)
    assert lease is not None
    return int(lease["metadata"]["annotations"][ANNOTATION_EPOCH])


async def read_holder(client: Client, name: str) -> str:
    lease = await client.find(LEASES, NAMESPACE, name)
    assert lease is not None
    holder: str = lease["spec"]["holderIdentity"]
    return holder


async def test_the_first_one_creates_the_lease(
    client: Client, lease_name: str, start: Callable[..., Operator]
) -> None:
    first = start()
    assert not first.elector.is_valid()
    await first.elector.acquire()
    assert first.elector.is_valid()
    assert first.elector.epoch == 1
    assert await read_epoch(client, lease_name) == 1
    assert await read_holder(client, lease_name) == first.identity


async def test_a_lease_is_valid_only_until_its_deadline_and_renewal_prolongs_it(
    start: Callable[..., Operator],
) -> None:
    first = start()
    await first.elector.acquire()
    first.clock.now += 9.9
    assert first.elector.is_valid()
    await asyncio.sleep(0)
    await first.clock.wake()
    first.clock.now += 9.9
    assert first.elector.is_valid()
    first.clock.now += 0.2
    assert not first.elector.is_valid()
    assert first.elector.epoch == 1


async def test_a_silent_holder_is_taken_over_with_a_higher_epoch_and_then_dies(
    client: Client, lease_name: str, start: Callable[..., Operator]
) -> None:
    old = start()
    await old.elector.acquire()
    new = start(waits_by_itself=True)
    began = new.clock.now
    new_sleep = asyncio.create_task(new.elector.acquire())
    await asyncio.wait_for(new_sleep, 20)
    assert new.clock.now - began >= 15
    assert (new.elector.epoch, await read_epoch(client, lease_name)) == (2, 2)
    assert await read_holder(client, lease_name) == new.identity
    await old.clock.wake()
    assert set(old.deaths) == {old.identity}
    assert not old.elector.is_valid()


async def test_a_restarted_container_takes_the_lease_of_the_one_before_at_once(
    client: Client, lease_name: str, start: Callable[..., Operator]
) -> None:
    killed = start(pod_uid="uid-1")
    await killed.elector.acquire()
    again = start(pod_uid="uid-1", waits_by_itself=True)
    began = again.clock.now
    await again.elector.acquire()
    assert again.clock.now == began
    assert (again.elector.epoch, await read_epoch(client, lease_name)) == (2, 2)
    assert await read_holder(client, lease_name) == again.identity != killed.identity


@pytest.mark.parametrize(
    ("of_the_holder", "own"), [("uid-1", "uid-2"), ("uid-1", ""), ("", "uid-1"), ("", "")]
)
async def test_the_holder_of_another_pod_or_of_none_is_waited_for(
    start: Callable[..., Operator], of_the_holder: str, own: str
) -> None:
    killed = start(pod_uid=of_the_holder)
    await killed.elector.acquire()
    other = start(pod_uid=own, waits_by_itself=True)
    began = other.clock.now
    await other.elector.acquire()
    assert other.clock.now - began >= 15


async def test_a_holder_that_renews_is_not_taken_over(start: Callable[..., Operator]) -> None:
    old, new = start(), start()
    await old.elector.acquire()
    waiting = asyncio.create_task(new.elector.acquire())
    await new.clock.wait_for_sleeper()
    for _ in range(4):
        await old.clock.wake()
        new.clock.now += 10
        await new.clock.wake()
    assert not waiting.done()
    assert old.deaths == []
    waiting.cancel()


async def test_a_released_lease_is_taken_at_once(start: Callable[..., Operator]) -> None:
    old = start()
    await old.elector.acquire()
    await old.elector.release()
    assert not old.elector.is_valid()
    new = start(waits_by_itself=True)
    began = new.clock.now
    await new.elector.acquire()
    assert new.clock.now == began
    assert new.elector.epoch == 2


async def test_the_epoch_rises_above_what_was_met(
    client: Client, lease_name: str, start: Callable[..., Operator]
) -> None:
    first = start()
    await first.elector.acquire()
    await first.elector.raise_epoch()
    assert (first.elector.epoch, await read_epoch(client, lease_name)) == (2, 2)
    await first.elector.raise_epoch(above=40)
    assert (first.elector.epoch, await read_epoch(client, lease_name)) == (41, 41)


async def test_a_lease_deleted_by_hand_is_made_again_with_a_higher_epoch(
    client: Client, lease_name: str, start: Callable[..., Operator]
) -> None:
    first = start()
    await first.elector.acquire()
    lease = await client.find(LEASES, NAMESPACE, lease_name)
    assert lease is not None
    await client.delete(LEASES, NAMESPACE, lease_name, uid=lease["metadata"]["uid"])
    await asyncio.sleep(0)
    await first.clock.wake()
    assert await read_epoch(client, lease_name) == 2
    assert first.elector.epoch == 2
    assert first.deaths == []


async def test_a_lease_edited_by_hand_is_kept(
    client: Client, lease_name: str, start: Callable[..., Operator]
) -> None:
    first = start()
    await first.elector.acquire()
    await client.annotate(LEASES, NAMESPACE, lease_name, {"example.org/by-hand": "1"})
    await asyncio.sleep(0)
    await first.clock.wake()
    await first.clock.wake()
    await first.elector.raise_epoch()
    assert first.deaths == []
    assert await read_epoch(client, lease_name) == 2


async def test_a_raise_that_finds_another_holder_raises_nothing_and_dies(
    client: Client, lease_name: str, start: Callable[..., Operator]
) -> None:
    old = start()
    await old.elector.acquire()
    new = start(waits_by_itself=True)
    await new.elector.acquire()
    with pytest.raises(Conflict):
        await old.elector.raise_epoch()
    assert old.deaths == [old.identity]
    assert await read_epoch(client, lease_name) == 2


async def test_a_holder_that_cannot_renew_dies_at_its_deadline(start: Callable[..., Operator]) -> None:
    first = start()
    await first.elector.acquire()
    await asyncio.sleep(0)
    first.elector._version = "1"
    first.elector._name = "not-a-lease/../x"
    await first.clock.wake()
    assert first.deaths == []
    first.clock.now += 10.1
    woken, first.clock.sleepers = first.clock.sleepers, []
    woken[0].set()
    for _ in range(200):
        if first.deaths:
            break
        await asyncio.sleep(0.01)
    assert first.deaths == [first.identity]


async def test_a_nonsense_epoch_in_the_lease_does_no_harm(
    client: Client, lease_name: str, start: Callable[..., Operator]
) -> None:
    for text in ("not a number", "9" * 400, "-5", "٣"):
        await client.create(
            LEASES,
            {
                "metadata": {
                    "name": lease_name,
                    "namespace": NAMESPACE,
                    "annotations": {ANNOTATION_EPOCH: text},
                }
            },
        )
        first = start(waits_by_itself=False)
        await first.elector.acquire()
        assert first.elector.epoch == 1
        await first.elector.release()
        lease = await client.find(LEASES, NAMESPACE, lease_name)
        assert lease is not None
        await client.delete(LEASES, NAMESPACE, lease_name, uid=lease["metadata"]["uid"])
