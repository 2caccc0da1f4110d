"""The user changes their mind: back to stable, on to a third artifact, the rejected one again, and `retry`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.e2e.harness.specs import NAME
from tests.e2e.harness.waiting import wait_for, watch_for

if TYPE_CHECKING:
    from tests.e2e.harness.world import World

# Each story goes on where the one before it ended.


@pytest.fixture(scope="module")
def serving(world: World) -> World:
    world.start("v2")
    return world


def test_the_spec_set_back_to_stable_in_mid_rollout_ends_it_at_once(serving: World) -> None:
    serving.set_artifact("v1")
    rollout = serving.wait_for_step("v1", 1)
    serving.set_artifact("v2")
    ended = serving.wait_for_end("v1", "Superseded", 30)
    deployment = serving.wait_until_settled("v2", 30)
    assert deployment.weight == 0
    assert deployment.get("Ready").reason == "Healthy"
    assert deployment.rejected == ()
    assert [r.name for r in serving.list_rollouts()] == [rollout.name], "going back is no rollout"
    assert ended.finished_at is not None
    start = ended.finished_at + 2
    wait_for("answers", lambda: serving.traffic.get_split(start, start + 6).total > 60, 30)
    assert set(serving.traffic.get_split(start, start + 6).counts) == {deployment.stable_revision}


def test_a_third_artifact_in_mid_rollout_supersedes_the_second(serving: World) -> None:
    serving.set_artifact("v2-minus2")
    serving.wait_for_step("v2-minus2", 1)
    serving.set_artifact("v3")
    superseded = serving.wait_for_end("v2-minus2", "Superseded", 30)
    third = serving.wait_for_step("v3", 1)
    assert third.from_revision == superseded.from_revision
    assert third.source == serving.artifacts["v2"].version, "stable, not the superseded one, is the baseline"
    serving.wait_for_end("v3", "RolledBack", 240)
    serving.wait("v3 rejected", lambda d: d.get("Stalled").status == "True" and not d.canary)


def test_the_rejected_artifact_applied_again_is_inert(serving: World) -> None:
    rejected = serving.find_rollout("v3")
    assert rejected is not None
    serving.set_artifact("v2")
    serving.wait_until_settled("v2")
    serving.set_artifact("v3")
    serving.wait("the rejection told", lambda d: d.is_current and d.get("Stalled").status == "True")
    since = serving.traffic.get_stats()["now"]
    watch_for("no attempt", lambda: serving.find_rollout("v3", 2) is None and not serving.get().canary, 8)
    counts = serving.traffic.get_split(since, since + 7).counts
    assert rejected.revision not in counts
    assert serving.get().get("Ready").status == "False"


def test_retry_starts_the_rejected_artifact_afresh(serving: World) -> None:
    assert "retr" in serving.dspy("retry", NAME).lower()
    again = serving.wait_for_step("v3", 1, attempt=2)
    assert again.list_phases() == ["Preparing", "Stepping 1"]
    first = serving.find_rollout("v3", 1)
    assert first is not None
    assert first.uid != again.uid
    assert first.phase == "RolledBack"


def test_abort_sends_everybody_back_and_rejects(serving: World) -> None:
    serving.dspy("abort", NAME)
    aborted = serving.wait_for_end("v3", "Aborted", 30, attempt=2)
    deployment = serving.wait("closed", lambda d: not d.canary and d.get("Stalled").status == "True", 30)
    assert aborted.revision in deployment.rejected


def test_no_request_failed_whatever_the_user_did(serving: World) -> None:
    assert serving.traffic.assert_none_failed() > 500
    assert list(serving.get_identities().values()) == [0, 0]
