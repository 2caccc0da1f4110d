"""`GET /openapi.json` says what the program really takes and gives."""

import re
from pathlib import Path
from typing import Any

import dspy
import jsonschema
import pytest
from pydantic import BaseModel
from starlette.routing import Route
from tests.unit.serving.harness import ask, run
from tests.unit.serving.test_stream import write_reply
from tests.unit.serving.worlds import World, until

from dspy_server import schema
from dspy_server.app import build_app
from dspy_server.contract import ProblemCode

METHODS = {"get", "post"}


def resolve(document: dict[str, Any], reference: str) -> Any:
    value: Any = document
    for part in reference.removeprefix("#/").split("/"):
        value = value[part]
    return value


def list_references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for item in value.values() for found in list_references(item)]
    return [found for item in value for found in list_references(item)] if isinstance(value, list) else []


def check(document: dict[str, Any], name: str, value: Any) -> None:
    """Raise unless `value` is what the document says of `name`."""
    jsonschema.validate(value, {**document, "$ref": f"#/components/schemas/{name}"})


async def test_fields_have_types_options_and_descriptions(
    world: World, base_url: str, tmp_path: Path
) -> None:
    write_reply(world, tmp_path)
    async with run(world, base_url, wait_for=("rev2",)) as (_, client):
        document = (await client.get("/openapi.json")).json()
        answer = (await ask(client, "money back")).json()
        wrong = (await client.post("/ask", json={})).json()
    schemas = document["components"]["schemas"]
    assert schemas["Inputs"]["properties"]["ticket"] == {
        "type": "string",
        "title": "Ticket",
        "description": "what the customer wrote",
    }
    assert (schemas["Inputs"]["required"], schemas["Inputs"]["additionalProperties"]) == (["ticket"], False)
    outputs = schemas["Outputs"]["properties"]
    assert list(outputs) == ["mood", "answer", "advice"]
    assert outputs["mood"]["enum"] == ["calm", "angry"]
    assert outputs["answer"]["description"] == "two sentences at most"
    assert "description" not in outputs["advice"]
    check(document, "Answer", answer)
    check(document, "Problem", wrong)
    with pytest.raises(jsonschema.ValidationError):
        check(document, "Answer", {**answer, "outputs": {"mood": "bored"}})
    with pytest.raises(jsonschema.ValidationError):
        check(document, "Question", {"inputs": {"ticket": 7}})


async def test_the_document_is_whole(world: World, base_url: str) -> None:
    world.write_table(world.route(0, 100, "stable"))
    async with run(world, base_url) as (server, client):
        document = (await client.get("/openapi.json")).json()
        routes = {route.path for route in build_app(server).routes if isinstance(route, Route)}
    assert document["openapi"] == "3.1.0"
    assert set(document["paths"]) == routes - {"/openapi.json"}
    for reference in list_references(document):
        assert resolve(document, reference)
    operations = [
        (path, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    ]
    assert len({operation["operationId"] for _, operation in operations}) == len(operations)
    for path, operation in operations:
        parameters = {item["name"] for item in document["paths"][path].get("parameters", [])}
        assert parameters == set(re.findall(r"{(\w+)}", path))
        for code, response in operation["responses"].items():
            target = resolve(document, response["$ref"]) if "$ref" in response else response
            assert target["description"]
            media = "application/problem+json" if code >= "400" else None
            assert media is None or media in target["content"]
    for item in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(item)
    assert set(document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]) == set(ProblemCode)


async def test_the_document_is_stables_and_changes_with_it(
    world: World, base_url: str, tmp_path: Path
) -> None:
    async with run(world, base_url, wait_for=()) as (server, client):
        empty = (await client.get("/openapi.json")).json()
        write_reply(world, tmp_path)
        reply = world.route(2, 100, "canary", module="tests.unit.serving.programs:Reply")
        world.write_table(world.route(0, 100, "stable"), reply | {"weight": 0})
        server.keeper.poll()
        await until(lambda: server.keeper.current is not None)
        triage = (await client.get("/openapi.json")).json()
        again = await client.get("/openapi.json")
        world.write_table(world.route(0, 0, "canary"), reply | {"track": "stable"})
        server.keeper.poll()
        await until(lambda: server.keeper.current is not None and server.keeper.current.generation == 3)
        after = (await client.get("/openapi.json")).json()
    outputs = [d["components"]["schemas"]["Outputs"].get("properties", {}) for d in (empty, triage, after)]
    assert [list(item) for item in outputs] == [[], ["queue"], ["mood", "answer", "advice"]]
    assert again.json() == triage


class Person(BaseModel):
    name: str
    children: "list[Person]" = []


class Odd:
    """A type that JSON does not know."""


ODD = Odd()


class Family(dspy.Signature):
    """Has nested and optional types."""

    people: list[Person] = dspy.InputField()
    oldest: Person | None = dspy.OutputField()
    ages: dict[str, int] = dspy.OutputField()


class Asking(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    def forward(self, question: str, limit: int = 3, odd: Odd = ODD) -> Any:
        return self.predict(question=question)


def test_a_bare_predictor_promises_its_fields_and_nested_types_have_a_name() -> None:
    program = dspy.Predict(Family)
    described = schema.describe(program, schema.build_input_schema(program, max_chars=10))
    assert described["Outputs"]["required"] == ["oldest", "ages"]
    assert described["Outputs"]["additionalProperties"] is False
    assert described["Inputs"]["properties"]["people"]["items"] == {"$ref": "#/components/schemas/Person"}
    assert described["Person"]["properties"]["name"]["type"] == "string"


def test_defaults_of_forward_are_not_required_and_its_outputs_not_promised() -> None:
    program = Asking()
    described = schema.describe(program, schema.build_input_schema(program, max_chars=10))
    assert described["Inputs"]["required"] == ["question"]
    assert described["Inputs"]["properties"]["limit"]["default"] == 3
    assert "type" not in described["Inputs"]["properties"]["odd"]
    assert "required" not in described["Outputs"]
    assert described["Outputs"]["additionalProperties"] is True
