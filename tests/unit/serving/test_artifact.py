import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.serving.programs import Other, RouteTicket, Triage
from tests.unit.serving.worlds import build_demos, dump_program

from dspy_server import compat
from dspy_server.artifact import MAX_BYTES, Shape, check, get_digest
from dspy_server.errors import DigestError, LoadError, RefusedError, SignatureError


class Nested(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = Triage()
        self.many = [dspy.Predict("a -> b"), dspy.ChainOfThought("a -> c")]
        self.named = {"x": dspy.Predict("a -> d")}


def reward(_: Any, __: Any) -> float:
    return 1.0


def search(query: str) -> str:
    return query


KINDS: dict[str, Callable[[], Any]] = {
    "Predict": lambda: dspy.Predict(RouteTicket),
    "ChainOfThought": lambda: dspy.ChainOfThought(RouteTicket),
    "MultiChainComparison": lambda: dspy.MultiChainComparison(RouteTicket),
    "ReAct": lambda: dspy.ReAct(RouteTicket, tools=[search]),
    "ProgramOfThought": lambda: dspy.ProgramOfThought("question -> answer"),
    "CodeAct": lambda: dspy.CodeAct("question -> answer", tools=[search]),
    "RLM": lambda: dspy.RLM("context, question -> answer"),
    "Refine": lambda: dspy.Refine(Triage(), N=2, reward_fn=reward, threshold=1.0),
    "BestOfN": lambda: dspy.BestOfN(Triage(), N=2, reward_fn=reward, threshold=1.0),
    "nested modules": Nested,
    "a module": Triage,
}


def check_state(state: Any, shape: Shape | None) -> Any:
    data = json.dumps(state).encode()
    return check(data, get_digest(data), shape, dspy_version=compat.DSPY_VERSION)


@pytest.fixture
def compiled() -> Triage:
    program = Triage()
    program.route.demos = build_demos("billing", 2)
    return program


@pytest.fixture
def state(compiled: Triage, tmp_path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(dump_program(compiled, tmp_path))
    return value


SHAPE = compat.get_shape(Triage())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # DSPy's own, about some of its modules
@pytest.mark.parametrize("kind", KINDS)
def test_every_artifact_that_dspy_writes_is_accepted_and_loads(kind: str, tmp_path: Path) -> None:
    data = dump_program(KINDS[kind](), tmp_path)
    fresh = KINDS[kind]()
    checked = check(data, get_digest(data), compat.get_shape(fresh), dspy_version=compat.DSPY_VERSION)
    compat.load_state(fresh, checked.state)
    assert json.loads(dump_program(fresh, tmp_path)) == json.loads(data)
    assert checked.notes == ()


def test_what_optimizers_write_is_accepted(tmp_path: Path) -> None:
    program = dspy.ChainOfThought(RouteTicket)
    examples = [demo.with_inputs("ticket") for demo in build_demos("billing", 20)]
    labelled = dspy.LabeledFewShot(k=16).compile(program, trainset=examples)
    labelled.predict.demos.append({"augmented": True, "ticket": "t", "reasoning": "r", "queue": "billing"})
    labelled.predict.signature = labelled.predict.signature.with_instructions("Route with care.")
    data = dump_program(labelled, tmp_path)
    checked = check(data, get_digest(data), compat.get_shape(program), dspy_version=compat.DSPY_VERSION)
    assert len(checked.state["predict"]["demos"]) == 17
    assert checked.state["predict"]["signature"]["instructions"] == "Route with care."


def test_other_bytes_are_a_digest_mismatch(state: dict[str, Any]) -> None:
    with pytest.raises(DigestError):
        check(json.dumps(state).encode(), "0" * 64, SHAPE, dspy_version=compat.DSPY_VERSION)


def set_at(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """A mutation that puts `value` at `a.b.0.c`."""

    def mutate(state: dict[str, Any]) -> None:
        target: Any = state
        *parents, last = path.split(".")
        for part in parents:
            target = target[int(part) if isinstance(target, list) else part]
        target[last] = value

    return mutate


REFUSED = {
    "a key beside the predictors": set_at("hook", {}),
    "a key of a predictor": set_at("route.engine", {"class": "os:system"}),
    "an old signature": set_at("route.extended_signature", {}),
    "source code": set_at("route.source", "import os"),
    "a key of a signature": set_at("route.signature.code", "x"),
    "a key of a field": set_at("route.signature.fields.0.type", "x"),
    "a key of a demo": set_at("route.demos.0.api_base", "http://decoy"),
    "a decision for no decision output": set_at("route.fields", {"ticket": {"threshold": 0.5}}),
    "a key of a decision": set_at("route.fields", {"queue": {"engine": 1}}),
    "a key of the metadata": set_at("metadata.hook", 1),
    "a key of the versions": set_at("metadata.dependency_versions.torch", "1"),
    "another major dspy": set_at("metadata.dependency_versions.dspy", "2.6.0"),
    "no version": set_at("metadata.dependency_versions.dspy", 3),
    "no metadata": set_at("metadata", None),
    "instructions that are no text": set_at("route.signature.instructions", ["x"]),
    "a prefix that is no text": set_at("route.signature.fields.0.prefix", 3),
    "fields that are no list": set_at("route.signature.fields", {}),
    "demos that are no list": set_at("route.demos", {}),
    "a demo that is no object": set_at("route.demos", ["x"]),
    "too many demos": set_at("route.demos", [{"ticket": "t"}] * 1001),
    "traces that are no list": set_at("route.traces", "x"),
    "a predictor that is no object": set_at("route", []),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_on_the_allow_list_is_refused(what: str, state: dict[str, Any]) -> None:
    check_state(state, SHAPE)
    REFUSED[what](state)
    with pytest.raises(RefusedError) as caught:
        check_state(state, SHAPE)
    assert len(caught.value.reasons) == 1


@pytest.mark.parametrize("key", ["traces", "train", "demos", "signature", "lm"])
def test_a_missing_key_is_refused(key: str, state: dict[str, Any]) -> None:
    del state["route"][key]
    with pytest.raises(LoadError):
        check_state(state, SHAPE)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"hello",
        b"\xff",
        b'{"route": {}, "route": {}}',
        b'{"route": NaN}',
        b'{"route": Infinity}',
        b'{"a":' * 40 + b"1" + b"}" * 40,
        b"[" * 100_000,
        b'{"metadata": {}}',
        b'{"route": 1e999}',
        rb'{"route": "\ud800"}',
        rb'{"\udfff": 1}',
        b'{"route": ' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_no_strict_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(RefusedError) as caught:
        check(data, get_digest(data), SHAPE, dspy_version=compat.DSPY_VERSION)
    assert len(caught.value.reasons) == 1


def test_whole_surrogate_pairs_are_text(state: dict[str, Any]) -> None:
    state["route"]["signature"]["instructions"] = "\N{GRINNING FACE}"
    data = json.dumps(state, ensure_ascii=True).encode()
    assert rb"\ud83d\ude00" in data
    checked = check(data, get_digest(data), SHAPE, dspy_version=compat.DSPY_VERSION)
    assert checked.state["route"]["signature"]["instructions"] == "\N{GRINNING FACE}"


def test_millions_of_empty_lists_are_refused_before_they_are_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dspy_server.artifact.json.loads", None)
    data = b'{"route":[' + b"[]," * 1_500_000 + b"1]}"
    with pytest.raises(RefusedError, match="more than 2000000 values"):
        check(data, get_digest(data), SHAPE, dspy_version=compat.DSPY_VERSION)


def test_an_oversized_artifact_is_refused() -> None:
    data = b" " * (MAX_BYTES + 1)
    with pytest.raises(RefusedError, match="larger"):
        check(data, get_digest(data), SHAPE, dspy_version=compat.DSPY_VERSION)


def test_an_artifact_of_another_program_is_a_signature_mismatch(tmp_path: Path) -> None:
    other = Other()
    other.route.demos = [dspy.Example(question="q", context="c", answer="a")]
    with pytest.raises(SignatureError, match="3 fields, the module has 2"):
        check_state(json.loads(dump_program(other, tmp_path)), SHAPE)


def test_the_same_count_of_other_fields_is_a_signature_mismatch(tmp_path: Path) -> None:
    class Renamed(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.route = dspy.Predict("text -> category")

    with pytest.raises(SignatureError, match="'text'"):
        check_state(json.loads(dump_program(Renamed(), tmp_path)), SHAPE)


def test_a_description_that_the_code_itself_has_is_no_mismatch(tmp_path: Path) -> None:
    class Described(dspy.Signature):
        """Route."""

        ticket: str = dspy.InputField(desc="${text}")
        queue: str = dspy.OutputField()

    program = dspy.Predict(Described)
    data = dump_program(program, tmp_path)
    assert check_state(json.loads(data), compat.get_shape(program)).notes == ()


def test_swapped_fields_are_a_signature_mismatch(state: dict[str, Any]) -> None:
    state["route"]["signature"]["fields"].reverse()
    with pytest.raises(SignatureError):
        check_state(state, SHAPE)


def test_other_predictors_are_a_signature_mismatch(state: dict[str, Any]) -> None:
    state["classify"] = state.pop("route")
    with pytest.raises(SignatureError, match="no state for the module's predictors route"):
        check_state(state, SHAPE)


def test_a_rewritten_prefix_is_a_note(state: dict[str, Any]) -> None:
    state["route"]["signature"]["fields"][1]["prefix"] = "The best queue:"
    assert check_state(state, SHAPE).notes == ("route.signature.fields[1]: new prefix 'The best queue:'",)


def test_an_embedded_lm_is_dropped_and_reported(state: dict[str, Any]) -> None:
    state["route"]["lm"] = {"model": "openai/gpt-4o", "api_base": "http://decoy", "api_key": "sk-decoy"}
    checked = check_state(state, SHAPE)
    assert checked.state["route"]["lm"] is None
    assert "dropped" in checked.notes[0]
    assert "decoy" not in checked.notes[0]


def test_traces_and_train_are_emptied(state: dict[str, Any]) -> None:
    state["route"]["traces"] = [{"any": "thing"}]
    assert check_state(state, SHAPE).state["route"]["traces"] == []


def test_a_minor_version_apart_is_a_note(state: dict[str, Any]) -> None:
    state["metadata"]["dependency_versions"]["dspy"] = "3.0.0"
    assert "written by dspy 3.0.0" in check_state(state, SHAPE).notes[0]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
PATHS = st.sampled_from(
    [
        ("route",),
        ("route", "lm"),
        ("route", "demos"),
        ("route", "signature"),
        ("route", "signature", "fields"),
        ("route", "traces"),
        ("metadata",),
        ("route", "fields"),
        ("route", "x"),
        ("x",),
    ]
)
BASE: dict[str, Any] = {
    "route": {
        "traces": [],
        "train": [],
        "demos": [],
        "signature": {
            "instructions": "i",
            "fields": [
                {"prefix": "Ticket:", "description": "${ticket}"},
                {"prefix": "Queue:", "description": "${queue}"},
            ],
        },
        "lm": None,
    },
    "metadata": {
        "dependency_versions": {"python": "3.11", "dspy": compat.DSPY_VERSION, "cloudpickle": "3.1"}
    },
}


@given(path=PATHS, value=JSON)
def test_whatever_is_accepted_brings_no_lm_and_no_unknown_key(path: tuple[str, ...], value: Any) -> None:
    state = copy.deepcopy(BASE)
    target = state
    for part in path[:-1]:
        target = target[part]
    target[path[-1]] = value
    try:
        checked = check_state(state, SHAPE)
    except LoadError:
        return
    fresh = Triage()
    compat.load_state(fresh, checked.state)
    assert fresh.route.lm is None
    assert set(vars(fresh.route)) == set(vars(Triage().route))
