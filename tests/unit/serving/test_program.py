import sys
from pathlib import Path
from typing import Any, Literal

import dspy
import pytest
from pydantic import BaseModel
from tests.unit.serving.programs import Conversation, Triage
from tests.unit.serving.worlds import World, dump_program, get_stub_adapter

from dspy_server import program, schema
from dspy_server.artifact import get_digest
from dspy_server.errors import ModuleError, SignatureError, SourceError, WarmupError


def load(data: bytes, module: str = "tests.unit.serving.programs:Triage") -> program.Program:
    return program.load_program(
        data, revision="r", sha256=get_digest(data), module=module, adapter=get_stub_adapter()
    )


def test_a_program_carries_its_artifacts_demonstrations(world: World) -> None:
    loaded = load(world.slot_path(0).read_bytes())
    assert [demo["queue"] for demo in loaded.module.route.demos] == ["billing", "billing"]
    assert (loaded.revision, loaded.dspy_version) == ("r", dspy.__version__)


def test_two_programs_of_one_module_share_nothing(world: World) -> None:
    first, second = (load(world.slot_path(slot).read_bytes()) for slot in (0, 1))
    assert first.module.route.demos[0]["queue"] == "billing"
    assert second.module.route.demos[0]["queue"] == "shipping"


def test_an_artifact_of_another_module_is_a_signature_mismatch(world: World) -> None:
    with pytest.raises(SignatureError):
        load(world.slot_path(0).read_bytes(), "tests.unit.serving.programs:Other")


def test_a_program_that_cannot_render_its_prompt_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise KeyError("queue")

    monkeypatch.setattr("dspy_server.compat.CountingChatAdapter.remember", fail)
    with pytest.raises(WarmupError):
        load(world.slot_path(0).read_bytes())


def test_a_program_that_takes_a_conversation_is_loaded(tmp_path: Path) -> None:
    data = dump_program(Conversation(), tmp_path)
    loaded = load(data, "tests.unit.serving.programs:Conversation")
    history = {"messages": [{"question": "a", "answer": "b"}]}
    inputs = loaded.inputs.parse({"history": history, "question": "c"})
    assert inputs["history"].messages == history["messages"]


def test_mounted_code_is_found_and_shadows_nothing(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise RuntimeError('shadowed')")
    (tmp_path / "mounted_triage.py").write_text("import json\nVALUE = json.dumps([1])\n")
    program.add_source(tmp_path)
    program.add_source(tmp_path)
    try:
        assert sys.path.count(str(tmp_path)) == 1
        sys.modules.pop("json", None)
        assert program.find_attribute("mounted_triage:VALUE") == "[1]"
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("mounted_triage", None)


@pytest.mark.parametrize("spec", ["", "module", "module:", ":Attribute", "no_such_module:X", "json:Missing"])
def test_a_spec_that_names_nothing_is_a_module_error(spec: str) -> None:
    with pytest.raises(ModuleError):
        program.find_attribute(spec)


def test_code_that_ends_the_interpreter_on_import_is_not_swallowed(tmp_path: Path) -> None:
    (tmp_path / "mounted_exit.py").write_text("raise SyntaxError('broken')")
    program.add_source(tmp_path)
    try:
        with pytest.raises(ModuleError, match="SyntaxError"):
            program.find_attribute("mounted_exit:X")
    finally:
        sys.path.remove(str(tmp_path))


@pytest.mark.parametrize("spec", ["json:JSONDecoder", "tests.unit.serving.programs:Broken", "json:dumps"])
def test_what_is_no_program_is_a_module_error(spec: str) -> None:
    with pytest.raises(ModuleError):
        program.build_module(spec)


def test_a_program_instance_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    instance = Triage()
    monkeypatch.setattr("tests.unit.serving.programs.INSTANCE", instance, raising=False)
    assert program.build_module("tests.unit.serving.programs:INSTANCE") is not instance


def test_a_coroutine_function_is_no_scoring_function(monkeypatch: pytest.MonkeyPatch) -> None:
    async def score(_inputs: Any, _prediction: Any) -> float:
        return 1.0

    monkeypatch.setattr("tests.unit.serving.programs.ascore", score, raising=False)
    with pytest.raises(ModuleError, match="plain function"):
        program.find_function("tests.unit.serving.programs:ascore")


def test_a_missing_artifact_is_unreadable_and_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"nothing\.json"):
        program.read_artifact(tmp_path / "nothing.json")


class Place(BaseModel):
    city: str


class Typed(dspy.Signature):
    count: int = dspy.InputField()
    kind: Literal["a", "b"] = dspy.InputField()
    place: Place = dspy.InputField()
    answer: str = dspy.OutputField()


class Optional(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = dspy.Predict("question, hint -> answer")

    def forward(self, question: str, hint: str = "none", **_: Any) -> Any:
        return self.inner(question=question, hint=hint)


def test_inputs_get_the_signatures_types() -> None:
    inputs = schema.build_input_schema(dspy.Predict(Typed), max_chars=100)
    parsed = inputs.parse({"count": 3, "kind": "a", "place": {"city": "Bern"}})
    assert parsed == {"count": 3, "kind": "a", "place": Place(city="Bern")}
    with pytest.raises(schema.InputError, match="kind"):
        inputs.parse({"count": 3, "kind": "c", "place": {"city": "Bern"}})


def test_a_parameter_with_a_default_may_be_left_out() -> None:
    inputs = schema.build_input_schema(Optional(), max_chars=100)
    assert inputs.parse({"question": "q"}) == {"question": "q"}
    assert set(inputs.model.model_fields) == {"question", "hint"}


@pytest.mark.parametrize(
    "build", [lambda: dspy.ChainOfThought("a, b -> c"), lambda: dspy.ReAct("a, b -> c", tools=[])]
)
def test_a_module_of_dspy_takes_what_its_signature_says(build: Any) -> None:
    inputs = schema.build_input_schema(build(), max_chars=100)
    assert set(inputs.model.model_fields) == {"a", "b"}


def test_a_mistake_names_its_field_and_never_its_value() -> None:
    inputs = schema.build_input_schema(Triage(), max_chars=20)
    for value in ({"ticket": ["private"]}, {"ticket": "private " * 9}, {"other": "private"}):
        with pytest.raises(schema.InputError) as caught:
            inputs.parse(value)
        assert caught.value.mistakes
        assert "private" not in str(caught.value)


def test_outputs_are_plain_json() -> None:
    prediction = dspy.Prediction(place=Place(city="Bern"), tags={"a"}, number=1.5)
    assert schema.encode_outputs(prediction) == {"place": {"city": "Bern"}, "tags": ["a"], "number": 1.5}


def test_what_is_no_prediction_is_a_type_error() -> None:
    with pytest.raises(TypeError, match=r"not a dspy\.Prediction"):
        schema.encode_outputs({"answer": 1})
