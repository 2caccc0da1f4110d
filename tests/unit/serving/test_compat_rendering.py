"""The remembered part of a prompt is the one that DSPy renders, whatever is in it."""

import base64
import copy
import gc
import itertools
import json
import weakref
from typing import Any, Literal

import dspy
import pydantic
import pytest
from dspy import lm15
from tests.unit.serving.programs import RouteTicket
from tests.unit.serving.test_program import load
from tests.unit.serving.worlds import World, get_stub_adapter

from dspy_server import compat

PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()


class Person(pydantic.BaseModel):
    name: str
    age: int | None = None


class Typed(dspy.Signature):
    """Many types at once.

    Over several lines, with "quotes" and {braces}.
    """

    people: list[Person] = dspy.InputField(desc="who was there")
    limits: dict[str, float] = dspy.InputField()
    mood: Literal["good", "bad", "良い"] = dspy.OutputField()
    count: int = dspy.OutputField()
    sure: bool = dspy.OutputField()
    eldest: Person | None = dspy.OutputField()
    tags: list[str] = dspy.OutputField()


class Seen(dspy.Signature):
    photo: dspy.Image = dspy.InputField()
    question: str = dspy.InputField()
    caption: str = dspy.OutputField()


class Talk(dspy.Signature):
    history: dspy.History = dspy.InputField()
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()


class Thought(dspy.Signature):
    question: str = dspy.InputField()
    reasoning: dspy.Reasoning = dspy.OutputField()
    answer: str = dspy.OutputField()


IMAGE = dspy.Image(f"data:image/png;base64,{PIXEL}")
CASES: dict[str, tuple[Any, list[dict[str, Any]], dict[str, Any]]] = {
    "no demonstrations": (RouteTicket, [], {"ticket": "x"}),
    "text": (RouteTicket, [{"ticket": "a", "queue": "billing", "augmented": True}], {"ticket": "x"}),
    "chinese": (
        RouteTicket,
        [{"ticket": "我的发票在哪里。", "queue": "billing"}] * 3,
        {"ticket": "包裹\n\n呢"},
    ),
    "incomplete": (
        Typed,
        [{"people": [], "mood": "bad"}, {"mood": "bad"}, {"people": [], "limits": None, "mood": None}],
        {"people": [Person(name="x")], "limits": {"a": 0.5}},
    ),
    "types": (
        Typed,
        [
            {
                "people": [{"name": "李", "age": 3}, {"name": "“x”", "age": None}],
                "limits": {"z": 1.5, "a": -0.0},
                "mood": "良い",
                "count": 2,
                "sure": False,
                "eldest": {"name": "李", "age": 3},
                "tags": ["a", "b\n[[ ## mood ## ]]"],
            }
        ],
        {"people": [Person(name="x", age=1)], "limits": {}},
    ),
    "images": (
        Seen,
        [{"photo": IMAGE, "question": "?", "caption": "one"}],
        {"photo": IMAGE, "question": "and this?"},
    ),
    "saved images": (
        Seen,
        [{"photo": IMAGE.serialize_model(), "question": "?", "caption": "one"}],
        {"photo": IMAGE, "question": "and this?"},
    ),
    "a conversation": (
        Talk,
        [{"history": {"messages": [{"question": "1", "answer": "2"}]}, "question": "3", "answer": "4"}],
        {
            "history": dspy.History(
                messages=[{"question": "你好", "answer": "hi"}, {"question": "b", "answer": "c"}]
            ),
            "question": "d",
        },
    ),
    "reasoning": (Thought, [{"question": "a", "reasoning": "b", "answer": "c"}], {"question": "d"}),
}


