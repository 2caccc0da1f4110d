"""Each rewrite from pydantic's JSON Schema, and each refusal of what a structural schema cannot say."""

from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, create_model

from dspy_operator.api.structural import build_structural


def schema_of(**fields: Any) -> dict[str, Any]:
    model = create_model("Probe", **fields)
    properties: dict[str, Any] = build_structural(model.model_json_schema())["properties"]
    return properties


def test_an_optional_field_is_its_type_without_a_default() -> None:
    assert schema_of(a=int | None) == {"a": {"type": "integer"}}


def test_a_constant_is_an_enumeration_of_one() -> None:
    assert schema_of(a=Literal["x"]) == {"a": {"type": "string", "enum": ["x"]}}


def test_references_are_inlined_and_keep_both_rules() -> None:
    class Inner(BaseModel):
        model_config = {"json_schema_extra": {"x-kubernetes-validations": [{"rule": "inner"}]}}
        x: int

    class Outer(BaseModel):
        part: Inner | None = Field(
            None, description="Mine.", json_schema_extra={"x-kubernetes-validations": [{"rule": "outer"}]}
        )

    part = build_structural(Outer.model_json_schema())["properties"]["part"]
    assert part["description"] == "Mine."
    assert [rule["rule"] for rule in part["x-kubernetes-validations"]] == ["inner", "outer"]
    assert part["properties"] == {"x": {"type": "integer"}}


def test_recursion_is_refused_by_name() -> None:
    class Node(BaseModel):
        below: "Node | None" = None

    with pytest.raises(ValueError, match="Node refers to itself"):
        build_structural(Node.model_json_schema())


@pytest.mark.parametrize(
    ("schema", "sentence"),
    [
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, "cannot choose between types"),
        ({"type": "integer", "exclusiveMinimum": 0}, "exclusiveMinimum"),
        ({"type": "array", "prefixItems": []}, "prefixItems"),
        ({"type": "array", "uniqueItems": True, "items": {"type": "string"}}, "uniqueItems"),
        ({"type": "array"}, "needs items"),
        ({"type": "object"}, "needs properties"),
        ({"description": "anything"}, "needs a type"),
    ],
)
def test_what_the_api_server_would_refuse_is_refused_here(schema: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        build_structural(schema)
