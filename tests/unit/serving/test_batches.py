"""Commands that travel together: whose answer is whose, what fails for whom, and for how long anybody waits."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest
from tests.unit.serving.worlds import until

from dspy_server.batches import Batches, Words

PATIENT = 30.0


class Wire:
    """Answers each command with its first word, once `open` is set; keeps the batches that came."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.batches: list[list[Any]] = []
        self.error: Exception | None = None
        self.open = asyncio.Event()
        if is_open:
            self.open.set()

    async def send(self, commands: Sequence[Words]) -> Sequence[Any]:
        self.batches.append([words[0] for words in commands])
        await self.open.wait()
        if self.error is not None:
            raise self.error
        return [KeyError(words[0]) if words[0] == "bad" else words[0] for words in commands]


async def test_commands_of_one_moment_travel_together_and_those_that_come_meanwhile_after_them() -> None:
    wire = Wire(is_open=False)
    batches = Batches(wire.send, timeout=PATIENT)
    first = [batches.add((name,)) for name in ("a", "b", "c")]
    await until(lambda: len(wire.batches) == 1)
    second = [batches.add((name,)) for name in ("d", "e")]
    await asyncio.sleep(0)
    assert wire.batches == [["a", "b", "c"]]
    wire.open.set()
    assert await asyncio.gather(*first, *second) == ["a", "b", "c", "d", "e"]
    assert wire.batches == [["a", "b", "c"], ["d", "e"]]
    assert await batches.add(("f",)) == "f"


async def test_an_error_among_the_answers_is_that_commands_alone() -> None:
    batches = Batches(Wire().send, timeout=PATIENT)
    results = await asyncio.gather(
        *(batches.add((name,)) for name in ("a", "bad", "c")), return_exceptions=True
    )
    assert [type(result) for result in results] == [str, KeyError, str]


async def test_what_fails_fails_for_those_behind_it_too_and_for_nobody_after_them() -> None:
    wire = Wire(is_open=False)
    batches = Batches(wire.send, timeout=PATIENT)
    under_way = batches.add(("a",))
    await until(lambda: len(wire.batches) == 1)
    behind = batches.add(("b",))
    wire.error = ConnectionResetError()
    wire.open.set()
    results = await asyncio.gather(under_way, behind, return_exceptions=True)
    assert [type(result) for result in results] == [ConnectionResetError] * 2
    assert wire.batches == [["a"]]
    wire.error = None
    assert await batches.add(("c",)) == "c"


async def test_who_leaves_disturbs_nobody() -> None:
    wire = Wire(is_open=False)
    batches = Batches(wire.send, timeout=PATIENT)
    futures = [batches.add((name,)) for name in ("a", "b", "c")]
    await until(lambda: len(wire.batches) == 1)
    futures[1].cancel()
    wire.open.set()
    assert await asyncio.gather(futures[0], futures[2]) == ["a", "c"]


async def test_nobody_waits_longer_than_the_time_that_a_command_has() -> None:
    wire = Wire(is_open=False)
    batches = Batches(wire.send, timeout=0.05)
    first = batches.add(("a",))
    await until(lambda: len(wire.batches) == 1)
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        await batches.add(("b",))  # behind one that never ends
    assert time.monotonic() - started < PATIENT / 3
    assert isinstance(first.exception(), TimeoutError)
    wire.open.set()
    assert await batches.add(("c",)) == "c"


async def test_the_time_counts_from_the_oldest_command_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    alarms: list[float] = []
    call_at = loop.call_at

    def note(when: float, *args: Any, **kwargs: Any) -> asyncio.TimerHandle:
        if when > loop.time() + PATIENT / 2:
            alarms.append(when)
        return call_at(when, *args, **kwargs)

    monkeypatch.setattr(loop, "call_at", note)
    wire = Wire(is_open=False)
    batches = Batches(wire.send, timeout=PATIENT)
    first = batches.add(("a",))
    await until(lambda: len(wire.batches) == 1)
    before = loop.time()
    second = batches.add(("b",))
    after = loop.time()
    await asyncio.sleep(0.1)
    wire.open.set()
    await asyncio.gather(first, second)
    assert len(alarms) == 2
    assert before <= alarms[1] - PATIENT <= after


async def test_a_busy_loop_is_not_a_slow_server() -> None:
    async def send(commands: Sequence[Words]) -> Sequence[Any]:
        time.sleep(0.05)  # noqa: ASYNC251 - what somebody else's work does to a loop
        for _ in range(5):
            await asyncio.sleep(0)
        return [7 for _ in commands]

    assert await Batches(send, timeout=0.01).add(("a",)) == 7


async def test_at_the_end_who_still_waits_is_told() -> None:
    wire = Wire(is_open=False)
    batches = Batches(wire.send, timeout=PATIENT)
    first = batches.add(("a",))
    await until(lambda: len(wire.batches) == 1)
    second = batches.add(("b",))
    await batches.close()
    results = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(result) for result in results] == [ConnectionAbortedError] * 2
    await batches.close()
