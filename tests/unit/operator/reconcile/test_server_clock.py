"""The API server's time, carried on by the monotonic clock."""

import pytest

from dspy_operator.reconcile.clock import LARGEST_ERROR, ServerClock

NOON = 1_800_000_000.0


class Monotonic:
    def __init__(self) -> None:
        self.time = 50.0

    def __call__(self) -> float:
        return self.time


def test_there_is_no_time_before_the_first_answer() -> None:
    with pytest.raises(RuntimeError, match="has not told the time"):
        ServerClock(Monotonic()).now()


def test_the_time_goes_on_between_answers() -> None:
    monotonic = Monotonic()
    clock = ServerClock(monotonic)
    clock.learn(NOON)
    monotonic.time += 7.5
    assert clock.now() == NOON + 7.5


def test_whole_seconds_of_later_answers_do_not_turn_the_time_back() -> None:
    monotonic = Monotonic()
    clock = ServerClock(monotonic)
    clock.learn(NOON)
    monotonic.time += 0.9
    before = clock.now()
    clock.learn(NOON)
    assert clock.now() == before


def test_a_better_answer_is_taken() -> None:
    monotonic = Monotonic()
    clock = ServerClock(monotonic)
    clock.learn(NOON)
    clock.learn(NOON + 1)
    assert clock.now() == NOON + 1


@pytest.mark.parametrize("jump", [3600.0, -3600.0, -LARGEST_ERROR - 0.1])
def test_a_changed_clock_is_followed(jump: float) -> None:
    clock = ServerClock(Monotonic())
    clock.learn(NOON)
    clock.learn(NOON + jump)
    assert clock.now() == NOON + jump


def test_an_answer_without_a_time_changes_nothing() -> None:
    clock = ServerClock(Monotonic())
    clock.learn(NOON)
    clock.learn(0.0)
    assert clock.now() == NOON
