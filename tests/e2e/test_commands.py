"""What a person may say in the middle of a rollout and after it: `pause`, `resume`, `undo`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.e2e.harness.specs import NAME
from tests.e2e.harness.waiting import wait_for, watch_for

if TYPE_CHECKING:
    from tests.e2e.harness.views import Rollout
    from tests.e2e.harness.world import World

ENOUGH = 60
"""Scores of the canary with which a step that nobody holds is over."""

# Each story goes on where the one before it ended.


@pytest.fixture(scope="module")
def paused(world: World) -> Rollout:
    """v2 at 10 %, held by a person."""
    world.start("v1")
    world.set_artifact("v2")
    world.wait_for_step("v2", 1)
    world.dspy("pause", NAME)
    return world.wait_for_rollout("v2", "is held", lambda r: r.status.get("held"), 30)


def test_pause_holds_the_step_however_good_the_evidence(world: World, paused: Rollout) -> None:
    assert (paused.phase, paused.step, paused.weight) == ("Stepping", 1, 10)
    world.wait_for_rollout(
        "v2", "has its samples", lambda r: "score" in r.metrics and r.metrics["score"].canary > ENOUGH, 90
    )

    def is_held() -> bool:
        now = world.find_rollout("v2")
        return now is not None and (now.phase, now.step, now.weight) == ("Stepping", 1, 10)

    watch_for("v2 at 10 %", is_held, 10)


def test_while_it_is_paused_people_and_pipelines_are_told(world: World, paused: Rollout) -> None:
    deployment = world.get()
    assert (deployment.get("Paused").status, deployment.get("Paused").reason) == ("True", "Paused")
    assert "resume" in deployment.get("Paused").message
    assert deployment.rollout == paused.name
    assert "Paused" in world.list_event_reasons()
    world.dspy("status", NAME, expect=2)


def test_resume_lets_it_go_on_to_the_end(world: World, paused: Rollout) -> None:
    world.dspy("resume", NAME)
    promoted = world.wait_for_end("v2", "Promoted", 240)
    assert promoted.uid == paused.uid
    assert promoted.list_phases() == [
        "Preparing",
        "Stepping 1",
        "Stepping 2",
        "Promoting",
        "Baking",
        "Promoted",
    ]
    assert world.wait_until_settled("v2").get("Paused").status == "False"
    assert "Resumed" in world.list_event_reasons()


def test_undo_to_a_revision_that_nobody_knows_is_refused_with_advice(world: World) -> None:
    told = world.dspy("undo", NAME, "--to", "0123456789", expect=64)
    assert "history" in told


def test_undo_brings_the_previous_revision_back_without_analysis(world: World) -> None:
    before = world.get_identities()
    undone = world.get()
    world.dspy("undo", NAME)
    back = world.wait_for_end("v1", "Promoted", 60)
    assert back.fast
    assert back.list_phases() == ["Preparing", "Promoting", "Baking", "Promoted"]
    assert back.status.get("looks") is None, "nothing was judged"
    assert back.from_revision == undone.stable_revision
    deployment = world.wait(
        "v1 is stable", lambda d: d.stable == world.artifacts["v1"].version and not d.canary, 30
    )
    assert world.get_identities() == before, "no pod came, went or restarted"
    start = world.traffic.get_stats()["now"] + 2
    wait_for("answers", lambda: world.traffic.get_split(start, start + 6).total > ENOUGH, 30)
    assert set(world.traffic.get_split(start, start + 6).counts) == {deployment.stable_revision}


def test_what_was_undone_stays_so_although_the_spec_still_asks_for_it(world: World) -> None:
    deployment = world.wait("the rejection told", lambda d: d.get("Stalled").status == "True", 30)
    (rejected,) = deployment.status["rejected"]
    assert (rejected["version"], rejected["reason"]) == (world.artifacts["v2"].version, "Undone")
    assert deployment.get("Ready").status == "False"
    watch_for("no attempt at v2", lambda: world.find_rollout("v2", 2) is None, 8)
    world.dspy("status", NAME, expect=1)


def test_no_request_failed_whatever_was_said(world: World) -> None:
    assert world.traffic.assert_none_failed() > 500
