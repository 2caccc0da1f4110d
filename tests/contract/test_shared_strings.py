"""The operator and the server share no code: what both need is written twice, and held equal here."""

import enum
import re
from pathlib import Path

import pytest
import yaml

from dspy_operator.api import names
from dspy_server import contract

ROOT = Path(__file__).parents[2]

CONSTANTS = sorted(
    name
    for name in vars(contract)
    if name.isupper() and hasattr(names, name) and isinstance(getattr(contract, name), (str, int))
)
ENUMS = sorted(
    name
    for name, value in vars(contract).items()
    if isinstance(value, type)
    and issubclass(value, enum.StrEnum)
    and value is not enum.StrEnum
    and hasattr(names, name)
)


@pytest.mark.parametrize("name", CONSTANTS)
def test_a_constant_that_both_have_is_the_same(name: str) -> None:
    assert getattr(contract, name) == getattr(names, name)


@pytest.mark.parametrize("name", ENUMS)
def test_an_enum_that_both_have_has_the_same_values(name: str) -> None:
    server = {member.name: member.value for member in getattr(contract, name)}
    operator = {member.name: member.value for member in getattr(names, name)}
    assert server.items() <= operator.items() or operator.items() <= server.items()


def test_the_strings_that_the_protocol_rests_on_are_compared() -> None:
    assert {"PORT_HTTP", "PORT_METRICS", "ROUTES_DIR", "ROUTES_KEY", "PROGRAMS_DIR", "ENV_WORKLOAD"} <= set(
        CONSTANTS
    )
    assert {"Metric", "Label", "ScoreSource", "ErrorClass", "ProgramState", "Track"} <= set(ENUMS)


def test_operator_is_a_folder_and_never_a_package() -> None:
    found = [path for path in (ROOT / "operator").rglob("*") if path.name in {"__init__.py", "conftest.py"}]
    outside = [path for path in found if "src/dspy_operator" not in path.as_posix()]
    assert outside == [], "operator/__init__.py would shadow the standard library's operator"
    assert not list((ROOT / "operator").rglob("test_*.py")), "tests live in tests/"


def _list_locked(lock: str) -> set[str]:
    text = (ROOT / "locks" / lock).read_text()
    return set(re.findall(r"^([a-z0-9._-]+)==", text, re.MULTILINE))


@pytest.mark.parametrize(
    ("lock", "forbidden"),
    [("operator.txt", {"dspy", "litellm", "fastapi"}), ("server.txt", {"kopf", "kubernetes"})],
)
def test_an_image_has_nothing_of_the_other_one(lock: str, forbidden: set[str]) -> None:
    assert _list_locked(lock) & forbidden == set()


@pytest.mark.parametrize("lock", ["operator.txt", "server.txt"])
def test_an_image_has_the_versions_that_are_tested(lock: str) -> None:
    pinned = re.compile(r"^([a-z0-9._-]+)==(\S+)", re.MULTILINE)
    tested = dict(pinned.findall((ROOT / "locks/dev.txt").read_text()))
    built = dict(pinned.findall((ROOT / "locks" / lock).read_text()))
    assert {name: version for name, version in built.items() if tested.get(name) != version} == {}


@pytest.mark.parametrize("path", sorted(ROOT.glob("locks/*.txt")), ids=lambda path: path.name)
def test_a_lock_names_no_registry(path: Path) -> None:
    assert "://" not in path.read_text()


@pytest.mark.parametrize("name", ["dspydeployments", "dspyrollouts"])
def test_the_chart_carries_the_generated_definitions(name: str) -> None:
    generated = (ROOT / "crds" / f"{name}.yaml").read_text()
    assert (ROOT / "charts/dspy-operator/files/crds" / f"{name}.yaml").read_text() == generated
    assert yaml.safe_load(generated)["metadata"]["name"] == f"{name}.{names.GROUP}"
