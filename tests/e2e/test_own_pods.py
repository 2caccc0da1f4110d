"""A new image's way to users: pods of its own behind Traefik, 10 %, 50 %, 100 %, judged as an artifact is.

What changes here is a variable of the pods' environment, which makes another workload just as another image does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.e2e.harness.gateways import ask_through, open_gateway, with_gateway
from tests.e2e.harness.specs import NAME, build_story, with_artifact, with_environment

if TYPE_CHECKING:
    from tests.e2e.harness.gateways import Gateway
    from tests.e2e.harness.views import Rollout
    from tests.e2e.harness.world import World

HOST = "own-pods.example"


@pytest.fixture(scope="module")
def gateway(world: World) -> Gateway:
    found = open_gateway(world.installation.cluster, world.api, "traefik")
    world.apply(with_gateway(build_story(world.namespace, world.artifacts["v1"]), HOST, found))
    world.wait_until_settled("v1")
    ask_through(world, found, HOST)
    world.start_traffic()
    return found


@pytest.fixture(scope="module")
def promoted(world: World, gateway: Gateway) -> Rollout:
    assert gateway.kind == "traefik"
    world.apply(with_artifact(with_environment(world.spec, RELEASE="2"), world.artifacts["v2"]))
    rollout = world.wait_for_end("v2", "Promoted", 300)
    world.wait_until_settled("v2")
    return rollout


def test_another_environment_is_promoted_through_10_and_50_to_100(promoted: Rollout) -> None:
    assert promoted.list_phases() == [
        *("Preparing", "Stepping 1", "Stepping 2", "Promoting", "Baking", "Promoted"),
    ]


@pytest.mark.parametrize(("step", "weight"), [(1, 10), (2, 50)])
def test_at_each_step_the_split_is_that_of_the_weight(
    world: World, promoted: Rollout, step: int, weight: int
) -> None:
    start = world.watch.find_effective_at(promoted.name, step)
    assert start is not None, "the weight's moment is part of the record"
    following = promoted.get_entry("Stepping", 2) if step == 1 else promoted.get_entry("Promoting")
    world.traffic.get_split(start, following.at).assert_share(promoted.revision, weight)


def test_the_old_pods_go_and_stables_service_has_the_pods_that_were_judged(
    world: World, promoted: Rollout
) -> None:
    world.wait("the old pods are gone", lambda _: len(world.list_pods()) == 2, 60)
    selector = world.api.get("Service", world.namespace, f"{NAME}-stable")["spec"]["selector"]
    assert {pod["metadata"]["labels"]["dspy-operator.io/workload"] for pod in world.list_pods()} == {
        selector["dspy-operator.io/workload"]
    }
    assert set(world.get_identities().values()) == {0}
    assert promoted.phase == "Promoted"


def test_the_next_artifact_shares_the_pods_behind_an_unchanged_route(world: World, promoted: Rollout) -> None:
    assert promoted.phase == "Promoted"
    identities = world.get_identities()
    route = world.api.get("HTTPRoute", world.namespace, NAME)["metadata"]["generation"]
    world.set_artifact("v2-minus2")
    world.wait_for_end("v2-minus2", "Promoted", 240)
    assert world.get_identities() == identities
    assert world.api.get("HTTPRoute", world.namespace, NAME)["metadata"]["generation"] == route


def test_a_worse_one_is_rolled_back_and_its_pods_go(world: World, promoted: Rollout) -> None:
    assert promoted.phase == "Promoted"
    world.wait_until_settled("v2-minus2")
    identities = world.get_identities()
    world.apply(with_artifact(with_environment(world.spec, RELEASE="3"), world.artifacts["v3"]))
    world.wait_for_end("v3", "RolledBack", 240)
    world.wait("its pods are gone", lambda _: world.get_identities() == identities, 60)
    assert world.get().get("Stalled").status == "True"


def test_no_request_failed_in_all_that(world: World, promoted: Rollout) -> None:
    assert promoted.phase == "Promoted"
    assert world.traffic.assert_none_failed() > 1000
