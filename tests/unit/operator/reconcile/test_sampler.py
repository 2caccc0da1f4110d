"""When Prometheus is read: one query serves all, looks meet at ticks. Time is virtual: sleeping lets it pass."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from dspy_operator.metrics.readings import Interest, Reading
from dspy_operator.reconcile.sampler import Sampler
from dspy_operator.reconcile.worklist import Key
from dspy_operator.rollout.model import Unmeasured

A: Key = ("ns", "a")
B: Key = ("ns", "b")
LOOK_A, LOOK_B, GAUGES_A = Interest(A), Interest(B), Interest(A, gauges_only=True)


class Prometheus:
    """Writes down who asked when."""

    def __init__(self, monotonic: "Time") -> None:
        self.asked: list[tuple[float, set[Key]]] = []
        self.answer: Unmeasured | None = None
        self.ahead = 0.0
        self._now = monotonic

    async def read(self, interests: Sequence[Interest], *, at: float | None = None) -> Reading | Unmeasured:
        self.asked.append((self._now() if at is None else at, {interest.key for interest in interests}))
        return self.answer or Reading(self._now() + self.ahead)


class Time:
    """A clock that only sleeping moves; `pass_` wakes sleepers in order."""

    def __init__(self) -> None:
        self.time = 1000.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def __call__(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        waking: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.time + seconds, waking))
        await waking

    async def pass_(self, seconds: float) -> None:
        end = self.time + seconds
        await settle()
        while due := [sleeper for sleeper in self._sleepers if sleeper[0] <= end and not sleeper[1].done()]:
            at, waking = min(due, key=lambda sleeper: sleeper[0])
            self.time = max(self.time, at)
            waking.set_result(None)
            await settle()
        self.time = end


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


class Stage:
    def __init__(self) -> None:
        self.time = Time()
        self.prometheus = Prometheus(self.time)
        self.told: list[Key] = []
        self.sampler = Sampler(
            self.prometheus, self.told.append, tick=10.0, monotonic=self.time, sleep=self.time.sleep
        )


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    built = Stage()
    running = asyncio.ensure_future(built.sampler.run())
    yield built
    running.cancel()


async def test_looks_of_different_intervals_meet_at_ticks(stage: Stage) -> None:
    stage.sampler.want(LOOK_A, 10)
    stage.time.time += 3
    stage.sampler.want(LOOK_B, 30)
    await stage.time.pass_(60)
    assert {at % 10 for at, _ in stage.prometheus.asked} == {0.0}
    assert sum(A in keys for _, keys in stage.prometheus.asked) == 6
    together = [keys for _, keys in stage.prometheus.asked if B in keys]
    assert together == [{A, B}, {A, B}]


async def test_the_number_of_queries_does_not_grow_with_the_number_of_rollouts(stage: Stage) -> None:
    for number in range(50):
        stage.sampler.want(Interest(("ns", str(number))), 10)
    await stage.time.pass_(60)
    assert len(stage.prometheus.asked) == 6


async def test_a_table_is_confirmed_between_the_ticks(stage: Stage) -> None:
    stage.sampler.want(GAUGES_A, 1)
    await stage.time.pass_(5)
    assert [at for at, _ in stage.prometheus.asked] == [1001.0, 1002.0, 1003.0, 1004.0, 1005.0]


async def test_a_table_is_confirmed_as_soon_when_counters_are_read_too(stage: Stage) -> None:
    stage.time.time += (
        3  # a tick has just been: it is no reason to read without a pause, nor to wait for the next
    )
    stage.sampler.want(LOOK_A, 1)
    await stage.time.pass_(3)
    assert [at for at, _ in stage.prometheus.asked] == [1004.0, 1005.0, 1006.0]


async def test_all_who_wait_for_a_table_share_their_queries(stage: Stage) -> None:
    for number in range(50):
        stage.sampler.want(Interest(("ns", str(number)), gauges_only=True), 1)
        stage.time.time += 0.01
    await stage.time.pass_(5)
    assert len(stage.prometheus.asked) == 5


async def test_who_wants_to_know_is_told_and_the_reading_kept(stage: Stage) -> None:
    assert stage.sampler.get_latest(A) is None
    stage.sampler.want(LOOK_A, 10)
    await stage.time.pass_(10)
    assert stage.told == [A]
    assert stage.sampler.get_latest(A) == Reading(1010.0)
    assert stage.sampler.get_latest(B) is None


async def test_prometheus_clock_is_known_from_its_readings_and_goes_on_without_them(stage: Stage) -> None:
    assert stage.sampler.clock.find_now() is None
    stage.prometheus.ahead = 3600.0
    stage.sampler.want(LOOK_A, 10)
    await stage.time.pass_(10)
    assert stage.sampler.clock.now() == stage.time() + 3600.0
    stage.prometheus.answer = Unmeasured("PrometheusUnreachable", "no answer")
    await stage.time.pass_(60)
    assert stage.sampler.clock.now() == stage.time() + 3600.0


async def test_an_outage_is_told_like_a_reading(stage: Stage) -> None:
    stage.prometheus.answer = Unmeasured("PrometheusUnreachable", "no answer")
    stage.sampler.want(LOOK_A, 10)
    await stage.time.pass_(10)
    assert stage.told == [A]
    assert stage.sampler.get_latest(A) == stage.prometheus.answer


async def test_nothing_is_read_for_nobody(stage: Stage) -> None:
    stage.sampler.want(LOOK_A, 10)
    await stage.time.pass_(10)
    stage.sampler.drop(A)
    await stage.time.pass_(100)
    assert len(stage.prometheus.asked) == 1
    assert stage.sampler.get_latest(A) is None


async def test_wanting_the_same_again_delays_nothing(stage: Stage) -> None:
    for _ in range(20):
        stage.sampler.want(LOOK_A, 10)
        await stage.time.pass_(1)
    assert [at for at, _ in stage.prometheus.asked] == [1010.0, 1020.0]


async def test_wanting_it_sooner_brings_it_forward(stage: Stage) -> None:
    stage.sampler.want(LOOK_A, 60)
    await stage.time.pass_(5)
    stage.sampler.want(GAUGES_A, 1)
    await stage.time.pass_(1)
    assert [at for at, _ in stage.prometheus.asked] == [1006.0]


async def test_the_past_is_read_at_once(stage: Stage) -> None:
    await stage.sampler.read_past(LOOK_A, 123.0)
    assert stage.prometheus.asked == [(123.0, {A})]
    assert stage.told == []
