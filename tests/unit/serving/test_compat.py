"""What the server takes for granted about DSPy, one test a fact: run on each new DSPy before it is taken."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy import lm15
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.serving.programs import SyncTriage, Triage

from dspy_server import compat
from dspy_server.settings import parse_duration, parse_percent


def test_dspy_is_the_one_that_was_measured() -> None:
    major, minor, *_ = compat.DSPY_VERSION.split(".")
    assert (major, minor) == ("3", "4")


def test_an_lm_with_our_engine_takes_no_endpoint_and_no_key() -> None:
    lm = compat.build_lm("served/x", compat.StubEngine(), compat.AsyncStubEngine(), sampling={})
    for option in ("api_key", "api_base"):
        with pytest.raises(ValueError, match=option):
            lm.copy(**{option: "decoy"})


def test_dspys_base_module_has_no_aforward() -> None:
    assert not hasattr(dspy.Module, "aforward")
    assert (compat.is_async(Triage()), compat.is_async(SyncTriage())) == (True, False)


async def test_settings_of_a_task_reach_its_threads_and_no_other_task() -> None:
    async def read(value: str) -> Any:
        with compat.overrides(lm=value):
            await asyncio.sleep(0)
            return await asyncio.to_thread(lambda: dspy.settings.lm)

    assert list(await asyncio.gather(read("one"), read("two"))) == ["one", "two"]


async def test_the_warm_up_calls_dspy_both_ways_without_an_lm() -> None:
    retries: list[None] = []
    adapter = compat.CountingChatAdapter(parse_retry=True, on_retry=lambda: retries.append(None))
    await compat.warm_up(adapter)
    assert retries == []
    assert "dspy.clients.execution" in sys.modules


async def test_a_call_keeps_no_history_and_no_trace() -> None:
    lm = compat.build_lm("served/x", compat.StubEngine(), compat.AsyncStubEngine(), sampling={})
    predict = dspy.Predict("question -> word")
    with compat.overrides(lm=lm, adapter=dspy.ChatAdapter()):
        await predict.acall(question="x")
    assert (lm.history, predict.history, predict.traces) == ([], [], [])
    assert not dspy.settings.trace


def test_a_declared_target_takes_the_model_after_the_first_slash() -> None:
    _, model = compat.build_engine("openai/org/model:7b", "http://lm/v1", "k", timeout=1, connections=1)
    assert model.endswith(":org/model:7b")


@pytest.mark.parametrize(
    "model", ["openai/gpt-4o-mini", "anthropic/claude-haiku-4-5", "gemini/gemini-2.5-flash"]
)
def test_a_known_provider_needs_no_address(model: str) -> None:
    assert compat.build_engine(model, "", "k", timeout=1, connections=1)[1] == model


def test_an_unknown_provider_needs_an_address() -> None:
    with pytest.raises(ValueError, match="apiBase"):
        compat.build_engine("unheard-of/x", "", "k", timeout=1, connections=1)
    assert compat.build_engine("unheard-of/x", "http://lm/v1", "", timeout=1, connections=1)


def test_a_request_can_be_sent_to_another_model() -> None:
    request = lm15.Request(model="a", messages=(lm15.Message.user("x"),))
    retargeted = compat.retarget(request, "b", 7)
    assert (retargeted.model, retargeted.config.max_tokens, request.model) == ("b", 7, "a")
    assert compat.retarget(retargeted, "c", 100).config.max_tokens == 7


def test_unreported_usage_is_0() -> None:
    response = lm15.Response(
        id=None, model="m", message=lm15.Message.assistant("x"), finish_reason="stop", usage=lm15.Usage()
    )
    assert compat.get_usage(response) == {"prompt": 0, "completion": 0, "cached": 0, "reasoning": 0}


def test_state_that_names_an_endpoint_reaches_no_predictor(tmp_path: Path) -> None:
    program = Triage()
    path = tmp_path / "p.json"
    program.save(path)
    fresh = Triage()
    state = program.dump_state()
    compat.load_state(fresh, state)
    assert fresh.route.lm is None


@given(st.integers(0, 99), st.sampled_from(["ms", "s", "m", "h"]))
def test_durations_add_up(number: int, unit: str) -> None:
    seconds = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
    assert parse_duration(f"1h{number}{unit}") == pytest.approx(3600 + number * seconds[unit])


@pytest.mark.parametrize("text", ["5", "s", "5 s", "-5s", "5d", ""])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


def test_percentages_are_fractions() -> None:
    assert parse_percent("12.5%") == 0.125
