"""Names of children fit where Kubernetes puts them."""

import re

import pytest

from dspy_operator.api import names
from dspy_operator.api.names import Command

LONGEST = "a" * names.MAX_NAME
SHA256 = "3f9a12c4d5e6" + "0" * 52
REVISION = "81c0ab34ef"


@pytest.mark.parametrize(
    "child",
    [
        names.deployment_name(LONGEST, "0a1b2c3d"),
        names.service_name(LONGEST),
        names.routes_name(LONGEST),
        names.slot_name(LONGEST, 2),
        names.source_name(LONGEST, SHA256),
        names.program_name(LONGEST, SHA256),
        names.revision_name(LONGEST, REVISION),
        names.rollout_name(LONGEST, REVISION, 99),
        names.gate_name(LONGEST, REVISION, 99),
    ],
)
def test_every_child_of_the_longest_name_has_at_most_63_characters(child: str) -> None:
    assert len(child) <= 63
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", child)


def test_children_are_called_as_the_contract_says() -> None:
    assert names.deployment_name("triage", "0a1b2c3d") == "triage-0a1b2c3d"
    assert names.program_name("triage", SHA256) == "triage-program-3f9a12c4d5e6"
    assert names.source_name("triage", SHA256) == "triage-source-3f9a12c4d5e6"
    assert names.rollout_name("triage", REVISION, 2) == "triage-81c0ab34ef-2"
    assert names.slot_path(1) == "/etc/dspy/programs/1/program.json"


def test_a_command_is_an_annotation_of_the_group() -> None:
    assert Command.PROMOTE_FULL.annotation == "dspy-operator.io/promote-full"
    assert len({command.annotation for command in Command}) == 7
