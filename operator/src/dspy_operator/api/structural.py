"""pydantic's JSON Schema -> the structural OpenAPI schema that a Kubernetes API server accepts.

Each rewrite answers one refusal, or one silent loss, of a real API server; what cannot be said is an error.
"""

from typing import Any, Final

Schema = dict[str, Any]

_DROPPED: Final = frozenset({"title", "$defs", "default", "examples", "deprecated", "writeOnly", "readOnly"})
_REFUSED: Final = frozenset(
    {
        "oneOf",
        "prefixItems",
        "propertyNames",
        "patternProperties",
        "uniqueItems",
        "not",
        "allOf",
        "contentMediaType",
        "exclusiveMinimum",
        "exclusiveMaximum",
    }
)
_KEEP_UNKNOWN: Final = "x-kubernetes-preserve-unknown-fields"
_OBJECT_KEYS: Final = frozenset({"properties", "additionalProperties", _KEEP_UNKNOWN})


def build_structural(schema: Schema) -> Schema:
    """Rewrite a whole schema as pydantic gives it.

    Raises:
        ValueError: a model uses something that no structural schema can say; the message names it.
    """
    return _rewrite(schema, schema.get("$defs", {}), ())


def _rewrite(schema: Schema, definitions: dict[str, Schema], seen: tuple[str, ...]) -> Schema:
    if "$ref" in schema:
        return _inline(schema, definitions, seen)
    if "anyOf" in schema:
        return _rewrite(_merge(schema, "anyOf", _get_only_type(schema["anyOf"])), definitions, seen)
    if refused := _REFUSED & schema.keys():
        raise ValueError(f"a structural schema cannot say {sorted(refused)}: {schema}")
    out = {key: value for key, value in schema.items() if key not in _DROPPED}
    if "const" in out:
        out["enum"] = [out.pop("const")]
    if "properties" in out:
        out["properties"] = {
            name: _rewrite(part, definitions, seen) for name, part in out["properties"].items()
        }
        out.pop("additionalProperties", None)
    elif out.get(_KEEP_UNKNOWN):
        out.pop("additionalProperties", None)
    elif isinstance(out.get("additionalProperties"), dict):
        out["additionalProperties"] = _rewrite(out["additionalProperties"], definitions, seen)
    if "items" in out:
        out["items"] = _rewrite(out["items"], definitions, seen)
    return _checked(out)


def _inline(schema: Schema, definitions: dict[str, Schema], seen: tuple[str, ...]) -> Schema:
    name = schema["$ref"].rpartition("/")[2]
    if name in seen:
        raise ValueError(f"{name} refers to itself: a structural schema has no recursion")
    return _rewrite(_merge(schema, "$ref", definitions[name]), definitions, (*seen, name))


def _get_only_type(choices: list[Schema]) -> Schema:
    """The one choice that is not null: an optional field is one that may be absent."""
    types = [choice for choice in choices if choice.get("type") != "null"]
    if len(types) != 1:
        raise ValueError(f"a structural schema cannot choose between types: {choices}")
    return types[0]


def _merge(outer: Schema, without: str, inner: Schema) -> Schema:
    """The inner schema; what the field itself says (its description, its rules) goes first."""
    own = {key: value for key, value in outer.items() if key != without}
    rules = "x-kubernetes-validations"
    both = inner.get(rules, []) + own.get(rules, [])
    return inner | own | ({rules: both} if both else {})


def _checked(schema: Schema) -> Schema:
    if "type" not in schema:
        raise ValueError(f"a structural schema needs a type: {schema}")
    if schema["type"] == "array" and "items" not in schema:
        raise ValueError(f"an array needs items: {schema}")
    if schema["type"] == "object" and not schema.keys() & {
        "properties",
        "additionalProperties",
        _KEEP_UNKNOWN,
    }:
        raise ValueError(f"an object needs properties: {schema}")
    return schema
