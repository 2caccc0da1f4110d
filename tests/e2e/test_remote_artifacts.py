"""Programs that lie in an object store: pods fetch them, check their digests, and wait when the store is away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.e2e.harness.object_store import scale_store, start_store, with_remote, with_trust
from tests.e2e.harness.specs import build_story

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.harness.api import Object
    from tests.e2e.harness.views import Deployment, Rollout
    from tests.e2e.harness.world import World


@pytest.fixture(scope="module")
def before(world: World) -> dict[str, int]:
    """The pods, with v1 from the store and clients that are answered."""
    start_store(world)
    story = with_trust(build_story(world.namespace, world.artifacts["v1"]))
    world.apply(with_remote(story, world.artifacts["v1"]))
    world.wait_until_settled("v1")
    world.start_traffic()
    return world.get_identities()


def get_name(pod: Object) -> str:
    return str(pod["metadata"]["name"])


def assert_only_stable_answers(world: World, name: str) -> None:
    deployment = world.get()
    assert deployment.stable == world.artifacts[name].version
    assert deployment.get("Available").status == "True"
    assert list(world.traffic.mark(f"only {name}")["revisions"]) == [deployment.stable_revision]
    world.traffic.assert_none_failed()


def test_the_first_revision_serves_from_the_store(world: World, before: dict[str, int]) -> None:
    assert len(before) == 2
    assert_only_stable_answers(world, "v1")


def test_an_object_of_other_bytes_than_the_digest_never_gets_traffic(
    world: World, before: dict[str, int]
) -> None:
    world.apply(with_remote(world.spec, world.artifacts["v2"], sha256="0" * 64))

    def is_told(found: Deployment) -> bool:
        stalled = found.get("Stalled")
        return found.is_current and (stalled.status, stalled.reason) == ("True", "DigestMismatch")

    deployment = world.wait("Stalled DigestMismatch", is_told, 60)
    assert "digest" in deployment.message
    assert_only_stable_answers(world, "v1")
    assert world.get_identities() == before


@pytest.fixture(scope="module")
def promoted(world: World, before: dict[str, int]) -> Rollout:
    """v2 by its right digest, to the end."""
    assert before
    world.apply(with_remote(world.spec, world.artifacts["v2"]))
    rollout = world.wait_for_end("v2", "Promoted", 240)
    world.wait_until_settled("v2")
    return rollout


def test_by_its_right_digest_it_is_promoted_through_10_and_50_to_100(world: World, promoted: Rollout) -> None:
    weights = [(entry.step, entry.weight) for entry in promoted.entries if entry.phase == "Stepping"]
    assert weights == [(1, 10), (2, 50)]
    for step, following in ((1, ("Stepping", 2)), (2, ("Promoting", 3))):
        start = world.watch.find_effective_at(promoted.name, step)
        assert start is not None
        end = promoted.get_entry(*following).at
        world.traffic.get_split(start, end).assert_share(promoted.revision, weights[step - 1][1])


def test_no_pod_was_made_and_no_request_failed(
    world: World, before: dict[str, int], promoted: Rollout
) -> None:
    assert promoted.phase == "Promoted"
    assert world.get_identities() == before
    assert world.traffic.assert_none_failed() > 500


@pytest.fixture(scope="module")
def waiting(world: World, promoted: Rollout) -> Iterator[Deployment]:
    """The store is away, and the spec names another of its objects."""
    assert promoted
    scale_store(world, 0)
    world.apply(with_remote(world.spec, world.artifacts["v2-minus2"]))
    yield world.wait("it waits", lambda d: d.get("Reconciling").reason == "WaitingForArtifact", 60)
    scale_store(world, 1)


def test_while_the_store_is_away_a_condition_says_so_and_stable_serves(
    world: World, waiting: Deployment
) -> None:
    assert waiting.get("Ready").status == "Unknown"
    assert waiting.get("Stalled").status == "False"
    assert world.artifacts["v2-minus2"].version in waiting.message
    assert "uri" in waiting.message
    named = next(name for name in map(get_name, world.list_pods()) if name in waiting.message)
    told = world.api.ask(f"pods/{world.namespace}/{named}:8080", "/ready")
    assert "the store cannot be reached" in str(told)
    world.traffic.mark("before the promotion is over")
    world.wait("answers", lambda _: world.traffic.get_stats()["windows"][-1]["answered"] > 100, 30)
    assert_only_stable_answers(world, "v2")


def test_when_the_store_is_back_the_rollout_goes_on_by_itself(
    world: World, before: dict[str, int], waiting: Deployment
) -> None:
    scale_store(world, 1)
    rollout = world.wait_for_step("v2-minus2", 1)
    assert rollout.name == waiting.rollout
    assert world.get_identities() == before
    world.traffic.assert_none_failed()
