"""The first revision of a program: there is nothing to compare it with, so it serves at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.e2e.harness.specs import NAME

if TYPE_CHECKING:
    from tests.e2e.harness.world import World


@pytest.fixture(scope="module")
def served(world: World) -> World:
    world.start("v1")
    return world


def test_the_first_revision_serves_everybody_without_analysis(served: World) -> None:
    deployment = served.get()
    assert deployment.get("Ready").status == "True"
    assert deployment.get("Reconciling").status == deployment.get("Stalled").status == "False"
    assert deployment.stable == served.artifacts["v1"].version
    assert served.list_rollouts() == []
    answers = served.traffic.get_stats()["total"]["revisions"]
    assert list(answers) == [deployment.stable_revision]
    assert answers[deployment.stable_revision]["tracks"].keys() == {"stable"}


def test_no_request_fails_once_the_first_was_answered(served: World) -> None:
    assert served.traffic.assert_none_failed() >= 100


def test_the_answers_are_those_of_the_compiled_program(served: World) -> None:
    revision = served.get().stable_revision
    served.wait("some hundred answers", lambda _: served.traffic.get_answered() > 400, 60)
    accuracy = served.traffic.get_stats()["total"]["revisions"][revision]["accuracy"]
    assert 0.66 < accuracy < 0.83, "v1 is right in three answers of four"


def test_status_says_healthy_to_people_and_to_pipelines(served: World) -> None:
    assert "Healthy" in served.dspy("get", NAME)
    assert "healthy" in served.dspy("status", NAME)


def test_more_replicas_come_without_an_analysis_and_without_a_failed_request(served: World) -> None:
    before = served.get_identities()
    spec = served.spec | {"spec": served.spec["spec"] | {"replicas": 3}}
    served.apply(spec)
    served.wait("three ready pods", lambda d: d.ready_replicas == 3 and d.is_healthy)
    after = served.get_identities()
    assert before.items() <= after.items()
    assert len(after) == 3
    assert served.list_rollouts() == []
    served.traffic.assert_none_failed()
