"""The definitions -> `docs/crd-reference.md`, always the same text for the same models.

`python -m dspy_operator.api.reference` prints it; `make generate` writes it.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

from dspy_operator.api import names, quantities
from dspy_operator.api.crd import build_crds
from dspy_operator.api.structural import Schema

_INTRODUCTION: Final = f"""\
<!-- Generated from operator/src/dspy_operator/api: run `make generate`, do not edit. -->

# Reference of the custom resources

API group `{names.GROUP}`, version `{names.VERSION}`. Every object has a table of its fields. `{{name, key}}` is a
reference to an object of the same namespace. A *duration* is written `500ms`, `30s`, `1h30m`; a *percentage* `5%`; a
*time* is RFC 3339. The rules below a table are checked by the API server: breaking one refuses `kubectl apply` with
that sentence. Only the defaults in **bold** are written into the resource by the API server; the operator fills in the
others.
"""
_RULES: Final = "x-kubernetes-validations"
_REFERENCE_FIELDS: Final = frozenset({"name", "key"})
_DEFAULT: Final = re.compile(r"^(?P<text>.*?)\s*Default: (?P<default>.+)\.$", re.DOTALL)
_FORMS: Final[Mapping[str, str]] = {
    quantities.DURATION_PATTERN: "duration",
    quantities.PERCENT_PATTERN: "percentage",
    quantities.INCREASE_PATTERN: "percentage",
    quantities.SIZE_PATTERN: "size",
}
"""Patterns that have a name; the form of any other string is told by the field's own description."""


def render_reference() -> str:
    """Both kinds as one Markdown page, specification before status."""
    return "\n".join([_INTRODUCTION, *(_render_kind(crd) for crd in build_crds().values())])


def _render_kind(crd: dict[str, Any]) -> str:
    """The kind's own section: how it is called, its columns, its rules, a table per object."""
    spec = crd["spec"]
    version = spec["versions"][0]
    schema = version["schema"]["openAPIV3Schema"]
    columns = ", ".join(f"`{column['name']}`" for column in version["additionalPrinterColumns"])
    called = ", ".join(f"`{name}`" for name in (spec["names"]["plural"], *spec["names"]["shortNames"]))
    lines = [
        f"## {spec['names']['kind']}",
        "",
        f"{schema['description']} {spec['scope']}; `kubectl get` knows it as {called}. Columns: {columns}.",
        "",
        *_list_rules(schema),
    ]
    for part in ("spec", "status"):
        for path, block in _walk(schema["properties"][part], part):
            lines += _render_block(path, block)
    return "\n".join(lines)


def _walk(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    """Every object that has a table, parents first, with its path."""
    yield path, schema
    for name, part in schema["properties"].items():
        inner, below = _get_inner(part)
        if _has_table(inner):
            yield from _walk(inner, f"{path}.{name}{below}")


def _render_block(path: str, schema: Schema) -> list[str]:
    required = frozenset(schema.get("required", ()))
    rows = [_render_row(name, part, required) for name, part in schema["properties"].items()]
    about, _ = _split_default(schema["description"])
    head = ["| field | type | default | |", "|---|---|---|---|"]
    return [f"### {path}", "", _escape(about), "", *head, *rows, "", *_list_rules(schema)]


def _render_row(name: str, schema: Schema, required: frozenset[str]) -> str:
    text, default = _split_default(schema["description"])
    default = _escape(default)
    if "default" in schema:
        default = f"**{schema['default']}**"
    if name in required:
        default = "required"
    sentences = [_escape(text)]
    if not _has_table(schema):
        sentences += [f"*{_escape(message)}.*" for message in _list_messages(schema)]
    return f"| `{name}` | {_render_type(schema)} | {default} | {' '.join(sentences)} |"


def _split_default(description: str) -> tuple[str, str]:
    """A description into what it says and its default, which the models write as a last sentence."""
    found = _DEFAULT.match(description)
    return (found["text"], found["default"]) if found else (description, "")


def _render_type(schema: Schema) -> str:
    inner, below = _get_inner(schema)
    match below:
        case "[]":
            return f"list{_render_most(schema, 'maxItems')} of {_render_type(inner)}"
        case "{}":
            return f"map{_render_most(schema, 'maxProperties')} to {_render_type(inner)}"
        case _:
            return _render_single(inner)


def _render_single(schema: Schema) -> str:
    if "enum" in schema:
        return " \\| ".join(f"`{value}`" for value in schema["enum"])
    if _is_reference(schema):
        return f"`{{{', '.join(schema['properties'])}}}`"
    match schema["type"]:
        case "integer":
            return f"integer{_render_range(schema)}"
        case "string":
            return _render_string(schema)
        case other:
            return str(other)


def _render_string(schema: Schema) -> str:
    if schema.get("format") == "date-time":
        return "time"
    return _FORMS.get(schema.get("pattern", ""), "string")


def _render_range(schema: Schema) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is None and high is None:
        return ""
    return f" ({low:,} to {high:,})" if high is not None else f" (at least {low:,})"


def _render_most(schema: Schema, bound: str) -> str:
    return f" (at most {schema[bound]})" if bound in schema else ""


def _get_inner(schema: Schema) -> tuple[Schema, str]:
    """What a list or a map holds and how its path goes on; anything else is itself."""
    if "items" in schema:
        return schema["items"], "[]"
    if isinstance(schema.get("additionalProperties"), dict):
        return schema["additionalProperties"], "{}"
    return schema, ""


def _has_table(schema: Schema) -> bool:
    return "properties" in schema and not _is_reference(schema)


def _is_reference(schema: Schema) -> bool:
    """Whether it names an object of the namespace, or a key of one, and nothing else."""
    return bool(schema.get("properties")) and schema["properties"].keys() <= _REFERENCE_FIELDS


def _list_messages(schema: Schema) -> list[str]:
    return [rule["message"] for rule in schema.get(_RULES, ())]


def _list_rules(schema: Schema) -> list[str]:
    messages = _list_messages(schema)
    return ["Rules:", "", *(f"- {_escape(message)}" for message in messages), ""] if messages else []


def _escape(text: str) -> str:
    """What Markdown would read as markup, as text; code in backquotes stays code."""
    return re.sub(r"([|*<])", r"\\\1", text).replace("\n", " ")


if __name__ == "__main__":
    sys.stdout.write(render_reference())
