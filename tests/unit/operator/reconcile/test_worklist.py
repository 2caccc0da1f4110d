"""The queue: what is added twice is done once, namespaces take turns, failures back off. A virtual clock."""

import asyncio
from collections.abc import Iterable

import pytest

from dspy_operator.reconcile.worklist import FIRST_BACKOFF, LONGEST_BACKOFF, Key, Worklist


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def worklist(clock: Clock) -> Worklist:
    return Worklist(clock)


async def find(worklist: Worklist) -> Key | None:
    """The next due key, None if none is due now."""
    taking = asyncio.ensure_future(worklist.take())
    for _ in range(5):
        await asyncio.sleep(0)
    if taking.done():
        return taking.result()
    taking.cancel()
    return None


async def take_all(worklist: Worklist) -> list[Key]:
    taken: list[Key] = []
    while (key := await find(worklist)) is not None:
        taken.append(key)
    return taken


def add_all(worklist: Worklist, keys: Iterable[Key]) -> None:
    for key in keys:
        worklist.add(key)


async def test_what_is_added_many_times_is_taken_once(worklist: Worklist) -> None:
    add_all(worklist, [("ns", "a")] * 100)
    assert await take_all(worklist) == [("ns", "a")]


async def test_a_key_is_never_taken_by_two_at_once(worklist: Worklist) -> None:
    worklist.add(("ns", "a"))
    assert await find(worklist) == ("ns", "a")
    add_all(worklist, [("ns", "a")] * 3)
    assert await find(worklist) is None
    worklist.done(("ns", "a"))
    assert await take_all(worklist) == [("ns", "a")]


async def test_namespaces_take_turns(worklist: Worklist) -> None:
    add_all(worklist, [("noisy", str(number)) for number in range(5)])
    add_all(worklist, [("quiet", "one"), ("other", "one")])
    first_four = (await take_all(worklist))[:4]
    assert {namespace for namespace, _ in first_four} == {"noisy", "quiet", "other"}


async def test_a_delayed_key_is_due_when_its_time_comes(worklist: Worklist, clock: Clock) -> None:
    worklist.add(("ns", "a"), delay=10)
    assert await find(worklist) is None
    clock.time += 10
    assert await find(worklist) == ("ns", "a")


async def test_the_earlier_of_two_times_counts(worklist: Worklist, clock: Clock) -> None:
    worklist.add(("ns", "a"), delay=10)
    worklist.add(("ns", "a"), delay=2)
    worklist.add(("ns", "a"), delay=20)
    clock.time += 2
    assert await find(worklist) == ("ns", "a")
    worklist.done(("ns", "a"))
    clock.time += 60
    assert await find(worklist) is None


async def test_a_pass_that_went_well_is_repeated_when_it_says(worklist: Worklist, clock: Clock) -> None:
    worklist.add(("ns", "a"))
    await find(worklist)
    worklist.done(("ns", "a"), again=30)
    clock.time += 29
    assert await find(worklist) is None
    clock.time += 1
    assert await find(worklist) == ("ns", "a")


async def test_failures_back_off_twice_as_long_each_time_up_to_a_limit(
    worklist: Worklist, clock: Clock
) -> None:
    worklist.add(("ns", "a"))
    delays = []
    for _ in range(12):
        assert await find(worklist) == ("ns", "a")
        delays.append(worklist.failed(("ns", "a")))
        clock.time += delays[-1]
    assert delays[:3] == [FIRST_BACKOFF, 2 * FIRST_BACKOFF, 4 * FIRST_BACKOFF]
    assert delays[-1] == LONGEST_BACKOFF


async def test_a_success_ends_the_backoff(worklist: Worklist, clock: Clock) -> None:
    worklist.add(("ns", "a"))
    for _ in range(5):
        await find(worklist)
        clock.time += worklist.failed(("ns", "a"))
    await find(worklist)
    worklist.done(("ns", "a"), again=0)
    await find(worklist)
    assert worklist.failed(("ns", "a")) == FIRST_BACKOFF


async def test_events_do_not_shorten_a_backoff(worklist: Worklist, clock: Clock) -> None:
    worklist.add(("ns", "a"))
    await find(worklist)
    add_all(worklist, [("ns", "a")] * 3)
    worklist.failed(("ns", "a"))
    assert await find(worklist) is None
    clock.time += FIRST_BACKOFF
    assert await find(worklist) == ("ns", "a")


async def test_the_server_says_how_long_to_wait_at_least(worklist: Worklist) -> None:
    worklist.add(("ns", "a"))
    await find(worklist)
    assert worklist.failed(("ns", "a"), retry_after=30) == 30


async def test_what_failed_together_is_not_retried_together(clock: Clock) -> None:
    factors = iter([0.8, 1.2])
    worklist = Worklist(clock, lambda: next(factors))
    add_all(worklist, [("ns", "a"), ("ns", "b")])
    await take_all(worklist)
    assert worklist.failed(("ns", "a")) != worklist.failed(("ns", "b"))


async def test_one_poisoned_resource_does_not_delay_the_others(worklist: Worklist) -> None:
    add_all(worklist, [("ns", "bad"), ("ns", "good")])
    await find(worklist)
    worklist.failed(("ns", "bad"))
    assert await find(worklist) == ("ns", "good")


async def test_a_forgotten_key_does_not_come_back(worklist: Worklist, clock: Clock) -> None:
    worklist.add(("ns", "a"), delay=5)
    worklist.forget(("ns", "a"))
    clock.time += 10
    assert await find(worklist) is None
    assert len(worklist) == 0


async def test_a_waiting_worker_wakes_up_when_something_is_added(worklist: Worklist) -> None:
    taking = asyncio.ensure_future(worklist.take())
    await asyncio.sleep(0)
    worklist.add(("ns", "a"))
    assert await asyncio.wait_for(taking, 1) == ("ns", "a")


async def test_two_waiting_workers_share_what_is_added_together(worklist: Worklist) -> None:
    workers = [asyncio.ensure_future(worklist.take()) for _ in range(2)]
    await asyncio.sleep(0)
    add_all(worklist, [("ns", "a"), ("ns", "b")])
    assert {await asyncio.wait_for(worker, 1) for worker in workers} == {("ns", "a"), ("ns", "b")}


async def test_what_became_due_during_its_own_pass_is_taken_after_it(
    worklist: Worklist, clock: Clock
) -> None:
    add_all(worklist, [("ns", "a"), ("ns", "b")])
    assert await find(worklist) == ("ns", "a")
    worklist.add(("ns", "b"), delay=5)
    assert await find(worklist) == ("ns", "b")
    clock.time += 6
    waiting = asyncio.ensure_future(worklist.take())
    await asyncio.sleep(0)
    worklist.done(("ns", "b"))
    assert await asyncio.wait_for(waiting, 1) == ("ns", "b")
