"""The provider over HTTP: endpoints, faults, latency, and DSPy's own client in front of it."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import dspy
import pytest
from tests.provider import icl_lm
from tests.provider.icl_lm import FAULTS, Provider, run_provider

if TYPE_CHECKING:
    from collections.abc import Iterator

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "one two three four"}]


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def url(provider: Provider) -> Iterator[str]:
    with run_provider(provider) as address:
        yield address


def send(
    url: str, method: str, path: str, body: Any = None, key: str = "k"
) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, data, {"Authorization": f"Bearer {key}"})
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read().decode()
    finally:
        connection.close()


def chat(url: str, model: str = "icl-100", **more: Any) -> tuple[int, dict[str, str], str]:
    return send(url, "POST", CHAT, {"model": model, "messages": HELLO, **more})


def list_statuses(url: str, model: str, count: int) -> list[int]:
    return [chat(url, model)[0] for _ in range(count)]


def test_a_plain_answer_has_openais_shape_and_repeats_exactly(url: str) -> None:
    status, _, text = chat(url, n=2)
    answer = json.loads(text)
    assert status == 200
    assert [c["message"]["content"] for c in answer["choices"]] == [HELLO[0]["content"]] * 2
    assert answer["usage"] == {"prompt_tokens": 8, "completion_tokens": 16, "total_tokens": 24}
    assert chat(url, n=2)[2] == text


def test_a_stream_sends_a_role_then_words_then_stop_then_usage_then_done(url: str) -> None:
    status, headers, text = chat(url, stream=True, stream_options={"include_usage": True})
    *events, done, end = text.split("\n\n")
    chunks = [json.loads(e.removeprefix("data: ")) for e in events]
    assert (status, headers["Content-Type"], done, end) == (200, "text/event-stream", "data: [DONE]", "")
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks[1:-2]) == HELLO[0]["content"]
    assert len(chunks[1:-2]) == 4
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["usage"]["total_tokens"] == 16
    assert "usage" not in chat(url, stream=True)[2]


def test_the_small_endpoints_answer(url: str) -> None:
    assert send(url, "GET", "/healthz")[0] == 200
    assert "icl-95" in send(url, "GET", "/v1/models")[2]
    assert send(url, "GET", "/nowhere")[0] == 404


@pytest.mark.parametrize("model", ["gpt-4o", "icl-101", "icl-", "icl-95+unheard", "icl-95+"])
def test_an_unknown_model_is_a_404(url: str, model: str) -> None:
    status, _, text = chat(url, model)
    assert (status, json.loads(text)["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("body", [b"no json", b"[]", b"{}", b'{"model": "icl-100", "messages": []}'])
def test_a_broken_request_is_a_400(url: str, body: bytes) -> None:
    assert send(url, "POST", CHAT, body)[0] == 400


def test_stats_count_calls_tokens_and_digests_of_keys_never_keys(url: str) -> None:
    chat(url)
    send(url, "POST", CHAT, {"model": "icl-95+fail401", "messages": HELLO}, key="sk-secret")
    text = send(url, "GET", "/_stats")[2]
    stats = json.loads(text)
    assert stats["calls"] == {"icl-100": {"200": 1}, "icl-95+fail401": {"401": 1}}
    assert stats["tokens"] == {"icl-100": {"prompt": 8, "completion": 8}}
    assert stats["keys"]["icl-100"] != stats["keys"]["icl-95+fail401"]
    assert "sk-secret" not in text


@pytest.mark.parametrize(("fault", "status"), [("fail500", 500), ("fail429", 429), ("fail401", 401)])
def test_a_model_with_a_failing_fault_always_fails(url: str, fault: str, status: int) -> None:
    assert list_statuses(url, f"icl-100+{fault}", 3) == [status] * 3
    assert ("Retry-After" in chat(url, f"icl-100+{fault}")[1]) == (status == 429)


def test_flaky_fails_two_of_three(url: str) -> None:
    assert sorted(list_statuses(url, "icl-100+flaky", 9)) == [200] * 3 + [500] * 6


def test_garbage_has_no_field_in_it(url: str) -> None:
    assert json.loads(chat(url, "icl-100+garbage")[2])["choices"][0]["message"]["content"] == icl_lm.GARBAGE


@pytest.mark.parametrize("stream", [True, False])
def test_cut_ends_the_connection_half_way(url: str, *, stream: bool) -> None:
    with pytest.raises(http.client.IncompleteRead):
        chat(url, "icl-100+cut", stream=stream)


def test_slow_takes_longer_than_its_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(icl_lm.asyncio, "sleep", sleep)
    with run_provider() as url:
        assert chat(url, "icl-100+slow")[0] == 200
        assert chat(url, "icl-100")[0] == 200
    assert slept == [icl_lm.SLOW_SECONDS]


def test_a_fault_can_be_asked_for_and_ended_at_run_time(url: str) -> None:
    def ask_for(faults: Any) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(send(url, "POST", "/_fault", faults)[2])
        return answer

    assert ask_for({"icl-100": {"fault": "fail500", "rate": 0.25}})["icl-100"]["rate"] == 0.25
    assert list_statuses(url, "icl-100", 8).count(500) == 2
    assert list_statuses(url, "icl-95", 2) == [200, 200]
    assert ask_for({"*": {"fault": "fail429"}, "icl-100": None}).keys() == {"*"}
    assert list_statuses(url, "icl-100", 2) == [429, 429]
    assert ask_for({}) == {}
    assert list_statuses(url, "icl-100", 2) == [200, 200]
    assert json.loads(send(url, "GET", "/_fault")[2]) == {}


def test_an_unknown_fault_is_refused_with_the_known_ones(url: str) -> None:
    status, _, text = send(url, "POST", "/_fault", {"icl-100": {"fault": "explode"}})
    assert status == 400
    assert all(fault in text for fault in FAULTS)


def test_a_delay_alone_does_not_end_the_fault_in_a_models_name(provider: Provider) -> None:
    provider.set_faults({"*": {"delay": 0.25}})
    assert provider.get_fault("icl-100+fail500") == ("fail500", 0.25)
    assert provider.get_fault("icl-100") == ("", 0.25)


def test_latency_grows_with_the_prompt_and_a_delay_takes_the_place_of_the_base() -> None:
    provider = Provider(latency=0.1, latency_per_1k_tokens=0.2)
    assert provider.get_latency(7, 1000, None) == pytest.approx(0.3)
    assert provider.get_latency(7, 2000, None) == pytest.approx(0.5)
    assert provider.get_latency(7, 2000, 0.0) == pytest.approx(0.4)
    assert Provider().get_latency(7, 5000, None) == 0.0


def test_jitter_depends_on_the_call_alone_and_stays_within_its_share() -> None:
    provider = Provider(latency=1.0, jitter=0.2)
    seconds = [provider.get_latency(icl_lm.get_hash(str(n)), 10, None) for n in range(200)]
    assert seconds == [provider.get_latency(icl_lm.get_hash(str(n)), 10, None) for n in range(200)]
    assert 0.8 <= min(seconds) < 0.85
    assert 1.15 < max(seconds) <= 1.2


def test_the_environment_sets_the_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("LATENCY", "0.5"), ("LATENCY_PER_1K_TOKENS", "0.1"), ("LATENCY_JITTER", "0.2")):
        monkeypatch.setenv(name, value)
    read = icl_lm.read_provider()
    assert (read.latency, read.latency_per_1k_tokens, read.jitter) == (0.5, 0.1, 0.2)


@pytest.mark.parametrize("module", [dspy.Predict, dspy.ChainOfThought])
@pytest.mark.parametrize("adapter", [dspy.ChatAdapter(), dspy.JSONAdapter()], ids=["chat", "json"])
def test_dspys_own_client_understands_the_answers(url: str, module: Any, adapter: Any) -> None:
    lm = dspy.LM("openai/icl-100", api_base=f"{url}/v1", api_key="k", cache=False, num_retries=0)
    program = module("ticket -> queue: str, urgent: bool")
    demos = [dspy.Example(ticket="refund", queue="billing", urgent=False)]
    program.predictors()[0].demos = demos
    with dspy.context(lm=lm, adapter=adapter):
        prediction = program(ticket="my refund")
    assert (prediction.queue, prediction.urgent) == ("billing", False)
