"""What a call costs, from the price list that DSPy brings: no network, and unknown is not zero."""

import urllib.request
from typing import Any

import pytest
from dspy import lm15
from dspy.clients import model_metadata

from dspy_server import compat
from dspy_server.pricing import Bill, find_price

ENTRY = {
    "input_cost_per_token": 1e-6,
    "output_cost_per_token": 4e-6,
    "cache_read_input_token_cost": 1e-7,
    "input_cost_per_token_above_200k_tokens": 2e-6,
    "output_cost_per_token_above_200k_tokens": 8e-6,
    "input_cost_per_token_batches": 5e-7,
}


def get_cost(entry: dict[str, Any], bill: Bill, **counting: bool) -> float | None:
    price = find_price(entry, **counting)
    assert price is not None
    return price.get_cost(bill)


def test_each_token_is_paid_once_at_its_own_rate() -> None:
    bill = Bill(prompt=1000, completion=100, cached=400, reasoning=30)
    assert get_cost(ENTRY, bill) == pytest.approx(600e-6 + 400e-7 + 100 * 4e-6)


def test_providers_that_report_cached_and_reasoning_tokens_apart_are_not_paid_too_little() -> None:
    bill = Bill(prompt=1000, completion=100, cached=400, reasoning=30)
    cost = get_cost(ENTRY, bill, cached_apart=True, reasoning_apart=True)
    assert cost == pytest.approx(1000e-6 + 400e-7 + 130 * 4e-6)


def test_long_prompts_have_rates_of_their_own() -> None:
    assert get_cost(ENTRY, Bill(200_000, 10)) == pytest.approx(0.2 + 40e-6)
    assert get_cost(ENTRY, Bill(200_001, 10)) == pytest.approx(0.400002 + 80e-6)


def test_what_the_list_does_not_say_is_unknown_and_not_free() -> None:
    assert find_price({}) is None
    assert find_price({"input_cost_per_token": float("nan")}) is None
    assert find_price({"input_cost_per_token": True}) is None
    assert get_cost({"input_cost_per_token": 1e-6}, Bill(10, 1)) is None
    assert get_cost({"input_cost_per_token": 1e-6}, Bill(10, 0)) == pytest.approx(1e-5)
    assert get_cost(ENTRY, Bill(10, 1, is_standard=False)) is None
    assert get_cost(ENTRY, Bill(10, 1, cached=11)) is None


def test_dspys_price_list_is_read_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the price list was sought in the network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr(model_metadata, "_data", None)
    for model in ("openai/gpt-4o-mini", "anthropic/claude-haiku-4-5", "gemini/gemini-2.5-pro"):
        price = compat.find_list_price(model)
        assert price is not None, model
        assert (price.get_cost(Bill(1000, 100)) or 0) > 0
    assert compat.find_list_price("openai/icl-95") is None
    assert compat.find_list_price("unheard-of/x") is None


def test_our_cost_of_an_answer_is_dspys_own_estimate() -> None:
    from dspy.clients.costs import estimate_cost  # noqa: PLC0415 - what we are held to, not what we use

    for model, provider in (
        ("openai/gpt-4o-mini", "openai-chat"),
        ("anthropic/claude-haiku-4-5", "anthropic"),
        ("gemini/gemini-2.5-pro", "gemini"),
    ):
        usage = lm15.Usage(input_tokens=2000, output_tokens=300, cache_read_tokens=500, reasoning_tokens=50)
        response = lm15.Response(
            id=None,
            model=model.partition("/")[2],
            message=lm15.Message.assistant("x"),
            finish_reason="stop",
            usage=usage,
        )
        theirs, _ = estimate_cost(response, provider=provider, requested_model=response.model)
        price, bill = compat.find_list_price(model), compat.get_bill(response)
        assert price is not None
        assert bill is not None
        assert price.get_cost(bill) == pytest.approx(theirs)
        assert theirs > 0


def test_an_answer_without_usage_has_no_bill() -> None:
    response = lm15.Response(
        id=None, model="m", message=lm15.Message.assistant("x"), finish_reason="stop", usage=lm15.Usage()
    )
    assert compat.get_bill(response) is None
