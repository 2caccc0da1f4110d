"""The main job, second half: what is worse is rolled back by evidence, at once, and what is hardly worse is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.e2e.harness.specs import NAME, STEPS, build_step, build_strategy
from tests.e2e.harness.waiting import wait_for

if TYPE_CHECKING:
    from tests.e2e.harness.views import Rollout
    from tests.e2e.harness.world import World

SAMPLES = 300  # of the canary, before "not rolled back" means something


@pytest.fixture(scope="module")
def before(world: World) -> dict[str, int]:
    """v2 serves; its pods."""
    world.start("v2")
    return world.get_identities()


@pytest.fixture(scope="module")
def worse(world: World, before: dict[str, int]) -> Rollout:
    """The attempt at v3, ended."""
    assert before
    world.traffic.mark("v3")
    world.set_artifact("v3")
    rollout = world.wait_for_end("v3", "RolledBack", 240)
    world.wait("v3 rejected", lambda d: d.get("Stalled").status == "True" and not d.canary)
    return rollout


@pytest.fixture(scope="module")
def slower(world: World, worse: Rollout) -> Rollout:
    """The attempt at v2-slow, ended."""
    assert worse.is_over
    world.traffic.mark("v2-slow")
    world.set_artifact("v2-slow")
    return world.wait_for_end("v2-slow", "RolledBack", 240)


def test_an_artifact_whose_score_is_20_percent_lower_is_rolled_back(world: World, worse: Rollout) -> None:
    assert worse.phase == "RolledBack"
    why = worse.get_entry("RollingBack")
    assert "score" in why.message
    assert worse.find_entry("Promoting") is None
    assert world.get().stable == world.artifacts["v2"].version


def test_a_rollback_leaves_ready_false_with_the_reason_and_stable_serving(
    world: World, worse: Rollout
) -> None:
    deployment = world.get()
    assert (deployment.get("Ready").status, deployment.get("Ready").reason) == ("False", "RolledBack")
    assert deployment.get("Available").status == "True"
    assert deployment.rejected == (worse.revision,)
    assert "RolledBack" in world.list_event_reasons()
    world.dspy("status", NAME, expect=1)
    assert "score" in world.dspy("explain", NAME)


def test_after_the_rollback_no_answer_comes_from_the_rejected_revision(world: World, worse: Rollout) -> None:
    assert worse.finished_at is not None
    start = worse.finished_at + 2
    wait_for("answers", lambda: world.traffic.get_split(start, start + 8).total > 100, 30, tell=world.tell)
    assert set(world.traffic.get_split(start, start + 8).counts) == {worse.from_revision}


def test_an_artifact_whose_p95_doubles_is_rolled_back(world: World, slower: Rollout) -> None:
    assert "latency" in slower.get_entry("RollingBack").message
    assert world.get().stable == world.artifacts["v2"].version


def test_an_artifact_2_percent_worse_is_not_rolled_back_by_evidence(world: World, slower: Rollout) -> None:
    assert slower.is_over
    steps = (STEPS[0], build_step(50, minSamples=100_000), STEPS[2])
    spec = world.spec["spec"] | {"strategy": build_strategy(steps=steps)}
    world.apply(world.spec | {"spec": spec})
    world.set_artifact("v2-minus2")
    rollout = world.wait_for_rollout(
        "v2-minus2",
        f"judged on {SAMPLES} samples at 50 %",
        lambda r: r.is_over or (r.step == 2 and r.metrics and r.metrics["score"].canary >= SAMPLES),
        240,
    )
    assert rollout.phase == "Stepping", f"{rollout.phase}: {rollout.message}"
    assert rollout.metrics["score"].rollback < 1
    world.dspy("abort", NAME)
    assert world.wait_for_end("v2-minus2", "Aborted").find_entry("Promoting") is None


def test_no_pod_was_made_or_restarted_by_any_of_it(
    world: World, before: dict[str, int], slower: Rollout
) -> None:
    assert slower.is_over
    assert world.get_identities() == before


def test_no_request_failed_during_any_rollback(world: World, slower: Rollout) -> None:
    assert slower.is_over
    assert world.traffic.assert_none_failed() > 500