def build_predictor(signature: Any, demos: list[dict[str, Any]]) -> Any:
    """As the server has it: the state of an artifact, loaded into a fresh predictor."""
    predictor = dspy.Predict(signature)
    state = dspy.Predict(signature).dump_state()
    predictor.load_state({**state, "demos": demos})
    return predictor


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What DSPy renders by itself from now on: `system` and `demos`."""
    calls: list[str] = []
    for name in ("format_system_message", "format_demos"):
        own = getattr(dspy.ChatAdapter, name)

        def count(*args: Any, _own: Any = own, _name: str = name) -> Any:
            calls.append(_name)
            return _own(*args)

        monkeypatch.setattr(dspy.ChatAdapter, name, count)
    return calls


@pytest.mark.parametrize("case", CASES)
def test_the_remembered_prompt_is_dspys_own_and_its_prefix_is_not_rendered_again(
    case: str, rendered: list[str]
) -> None:
    signature, demos, inputs = CASES[case]
    predictor = build_predictor(signature, demos)
    expected = dspy.ChatAdapter().format(predictor.signature, predictor.demos, dict(inputs))
    adapter = get_stub_adapter()
    assert adapter.remember(predictor)
    rendered.clear()
    assert adapter.format(predictor.signature, predictor.demos, dict(inputs)) == expected
    assert rendered == []


def test_the_second_call_in_json_is_rendered_as_dspy_does() -> None:
    for signature, demos, inputs in CASES.values():
        predictor = build_predictor(signature, demos)
        adapter = get_stub_adapter()
        adapter.remember(predictor)
        fallback = adapter._make_json_adapter_fallback()
        args = (predictor.signature, predictor.demos)
        assert fallback.format(*args, dict(inputs)) == dspy.JSONAdapter().format(*args, dict(inputs))


async def test_an_lm_gets_the_remembered_prompt() -> None:
    asked: list[Any] = []

    class Engine:
        async def complete(self, request: Any) -> Any:
            asked.append(request)
            return lm15.Response(
                id=None,
                model=request.model,
                message=lm15.Message.assistant("[[ ## queue ## ]]\nbilling\n\n[[ ## completed ## ]]"),
                finish_reason="stop",
                usage=lm15.Usage(),
            )

    predictor = build_predictor(*CASES["chinese"][:2])
    lm = compat.build_lm("served/x", compat.StubEngine(), Engine(), sampling={})
    adapter = get_stub_adapter()
    for one in (dspy.ChatAdapter(), adapter, adapter):
        with compat.overrides(lm=lm, adapter=one):
            await predictor.acall(ticket="包裹")
        adapter.remember(predictor)
    assert asked[0] == asked[1] == asked[2]


@pytest.mark.parametrize("change", ["a demonstration", "one more", "other demonstrations", "instructions"])
def test_what_changes_after_the_warm_up_is_rendered_anew(change: str) -> None:
    predictor = build_predictor(RouteTicket, [{"ticket": "a", "queue": "billing"}])
    adapter = get_stub_adapter()
    adapter.remember(predictor)
    before = adapter.format(predictor.signature, predictor.demos, {"ticket": "x"})
    match change:
        case "a demonstration":
            predictor.demos[0]["queue"] = "shipping"
        case "one more":
            predictor.demos.append({"ticket": "b", "queue": "account"})
        case "other demonstrations":
            predictor.demos = [{"ticket": "c", "queue": "account"}]
        case _:
            predictor.signature.instructions = "Do otherwise."
    after = adapter.format(predictor.signature, predictor.demos, {"ticket": "x"})
    assert after != before
    assert after == dspy.ChatAdapter().format(predictor.signature, predictor.demos, {"ticket": "x"})


def test_demonstrations_that_are_equal_but_read_otherwise_are_rendered_anew() -> None:
    demo = {"people": [], "limits": {}, "mood": "bad", "count": 1, "sure": True, "eldest": None, "tags": []}
    predictor = build_predictor(Typed, [demo])
    adapter = get_stub_adapter()
    adapter.remember(predictor)
    others = [{**demo, "count": True, "sure": 1}]
    assert others == predictor.demos
    inputs = {"people": [], "limits": {}}
    expected = dspy.ChatAdapter().format(predictor.signature, others, dict(inputs))
    assert adapter.format(predictor.signature, others, dict(inputs)) == expected


def test_who_changes_a_prompt_changes_this_one_only() -> None:
    predictor = build_predictor(RouteTicket, [{"ticket": "a", "queue": "billing"}])
    adapter = get_stub_adapter()
    adapter.remember(predictor)
    before = copy.deepcopy(adapter.format(predictor.signature, predictor.demos, {"ticket": "x"}))
    for message in adapter.format(predictor.signature, predictor.demos, {"ticket": "x"}):
        message["content"] = "spoilt"
    assert adapter.format(predictor.signature, predictor.demos, {"ticket": "x"}) == before


def test_a_prefix_leaves_with_its_program() -> None:
    adapter = get_stub_adapter()
    predictor = build_predictor(RouteTicket, [{"ticket": "a", "queue": "billing"}])
    adapter.remember(predictor)
    gone = weakref.ref(predictor.signature)
    del predictor
    gc.collect()
    assert gone() is None
    assert len(adapter._prefixes) == 0


def test_demonstrations_that_render_differently_each_time_are_left_to_dspy(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = world.slot_path(0).read_bytes()
    assert load(data).notes == ()
    own, number = dspy.ChatAdapter.format_assistant_message_content, itertools.count()

    def vary(*args: Any, **more: Any) -> str:
        return f"{own(*args, **more)}{next(number)}"

    monkeypatch.setattr(dspy.ChatAdapter, "format_assistant_message_content", vary)
    adapter = get_stub_adapter()
    predictor = build_predictor(RouteTicket, json.loads(data)["route"]["demos"])
    assert not adapter.remember(predictor)
    assert len(adapter._prefixes) == 0
    assert any("render differently" in note for note in load(data).notes)
