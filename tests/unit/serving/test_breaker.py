"""When a failing target is spared, for how long, and who finds out that it is back."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.serving.virtual import run_virtually
from tests.unit.serving.worlds import Clock

from dspy_server.breaker import Breaker, BreakerState, Gate, Outcome

OPEN_FOR = 30.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


def build(clock: Callable[[], float], failures: int = 3) -> Breaker:
    return Breaker(failures, OPEN_FOR, clock)


def call(breaker: Breaker, outcome: Outcome) -> BreakerState | None:
    permit = breaker.enter()
    assert permit is not None
    return breaker.record(permit, outcome)


def test_failures_in_a_row_open_it(clock: Clock) -> None:
    breaker = build(clock)
    assert [call(breaker, Outcome.FAILED) for _ in range(3)] == [None, None, BreakerState.OPEN]
    assert breaker.enter() is None
    assert breaker.get_retry_after() == OPEN_FOR


def test_an_answer_between_failures_keeps_it_closed(clock: Clock) -> None:
    breaker = build(clock)
    for outcome in [Outcome.FAILED, Outcome.FAILED, Outcome.ANSWERED] * 5:
        assert call(breaker, outcome) is None
    assert breaker.state is BreakerState.CLOSED


def test_a_rate_limit_neither_counts_nor_forgives(clock: Clock) -> None:
    breaker = build(clock)
    for outcome in (Outcome.FAILED, Outcome.UNKNOWN, Outcome.FAILED, Outcome.UNKNOWN):
        assert call(breaker, outcome) is None
    assert call(breaker, Outcome.FAILED) is BreakerState.OPEN


def test_a_refused_key_opens_it_at_once(clock: Clock) -> None:
    assert call(build(clock), Outcome.UNUSABLE) is BreakerState.OPEN


def test_after_a_while_one_probe_goes_through_and_decides(clock: Clock) -> None:
    breaker = build(clock, failures=1)
    call(breaker, Outcome.FAILED)
    clock.now += OPEN_FOR - 0.1
    assert breaker.enter() is None
    clock.now += 0.1
    assert breaker.state is BreakerState.HALF_OPEN
    probe = breaker.enter()
    assert probe is not None
    assert (breaker.lets_through, breaker.enter()) == (False, None)
    assert breaker.record(probe, Outcome.ANSWERED) is BreakerState.CLOSED
    assert breaker.lets_through


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.UNUSABLE])
def test_a_failed_probe_opens_it_for_as_long_again(clock: Clock, outcome: Outcome) -> None:
    breaker = build(clock)
    call(breaker, Outcome.UNUSABLE)
    clock.now += OPEN_FOR + 7
    assert call(breaker, outcome) is BreakerState.OPEN
    assert breaker.get_retry_after() == OPEN_FOR


def test_a_probe_whose_caller_left_makes_room_for_another(clock: Clock) -> None:
    breaker = build(clock, failures=1)
    call(breaker, Outcome.FAILED)
    clock.now += OPEN_FOR
    assert call(breaker, Outcome.UNKNOWN) is None
    assert call(breaker, Outcome.ANSWERED) is BreakerState.CLOSED


def test_calls_from_before_it_opened_say_nothing(clock: Clock) -> None:
    breaker = build(clock, failures=1)
    early = [permit for permit in (breaker.enter() for _ in range(4)) if permit is not None]
    assert breaker.record(early[0], Outcome.FAILED) is BreakerState.OPEN
    clock.now += 20
    assert breaker.record(early[1], Outcome.FAILED) is None
    assert breaker.get_retry_after() == 10
    assert breaker.record(early[2], Outcome.ANSWERED) is None
    clock.now += 10
    probe = breaker.enter()
    assert breaker.record(early[3], Outcome.ANSWERED) is None
    assert breaker.state is BreakerState.HALF_OPEN
    assert probe is not None
    assert breaker.record(probe, Outcome.ANSWERED) is BreakerState.CLOSED


@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.sampled_from(["enter", *Outcome]), st.integers(0, 40)), max_size=60),
)
def test_whatever_happens_at_most_one_probe_is_out_and_an_open_breaker_lets_nobody_through(
    failures: int, events: list[tuple[str | Outcome, int]]
) -> None:
    clock = Clock()
    breaker = Breaker(failures, OPEN_FOR, clock)
    probes, others = [], []
    for event, seconds in events:
        clock.now += seconds
        before = breaker.state
        if event == "enter":
            permit = breaker.enter()
            if permit is None:
                assert before is not BreakerState.CLOSED
            elif before is BreakerState.HALF_OPEN:
                probes.append(permit)
                assert len(probes) == 1
            else:
                assert before is BreakerState.CLOSED
                others.append(permit)
        elif isinstance(event, Outcome) and (probes or others):
            was_probe = bool(probes)
            breaker.record(probes.pop() if was_probe else others.pop(0), event)
            if was_probe and event is Outcome.ANSWERED:
                assert breaker.state is BreakerState.CLOSED
    assert breaker.get_retry_after() <= OPEN_FOR


def enter(gate: Gate) -> "asyncio.Task[object]":
    return asyncio.ensure_future(gate.enter())


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_gate_lets_everybody_through_until_a_rate_limit_halves_it(clock: Clock) -> None:
    gate = Gate(100, 30.0, clock)
    places = [await gate.enter() for _ in range(40)]
    for place in places:  # forty calls of one burst: one narrowing, not forty
        gate.narrow(place, None)
    assert gate.width == 20
    for _ in places:
        gate.leave()
    assert gate.has_room


async def test_a_gate_takes_one_call_more_each_second_until_it_is_off(clock: Clock) -> None:
    gate = Gate(6, 30.0, clock)
    gate.narrow(await gate.enter(), None)
    widths = []
    for _ in range(6):
        widths.append(gate.width)
        clock.now += 1
    assert widths == [1, 2, 3, 4, 5, None]


async def test_those_who_wait_enter_in_turn_and_one_who_leaves_the_line_holds_nobody_up(clock: Clock) -> None:
    gate = Gate(100, 30.0, clock)
    gate.narrow(await gate.enter(), None)
    first, second, third = (enter(gate) for _ in range(3))
    await settle()
    assert not any(task.done() for task in (first, second, third))
    second.cancel()
    await settle()
    gate.leave()
    await settle()
    assert (first.done(), third.done()) == (True, False)
    gate.leave()
    await settle()
    assert third.done()


async def test_one_who_is_cancelled_with_a_place_just_given_gives_it_back(clock: Clock) -> None:
    gate = Gate(100, 30.0, clock)
    gate.narrow(await gate.enter(), None)
    waiter = enter(gate)
    await settle()
    gate.leave()
    waiter.cancel()
    await settle()
    assert waiter.cancelled()
    assert gate.has_room


async def test_nobody_enters_while_the_provider_asks_to_wait(clock: Clock) -> None:
    gate = Gate(100, 30.0, clock)
    gate.narrow(await gate.enter(), 7.0)
    gate.leave()
    assert (gate.has_room, gate.pause) == (False, 7.0)
    clock.now += 7
    assert gate.has_room
    gate.narrow(await gate.enter(), 3600.0)
    assert gate.pause == 30.0


class Limited:
    """A provider that answers so many calls at once and refuses the rest; virtual seconds."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.busy = 0
        self.answered: list[float] = []
        self.refused: list[float] = []

    async def ask(self) -> bool:
        loop = asyncio.get_running_loop()
        if self.busy >= self.capacity:
            await asyncio.sleep(0.05)
            self.refused.append(loop.time())
            return False
        self.busy += 1
        await asyncio.sleep(0.5)
        self.busy -= 1
        self.answered.append(loop.time())
        return True


@pytest.mark.parametrize("capacity", [12, 30])
def test_in_a_storm_of_rate_limits_fewer_than_one_percent_are_left_after_a_minute(capacity: int) -> None:
    provider = Limited(capacity)

    async def storm() -> None:
        loop = asyncio.get_running_loop()
        gate = Gate(100, 30.0, loop.time)

        async def caller() -> None:
            while loop.time() < 180:
                place = await gate.enter()
                if not await provider.ask():
                    gate.narrow(place, None)
                gate.leave()

        await asyncio.gather(*(caller() for _ in range(64)))

    run_virtually(storm())
    late = sum(when > 60 for when in provider.refused), sum(when > 60 for when in provider.answered)
    assert late[0] / sum(late) < 0.01
    assert late[1] / 120 > 0.7 * capacity / 0.5
    assert len(provider.refused) >= 64 - capacity
