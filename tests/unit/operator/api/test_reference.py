"""The generated reference: what is in Git is what the models say, and nothing that a user may write is missing."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dspy_operator.api.crd import build_crds
from dspy_operator.api.reference import render_reference

PAGE = Path(__file__).parents[4] / "docs" / "crd-reference.md"
KINDS = ("DSPyDeployment", "DSPyRollout")


def list_lines(kind: str, heading: str) -> list[str]:
    """The lines of one object's section."""
    whole = render_reference().split("\n")
    start = whole.index(f"### {heading}", whole.index(f"## {kind}"))
    end = next((i for i in range(start + 1, len(whole)) if whole[i].startswith("## ")), len(whole))
    end = next((i for i in range(start + 1, end) if whole[i].startswith("### ")), end)
    return whole[start:end]


def find_row(kind: str, heading: str, field: str) -> list[str]:
    row = next(line for line in list_lines(kind, heading) if line.startswith(f"| `{field}` |"))
    return [cell.strip() for cell in row.replace("\\|", "or").strip("|").split("|")]


def list_schemas(schema: Any, key: str) -> Iterator[Any]:
    """Every value of a key, anywhere below."""
    if isinstance(schema, dict):
        if key in schema:
            yield schema[key]
        for part in schema.values():
            yield from list_schemas(part, key)
    elif isinstance(schema, list):
        for part in schema:
            yield from list_schemas(part, key)


def test_the_page_in_git_is_that_of_the_models() -> None:
    assert PAGE.read_text(encoding="utf-8") == render_reference(), "run `make generate`"


def test_the_command_prints_the_same_bytes_in_another_process() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "dspy_operator.api.reference"],
        check=True,
        capture_output=True,
        env={"PYTHONHASHSEED": "7", "PYTHONIOENCODING": "utf-8"},
    )
    assert printed.stdout.decode("utf-8") == render_reference()


@pytest.mark.parametrize(("kind", "part"), [(kind, part) for kind in KINDS for part in ("spec", "status")])
def test_every_field_of_a_part_has_a_row(kind: str, part: str) -> None:
    crd = next(crd for crd in build_crds().values() if crd["spec"]["names"]["kind"] == kind)
    fields = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][part]["properties"]
    assert fields
    for field in fields:
        assert find_row(kind, part, field)[3], f"{field} says nothing"


def test_every_field_name_anywhere_is_on_the_page() -> None:
    page = render_reference()
    for properties in list_schemas(build_crds(), "properties"):
        for field in set(properties) - {"apiVersion", "kind", "metadata", "spec", "status", "name", "key"}:
            assert f"| `{field}` |" in page, field


def test_every_rule_tells_its_sentence() -> None:
    page = render_reference().replace("\\", "")
    messages = [
        rule["message"] for rules in list_schemas(build_crds(), "x-kubernetes-validations") for rule in rules
    ]
    assert len(messages) > 20
    assert [message for message in messages if message not in page] == []


def test_a_default_has_its_own_column() -> None:
    assert find_row("DSPyDeployment", "spec.lm", "timeout")[1:3] == ["duration", "30s"]
    assert find_row("DSPyDeployment", "spec", "program")[2] == "required"


def test_a_default_that_the_api_server_writes_is_bold() -> None:
    assert find_row("DSPyDeployment", "spec", "replicas")[1:3] == ["integer (0 to 1,000)", "**2**"]


def test_the_values_of_a_choice_are_its_type() -> None:
    assert find_row("DSPyDeployment", "spec.traffic", "isolation")[1] == "`Auto` or `Pod`"


def test_a_list_of_objects_has_a_table_of_its_own() -> None:
    assert find_row("DSPyDeployment", "spec.strategy.canary.steps[]", "weight")[1:3] == [
        "integer (1 to 100)",
        "required",
    ]


def test_a_reference_is_told_in_one_cell() -> None:
    assert find_row("DSPyDeployment", "spec.lm.primary", "apiKeySecret")[1] == "`{name, key}`"
    assert "### spec.lm.primary.apiKeySecret" not in render_reference()


def test_no_row_has_more_cells_than_its_head() -> None:
    rows = [line for line in render_reference().split("\n") if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {5}
