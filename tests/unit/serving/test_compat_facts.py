"""Surprising habits of DSPy that the server is built around; where a new DSPy drops one, something here can go."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import dspy
import pytest
from dspy import lm15
from dspy.utils.callback import BaseCallback
from dspy.utils.usage_tracker import UsageTracker
from tests.unit.serving.programs import RouteTicket, Triage

from dspy_server import compat
from dspy_server.engine import AsyncFallbackEngine, FallbackEngine
from dspy_server.metrics import Metrics

ANSWER = "[[ ## queue ## ]]\nbilling\n\n[[ ## completed ## ]]"


class Engine:
    """Gives the texts in order, the last one for ever, and raises errors among them."""

    def __init__(self, *answers: str | Exception) -> None:
        self.answers = answers or (ANSWER,)
        self.requests: list[Any] = []

    async def complete(self, request: Any) -> Any:
        answer = self.answers[min(len(self.requests), len(self.answers) - 1)]
        self.requests.append(request)
        if isinstance(answer, Exception):
            raise answer
        return lm15.Response(
            id=None,
            model=request.model,
            message=lm15.Message.assistant(answer),
            finish_reason="stop",
            usage=lm15.Usage(input_tokens=10, output_tokens=2),
        )


class BlockingEngine:
    """The same for programs in threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def complete(self, request: Any) -> Any:
        return asyncio.run(self._engine.complete(request))


class Shelf:
    """Tiers that keep all, and say which keys they were asked for."""

    is_in_memory = True

    def __init__(self) -> None:
        self.records: dict[str, Any] = {}
        self.asked: list[str] = []

    def find(self, key: str) -> Any:
        self.asked.append(key)
        return self.records.get(key)

    def keep(self, key: str, record: Any) -> None:
        self.records[key] = record


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    """What DSPy's cache keeps in this test."""
    own, shelf = dspy.cache, Shelf()
    compat.install_cache(shelf, lambda: "scope")
    yield shelf
    dspy.cache = own


def build_lm(engine: Any, *, cached: bool = False, **sampling: Any) -> Any:
    return compat.build_lm("served/x", BlockingEngine(engine), engine, sampling=sampling, cached=cached)


async def ask(lm: Any, ticket: str = "x", **settings: Any) -> Any:
    with compat.overrides(lm=lm, adapter=settings.pop("adapter", dspy.ChatAdapter()), **settings):
        return await dspy.Predict(RouteTicket).acall(ticket=ticket)


# --- engines ----------------------------------------------------------------------------------------------------


async def test_an_engine_that_declares_nothing_supports_nothing_and_ours_declares_what_it_can() -> None:
    names = ("supports_function_calling", "supports_response_schema", "supports_reasoning")
    bare = build_lm(Engine())
    assert [getattr(bare, name) for name in names] == [False] * 3
    assert not bare.supported_params
    ours = AsyncFallbackEngine((), Metrics("triage"), timeout=1, clock=time.monotonic)
    blocking = FallbackEngine(ours, asyncio.get_running_loop())
    lm = compat.build_lm("served/x", blocking, ours, sampling={})
    for engine in (ours, blocking):
        assert [getattr(lm, name) for name in names] == [getattr(engine, name) for name in names]
    assert {"response_format", "tools", "max_tokens"} <= set(lm.supported_params)


async def test_a_failed_call_is_not_tried_again_by_dspy() -> None:
    engine = Engine(lm15.ServerError("down"))
    with pytest.raises(dspy.LMServerError):
        await ask(build_lm(engine))
    assert len(engine.requests) == 1


async def test_dspy_itself_would_try_again_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    engine = Engine(lm15.ServerError("down"))
    lm = build_lm(engine)
    lm.num_retries = 3
    with pytest.raises(dspy.LMServerError):
        await ask(lm)
    assert (pauses, len(engine.requests)) == ([1, 2, 4], 4)


@pytest.mark.parametrize(("parse_retry", "calls"), [(True, 2), (False, 1)])
async def test_an_answer_that_cannot_be_parsed_is_asked_for_again_as_json_and_counted(
    parse_retry: bool,  # noqa: FBT001 - pytest hands it in by name
    calls: int,
) -> None:
    engine, retries = Engine("garbage"), []
    adapter = compat.CountingChatAdapter(parse_retry=parse_retry, on_retry=lambda: retries.append(None))
    with pytest.raises(dspy.AdapterParseError):
        await ask(build_lm(engine), adapter=adapter)
    assert (len(engine.requests), len(retries)) == (calls, calls - 1)
    assert "JSON object" in str(engine.requests[-1].messages) or calls == 1


# --- usage ------------------------------------------------------------------------------------------------------


async def test_a_tracker_of_the_context_sees_every_call_that_was_billed_and_no_hit(shelf: Shelf) -> None:
    tracker = UsageTracker()
    adapter = compat.CountingChatAdapter(parse_retry=True, on_retry=lambda: None)
    engine = Engine("garbage", "garbage", ANSWER)
    lm = build_lm(engine, cached=True)
    with pytest.raises(dspy.AdapterParseError):
        await ask(lm, usage_tracker=tracker, adapter=adapter)
    for _ in range(2):
        await ask(lm, "another ticket", usage_tracker=tracker, adapter=adapter)
    assert [entry["prompt_tokens"] for entry in tracker.usage_data["served/x"]] == [10, 10, 10]
    assert len(shelf.records) == len(engine.requests) == 3


