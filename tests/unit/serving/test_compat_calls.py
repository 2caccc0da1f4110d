"""What the server spares DSPy on a call's way to the provider: tasks and conversions. What comes out is the same."""

import asyncio
import gc
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from dspy import lm15
from dspy._vendor.lm15.providers import openai_chat
from dspy._vendor.lm15.transports import _async, _timeouts
from dspy.clients import execution
from tests.unit.serving.test_compat_facts import ask

from dspy_server import compat
from dspy_server.compat import prompts, waits

# --- time limits ------------------------------------------------------------------------------------------------


async def test_a_time_limit_gives_what_it_waits_for_and_makes_no_task() -> None:
    async def count() -> int:
        await asyncio.sleep(0)
        return len(asyncio.all_tasks())

    assert [await waits.wait_for(count(), limit) for limit in (5.0, None)] == [1, 1]
    assert await _timeouts.wait_for(count(), 5.0) == 2  # what it spares


@pytest.mark.parametrize("limit", [0.0, 0.01])
async def test_what_a_time_limit_cuts_off_has_ended_when_the_caller_hears_of_it(limit: float) -> None:
    ended = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    with pytest.raises(TimeoutError):
        await waits.wait_for(work(), limit)
    assert ended


async def test_a_caller_that_is_cancelled_at_the_moment_of_an_answer_stays_cancelled() -> None:
    answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    went_on = []

    async def call() -> None:
        await waits.wait_for(answer, 5.0)
        went_on.append(True)

    task = asyncio.create_task(call())
    await asyncio.sleep(0)
    answer.set_result("now")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not went_on


async def test_a_place_in_the_pool_that_is_not_waited_for_any_more_stays_free() -> None:
    places = asyncio.Semaphore(1)
    await places.acquire()
    task = asyncio.create_task(
        waits.wait_for(places.acquire(), 5.0, cancel_result=lambda _: places.release())
    )
    await asyncio.sleep(0)
    places.release()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not places.locked()
    async with asyncio.timeout(5):
        await places.acquire()
    assert places.locked()


# --- prompts ----------------------------------------------------------------------------------------------------

SYSTEM = {"role": "system", "content": "Route it."}
DEMO = ({"role": "user", "content": "it is broken"}, {"role": "assistant", "content": "hardware"})
NEW = {"role": "user", "content": "where is it?"}
IMAGE = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/f.png"}}]}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def read_twice(rows: Any) -> list[Any]:
    """What a prompt's messages become without what is remembered and with it: requests, or errors."""

    def read(ingest: Any) -> Any:
        openai_chat._ingest_messages = ingest
        try:
            return lm15.request_from_openai_chat({"model": "any", "messages": rows})
        except (TypeError, ValueError, lm15.LM15Error) as exc:
            return repr(exc)

    try:
        return [read(prompts._ingest), read(prompts.ingest_messages)]
    finally:
        openai_chat._ingest_messages = prompts.ingest_messages


@pytest.mark.parametrize(
    "rows",
    [
        [SYSTEM, *DEMO, NEW],
        [SYSTEM, *DEMO],
        [SYSTEM, NEW, *DEMO],
        [SYSTEM, *DEMO, {"role": "system", "content": "a second one"}, NEW],
        [SYSTEM, *DEMO, {"role": "developer", "content": "a third one"}, NEW],
        [SYSTEM, *DEMO, IMAGE],
        [SYSTEM, *DEMO, {"role": "assistant", "content": None, "tool_calls": [CALL]}],
        [SYSTEM, *DEMO, {"role": "user", "content": ""}],
        [SYSTEM, *DEMO, {"role": "user", "content": 7}],
        [SYSTEM, *DEMO, {"role": "user", "content": "x", "name": "me"}],
        [{"role": "system", "content": ""}, *DEMO],
        [*DEMO, NEW],
        [SYSTEM],
        [],
        "no list",
    ],
)
def test_a_request_is_the_same_whether_its_first_messages_are_remembered_or_not(rows: Any) -> None:
    kept = prompts.remember_messages(DEMO)
    plain, quick = read_twice(rows)
    assert (plain, len(kept)) == (quick, 2)


def test_a_remembered_message_is_converted_once_and_let_go_with_its_program() -> None:
    demo = [{**row, "content": f"{row['content']} (of one program alone)"} for row in DEMO]
    kept = prompts.remember_messages([SYSTEM, *demo])
    assert [item.message.role for item in kept] == ["user", "assistant"]
    rows = [SYSTEM, *(dict(row) for row in demo), NEW]
    first, second = (prompts.ingest_messages("any", rows, None)[1] for _ in range(2))
    assert all(a is b for a, b in zip(first[:2], second[:2], strict=True))
    assert first[2] is not second[2]
    assert prompts.remember_messages(demo)[0] is kept[0]
    del kept
    gc.collect()
    assert not {(row["role"], row["content"]) for row in demo} & set(prompts._known)


@pytest.mark.parametrize(
    "value",
    [
        "text",
        "half a pair: \ud83d",
        [{"role": "user", "content": "良い"}],
        [{"role": "user", "content": "half a pair: \ud83d"}],
        [{"role": "user", "content": [{"x": {"\udc00": 1}}]}],
        [{"role": "user", "content": object()}],
        [{"role": "user", "content": [object(), "\ud83d"]}],
        {1: "x", 2: ("a", {"b", "\ud83d"})},
        2**70,
    ],
)
def test_text_that_no_provider_can_receive_is_refused_as_dspy_refuses_it(value: Any) -> None:
    def find_problem(check: Callable[[Any, str], None]) -> str:
        try:
            check(value, "messages")
        except ValueError as exc:
            return str(exc)
        return ""

    assert find_problem(prompts.check_encodable) == find_problem(prompts._check)


async def test_time_limits_and_prompts_are_what_dspy_uses(
    monkeypatch: pytest.MonkeyPatch, base_url: str
) -> None:
    compat.configure()
    assert (
        inspect.signature(waits.wait_for).parameters.keys()
        == inspect.signature(_timeouts.wait_for).parameters.keys()
    )
    called = set()

    def watch(place: Any, name: str) -> None:
        original = getattr(place, name)
        assert original.__module__.startswith("dspy_server.compat")

        def note(*args: Any, **kwargs: Any) -> Any:
            called.add(name)
            return original(*args, **kwargs)

        monkeypatch.setattr(place, name, note)

    for place, name in [
        (_async, "wait_for"), (openai_chat, "_ingest_messages"), (execution, "_check_encodable")
    ]:  # fmt: skip
        watch(place, name)
    engine, model = compat.build_engine("openai/icl-100", f"{base_url}/v1", "", timeout=10, connections=2)
    await ask(compat.build_lm(model, compat.StubEngine(), engine, sampling={}))
    await engine.aclose()
    assert called == {"wait_for", "_ingest_messages", "_check_encodable"}
