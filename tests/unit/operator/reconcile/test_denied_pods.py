"""A quota, limits or pod security that let no pod be made: seen in the Deployment, told in the API server's words."""

from typing import Any

import pytest
from tests.unit.operator.reconcile.objects import build_snapshot

from dspy_operator.api.names import deployment_name
from dspy_operator.reconcile.children import find_denial
from dspy_operator.rollout.model import Program

STABLE = Program("a" * 10, "0a1b2c3d", "a" * 64, "triage:Triage")
SENTENCE = 'pods "triage-0a1b2c3d-5d4f-" is forbidden: exceeded quota: small, requested: pods=1, used: pods=2'
DENIED = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": SENTENCE}
FINE = {"type": "Available", "status": "True", "message": "Deployment has minimum availability."}


def see(*conditions: dict[str, Any], workload: str = STABLE.workload) -> Any:
    live = {"metadata": {"labels": {}}, "status": {"conditions": list(conditions)}}
    return build_snapshot(deployments={deployment_name("triage", workload): live})


def test_the_sentence_of_the_api_server_is_found() -> None:
    assert find_denial(see(FINE, DENIED), STABLE) == SENTENCE


@pytest.mark.parametrize(
    "snapshot",
    [see(), see(FINE), see(DENIED | {"status": "False"}), see(DENIED, workload="ffffffff"), build_snapshot()],
)
def test_without_such_a_condition_of_stables_own_deployment_nothing_is_denied(snapshot: Any) -> None:
    assert find_denial(snapshot, STABLE) == ""


def test_nothing_is_denied_before_there_is_a_stable_revision() -> None:
    assert find_denial(see(DENIED), None) == ""