async def test_usage_is_on_the_outermost_prediction_only_and_a_hit_has_none(shelf: Shelf) -> None:
    inner: list[Any] = []

    class Outer(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.route = dspy.Predict(RouteTicket)

        async def aforward(self, ticket: str) -> Any:
            inner.append(await self.route.acall(ticket=ticket))
            return dspy.Prediction(queue=inner[-1].queue)

    lm = build_lm(Engine(), cached=True)
    with compat.overrides(lm=lm, track_usage=True):
        outer = [await Outer().acall(ticket="x") for _ in range(2)]
    assert [prediction.get_lm_usage() for prediction in inner] == [None, None]
    assert outer[0].get_lm_usage()["served/x"]["completion_tokens"] == 2
    assert outer[1].get_lm_usage() == {}
    assert len(shelf.records) == 1


# --- the cache --------------------------------------------------------------------------------------------------


async def test_a_call_in_a_thread_and_one_on_the_loop_have_other_keys(shelf: Shelf) -> None:
    lm = build_lm(Engine(), cached=True)
    with compat.overrides(lm=lm):
        await dspy.Predict(RouteTicket).acall(ticket="x")
        await asyncio.to_thread(dspy.Predict(RouteTicket), ticket="x")
    assert len(set(shelf.asked)) == len(shelf.records) == 2


async def test_a_record_is_plain_and_holds_the_cost_of_the_call_that_was_paid(shelf: Shelf) -> None:
    await ask(build_lm(Engine(), cached=True))
    [record] = shelf.records.values()
    assert {"cost", "usage", "outputs", "responses"} <= set(record)
    assert record["usage"]["prompt_tokens"] == 10
    assert compat.is_record(record)


def test_dspys_own_key_leaves_addresses_out_and_ours_does_not(shelf: Shelf) -> None:
    requests = [{"model": "m", "api_base": f"http://{name}", "api_key": name} for name in ("a", "b")]
    ignored = ["api_key", "api_base", "base_url"]
    plain = dspy.clients.cache.Cache(False, False, None)  # noqa: FBT003 - DSPy's signature
    assert len({plain.cache_key(request, ignored) for request in requests}) == 1
    for request in (*requests, {**requests[0], "api_key": "another"}):
        dspy.cache.get(request, ignored)
    assert shelf.asked[0] == shelf.asked[2] != shelf.asked[1]


async def test_another_rollout_is_another_call(shelf: Shelf) -> None:
    engine = Engine()
    lm = build_lm(engine, cached=True, temperature=1.0)
    predict = dspy.Predict(RouteTicket)
    with compat.overrides(lm=lm):
        for rollout in (1, 2, 1):
            await predict.acall(ticket="x", config={"rollout_id": rollout})
    assert (len(engine.requests), len(shelf.records)) == (2, 2)


async def test_outside_of_a_scope_nothing_is_found_and_nothing_kept() -> None:
    own, shelf, engine = dspy.cache, Shelf(), Engine()
    compat.install_cache(shelf, lambda: "")
    try:
        for _ in range(2):
            await ask(build_lm(engine, cached=True))
    finally:
        dspy.cache = own
    assert (len(engine.requests), shelf.records, shelf.asked) == (2, {}, [])


async def test_what_is_no_record_of_ours_is_not_kept(shelf: Shelf) -> None:
    for value in ({"text": "x"}, ["x"], object()):
        dspy.cache.put({"model": "m"}, value)
    assert shelf.records == {}
    dspy.cache.put({"model": "m", "messages": [object()]}, {"_dspy_format": "dspy-lm15-result-v1"})
    assert dspy.cache.get({"model": "m", "messages": [object()]}) is None
    assert shelf.asked == []


# --- callbacks --------------------------------------------------------------------------------------------------


async def test_a_callback_holds_the_live_answer_and_its_errors_are_only_logged() -> None:
    class Meddler(BaseCallback):  # type: ignore[misc]  # dspy has no types
        def on_lm_end(self, call_id: str, outputs: Any, exception: Any = None) -> None:
            del call_id, exception
            outputs[0] = outputs[0].replace("billing", "shipping")
            raise RuntimeError("unseen")

    prediction = await ask(build_lm(Engine()), callbacks=[Meddler()])
    assert prediction.queue == "shipping"


# --- programs ---------------------------------------------------------------------------------------------------


def test_dspy_loads_what_does_not_fit() -> None:
    state = Triage().dump_state()
    strange = {
        "route": {**state["route"], "signature": {**state["route"]["signature"], "fields": []}},
        "unheard of": {"demos": [1]},
    }
    program = Triage()
    compat.load_state(program, strange)
    assert list(program.route.signature.fields) == ["ticket", "queue"]


def test_a_loaded_predictor_has_a_signature_of_its_own() -> None:
    """What the remembered prompts are kept by."""
    programs = [Triage(), Triage()]
    for program in programs:
        compat.load_state(program, Triage().dump_state())
    assert len({id(program.route.signature) for program in programs} | {id(RouteTicket)}) == 3
