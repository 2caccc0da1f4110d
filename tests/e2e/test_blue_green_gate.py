"""Blue-green behind a regression gate: what is worse on the examples is not even previewed, in own or shared pods."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.e2e.harness.gates import build_examples, with_gate
from tests.e2e.harness.own_pods import begin, get_attempt, start_behind, wait_until_over
from tests.e2e.harness.specs import NAME, PREVIEW, build_blue_green, with_artifact, with_environment

if TYPE_CHECKING:
    from tests.e2e.harness.api import Object
    from tests.e2e.harness.gateways import Gateway
    from tests.e2e.harness.views import Rollout
    from tests.e2e.harness.world import World

HOST = "blue-green-gate.example"
PASSED = ["Preparing", "Regression", "Stepping 0", "Promoting", "Baking", "Promoted"]
REFUSED = ["Preparing", "Regression", "RollingBack", "RolledBack"]


@pytest.fixture(scope="module")
def gateway(world: World) -> Gateway:
    world.api.apply(build_examples(world.namespace))

    def with_examples(spec: Object) -> Object:
        return with_gate(spec, "0.50")

    return start_behind(world, "traefik", HOST, build_blue_green(), artifact="v2", change=with_examples)


def refuse(world: World, name: str, stable: str) -> Rollout:
    """The attempt ends in its gate; every user has been answered by stable, then and ever since."""
    rollout = wait_until_over(world, name, "RolledBack", 180)
    assert rollout.list_phases() == REFUSED
    assert rollout.get_entry("RollingBack").reason == "RegressionFailed"
    assert "drop" in rollout.get_entry("RollingBack").message
    deployment = world.wait("it is told", lambda d: d.get("Stalled").status == "True", 30)
    assert deployment.get("Stalled").reason == "RegressionFailed"
    assert deployment.stable_revision == stable
    assert rollout.revision not in world.traffic.get_stats()["total"]["revisions"]
    world.traffic.assert_none_failed()
    return rollout


def test_a_planted_regression_in_pods_of_its_own_is_not_previewed(world: World, gateway: Gateway) -> None:
    assert gateway.kind == "traefik"
    stable, before = world.get().stable_revision, world.get_identities()
    spec = with_artifact(with_environment(world.spec, RELEASE="2"), world.artifacts["v3"])
    rollout = refuse(world, begin(world, lambda: world.apply(spec)), stable)
    assert rollout.from_revision == stable
    world.wait(
        "its pods are gone, and those of stable are not", lambda _: world.get_identities() == before, 60
    )
    assert world.api.find("Service", world.namespace, f"{NAME}-preview") is None


def test_one_that_is_as_good_is_previewed_after_its_gate_and_promoted(world: World, gateway: Gateway) -> None:
    assert gateway.kind == "traefik"
    spec = with_artifact(with_environment(world.spec, RELEASE="3"), world.artifacts["v2-minus2"])
    name = begin(world, lambda: world.apply(spec))
    rollout = wait_until_over(world, name, "Promoted", 240)
    assert rollout.list_phases() == PASSED
    assert any("Regression gate: drop" in entry.message for entry in rollout.entries)
    promoting = rollout.get_entry("Promoting").at
    assert promoting - rollout.get_entry("Stepping").at >= PREVIEW
    split = world.traffic.get_split(rollout.created_at, promoting - 1)
    assert set(split.counts) == {rollout.from_revision}
    world.traffic.assert_none_failed()


def test_a_planted_regression_in_shared_pods_is_not_previewed_either(world: World, gateway: Gateway) -> None:
    assert gateway.kind == "traefik"
    deployment = world.wait_until_settled("v2-minus2")
    world.wait("no other pods", lambda _: len(world.list_pods()) == 2, 60)
    pods = world.get_identities()
    name = begin(world, lambda: world.set_artifact("v3"))
    refuse(world, name, deployment.stable_revision)
    assert world.get_identities() == pods
    assert get_attempt(world, name).weight == 0
