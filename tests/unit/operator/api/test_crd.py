"""The generated definitions: what is in Git is what the models say, and every part of it is bounded."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.operator.api.examples import whole

from dspy_operator.api.crd import CHART_COPY, build_crds, main, render_crds

ROOT = Path(__file__).parents[4]
KINDS = ("dspydeployments", "dspyrollouts")


def schema_of(plural: str) -> dict[str, Any]:
    schema: dict[str, Any] = build_crds()[plural]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def walk(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from walk(part, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from walk(schema[key], f"{path}[]")


def list_parts(plural: str, kind: str) -> list[tuple[str, dict[str, Any]]]:
    parts = [(path, part) for path, part in walk(schema_of(plural)) if part["type"] == kind]
    assert parts
    return parts


@pytest.mark.parametrize("folder", [Path("crds"), CHART_COPY])
@pytest.mark.parametrize("plural", KINDS)
def test_the_manifests_in_git_are_those_of_the_models(folder: Path, plural: str) -> None:
    stored = (ROOT / folder / f"{plural}.yaml").read_text(encoding="utf-8")
    assert stored == render_crds()[f"{plural}.yaml"], "run `make generate`"


def test_writing_them_twice_gives_the_same_bytes_in_both_places(tmp_path: Path) -> None:
    assert main([str(tmp_path / "crds")]) == 0
    first = {file: file.read_bytes() for file in tmp_path.rglob("*.yaml")}
    assert main([str(tmp_path / "crds")]) == 0
    assert first == {file: file.read_bytes() for file in tmp_path.rglob("*.yaml")}
    assert {str(file.parent.relative_to(tmp_path)) for file in first} == {"crds", str(CHART_COPY)}


@pytest.mark.parametrize("plural", KINDS)
def test_every_string_is_bounded(plural: str) -> None:
    for path, part in list_parts(plural, "string"):
        assert "maxLength" in part or "enum" in part or part.get("format") == "date-time", path


@pytest.mark.parametrize("plural", KINDS)
def test_every_list_is_bounded(plural: str) -> None:
    for path, part in list_parts(plural, "array"):
        assert "maxItems" in part, path


@pytest.mark.parametrize("plural", KINDS)
def test_every_number_is_a_bounded_integer(plural: str) -> None:
    assert not [path for path, part in walk(schema_of(plural)) if part["type"] == "number"]
    for path, part in list_parts(plural, "integer"):
        assert "minimum" in part, path


@pytest.mark.parametrize("plural", KINDS)
def test_every_field_of_spec_and_status_says_what_it_is(plural: str) -> None:
    for path, part in walk(schema_of(plural)):
        if path.startswith((".spec", ".status")) and not path.endswith("[]"):
            assert part.get("description", "").endswith("."), path


@pytest.mark.parametrize("plural", KINDS)
def test_patterns_are_such_that_go_can_read_them(plural: str) -> None:
    for path, part in list_parts(plural, "string"):
        pattern = part.get("pattern", "")
        re.compile(pattern)
        assert not re.search(r"\(\?[=!<]|\\\d", pattern), path


def test_only_replicas_has_a_server_side_default() -> None:
    defaults = {
        path: part["default"] for path, part in walk(schema_of("dspydeployments")) if "default" in part
    }
    assert defaults == {".spec.replicas": 2}


def test_every_field_of_the_contract_is_in_the_schema() -> None:
    schema = {path for path, _ in walk(schema_of("dspydeployments"))}
    missing = [path for path in list_paths(whole()["spec"], ".spec") if path not in schema]
    assert [path for path in missing if ".degraded.outputs." not in path] == []


def list_paths(value: object, path: str) -> Iterator[str]:
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from list_paths(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from list_paths(inner, f"{path}[]")


def test_the_definitions_are_named_as_the_contract_says() -> None:
    deployment, rollout = build_crds().values()
    assert deployment["metadata"]["name"] == "dspydeployments.dspy-operator.io"
    assert deployment["spec"]["names"]["shortNames"] == ["dspyd"]
    assert rollout["spec"]["names"]["shortNames"] == ["dspyr"]
    assert deployment["spec"]["names"]["categories"] == rollout["spec"]["names"]["categories"] == ["dspy"]
    assert yaml.safe_load(render_crds()["dspyrollouts.yaml"]) == rollout
