"""The regression gate: before any traffic a program answers examples, and a planted regression gets none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.e2e.harness.gates import SET, build_examples, with_gate
from tests.e2e.harness.specs import NAME, build_story
from tests.e2e.harness.waiting import watch_for

if TYPE_CHECKING:
    from tests.e2e.harness.world import World

# Each story goes on where the one before it ended.


def list_jobs(world: World) -> list[str]:
    return [job["metadata"]["name"] for job in world.api.list_("Job", world.namespace)]


def test_examples_that_are_not_there_yet_are_waited_for(world: World) -> None:
    spec = build_story(world.namespace, world.artifacts["v2"])
    world.apply(with_gate(spec, "0.99"))
    deployment = world.wait("the examples missed", lambda d: d.is_current and SET in d.message, 60)
    assert deployment.get("Ready").reason == "Initializing"
    assert list_jobs(world) == []


def test_a_first_revision_below_the_floor_never_serves(world: World) -> None:
    world.api.apply(build_examples(world.namespace))
    deployment = world.wait("the first revision refused", lambda d: d.get("Stalled").status == "True", 180)
    assert deployment.get("Stalled").reason == "RegressionFailed"
    assert "is below 0.99 on" in deployment.message
    assert not deployment.stable
    assert world.list_pods() == []
    assert "RegressionFailed" in world.list_event_reasons()


def test_with_a_floor_that_it_reaches_retry_lets_it_serve(world: World) -> None:
    world.apply(with_gate(world.spec, "0.70"))
    watch_for("still refused", lambda: world.get().get("Stalled").reason == "RegressionFailed", 4)
    assert "retr" in world.dspy("retry", NAME).lower()
    world.wait_until_settled("v2", 180)
    world.start_traffic()


def test_a_planted_regression_never_gets_traffic(world: World) -> None:
    pods = world.get_identities()
    world.set_artifact("v3")
    ended = world.wait_for_end("v3", "RolledBack", 180)
    assert ended.list_phases() == ["Preparing", "Regression", "RollingBack", "RolledBack"]
    assert ended.reason == "RegressionFailed"
    assert "drop" in ended.message
    deployment = world.wait("v3 rejected", lambda d: d.get("Stalled").status == "True" and not d.canary, 30)
    assert deployment.get("Stalled").reason == "RegressionFailed"
    assert set(world.traffic.get_stats()["total"]["revisions"]) == {deployment.stable_revision}
    world.traffic.assert_none_failed()
    assert world.get_identities() == pods


def test_a_program_that_is_as_good_passes_the_gate_and_is_stepped(world: World) -> None:
    world.set_artifact("v2-minus2")
    passed = world.wait_for_step("v2-minus2", 1, 180)
    assert passed.list_phases() == ["Preparing", "Regression", "Stepping 1"]
    assert any("Regression gate: drop" in entry.message for entry in passed.entries)


def test_an_abort_ends_a_run_of_examples(world: World) -> None:
    world.set_artifact("v1")
    world.wait_for_rollout("v1", "is compared", lambda r: r.phase == "Regression", 60)
    world.dspy("abort", NAME)
    world.wait_for_end("v1", "Aborted", 60)
    running = [job for job in list_jobs(world) if world.find_rollout("v1").revision in job]  # type: ignore[union-attr]
    world.wait("the run removed", lambda _: not set(running) & set(list_jobs(world)), 60)
    world.traffic.assert_none_failed()
