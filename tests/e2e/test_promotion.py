"""The main job, first half: a better artifact takes 10 %, 50 %, 100 % of the traffic, and nobody notices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.e2e.harness.specs import NAME

if TYPE_CHECKING:
    from tests.e2e.harness.views import Rollout
    from tests.e2e.harness.world import World


@pytest.fixture(scope="module")
def before(world: World) -> dict[str, int]:
    """The pods before; the rollout of v2 begins."""
    world.start("v1")
    identities = world.get_identities()
    world.set_artifact("v2")
    return identities


@pytest.fixture(scope="module")
def promoted(world: World, before: dict[str, int]) -> Rollout:
    assert before
    rollout = world.wait_for_end("v2", "Promoted", 240)
    world.wait_until_settled("v2")
    return rollout


def test_a_better_artifact_is_promoted_through_10_and_50_to_100(world: World, promoted: Rollout) -> None:
    assert promoted.list_phases() == [
        *("Preparing", "Stepping 1", "Stepping 2", "Promoting", "Baking", "Promoted"),
    ]
    weights = [(entry.step, entry.weight) for entry in promoted.entries if entry.phase == "Stepping"]
    assert weights == [(1, 10), (2, 50)]
    assert world.get().stable == world.artifacts["v2"].version


@pytest.mark.parametrize(("step", "weight"), [(1, 10), (2, 50)])
def test_at_each_step_the_split_is_that_of_the_weight(
    world: World, promoted: Rollout, step: int, weight: int
) -> None:
    start = world.watch.find_effective_at(promoted.name, step)
    assert start is not None, "the weight's moment is part of the record"
    following = promoted.get_entry("Stepping", 2) if step == 1 else promoted.get_entry("Promoting")
    world.traffic.get_split(start, following.at).assert_share(promoted.revision, weight)


def test_after_the_promotion_every_answer_is_the_new_revisions(world: World, promoted: Rollout) -> None:
    assert promoted.finished_at is not None
    start = promoted.finished_at + 1
    world.wait(
        "answers after the promotion", lambda _: world.traffic.get_split(start, start + 8).total > 100, 30
    )
    assert set(world.traffic.get_split(start, start + 8).counts) == {promoted.revision}


def test_no_user_goes_back_to_the_old_revision_while_the_weight_rises(
    world: World, promoted: Rollout
) -> None:
    flips = world.traffic.get_stats()["total"]["flips"]
    assert flips.get(f"{promoted.revision}->{promoted.from_revision}", 0) == 0


def test_it_was_promoted_on_evidence_of_every_metric(world: World, promoted: Rollout) -> None:
    judged = world.watch.find_judged(promoted.name, 2)
    assert judged is not None
    assert set(judged.metrics) == {"score", "latency", "errors"}
    assert all(metric.promote >= 1 for metric in judged.metrics.values()), judged.metrics
    assert promoted.get_entry("Promoting").reason == "EvidenceOfQuality"
    assert "score +" in promoted.get_entry("Promoting").message


def test_no_pod_was_made_or_restarted_by_the_promotion(
    world: World, before: dict[str, int], promoted: Rollout
) -> None:
    assert promoted.phase == "Promoted"
    assert world.get_identities() == before


def test_no_request_failed_during_the_promotion(world: World, promoted: Rollout) -> None:
    assert promoted.phase == "Promoted"
    assert world.traffic.assert_none_failed() > 500


def test_people_can_read_what_happened(world: World, promoted: Rollout) -> None:
    assert {"RolloutStarted", "StepAdvanced", "Promoted"} <= world.list_event_reasons()
    assert promoted.target in world.dspy("history", NAME)
    explained = world.dspy("explain", NAME)
    assert "score" in explained
    assert "Promoted" in explained
