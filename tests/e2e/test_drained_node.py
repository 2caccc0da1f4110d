"""A node is drained in mid-rollout, as `kubectl drain` does it before an upgrade: its pods move one by one.

A second node comes for these stories, and all serving pods are put there first.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from tests.cluster import node
from tests.cluster.embedded import EmbeddedCluster
from tests.cluster.images import build_local_images
from tests.cluster.provider import kubectl
from tests.e2e.harness.gateways import ask_through, open_gateway, with_gateway
from tests.e2e.harness.own_pods import (
    begin,
    get_weights,
    wait_until_effective,
    wait_until_over,
)
from tests.e2e.harness.specs import JUDGED, NAME, build_step, build_story, build_strategy, with_environment
from tests.e2e.harness.waiting import wait_for
from tests.e2e.harness.world import RPS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.harness.api import Object
    from tests.e2e.harness.views import Rollout
    from tests.e2e.harness.world import World

pytestmark = pytest.mark.alone

HOST = "drained.example"
OTHER = node.FIRST.name
LAG = 4.0  # seconds: the gateway waits for two from one change to the next
HELD = build_strategy(
    steps=(build_step(50, minDuration="20m", deadline="1h"), {"weight": 100}), metrics=JUDGED
)


@pytest.fixture(scope="module")
def drained(world: World) -> Iterator[str]:
    """The second node, for as long as these stories last."""
    cluster = world.installation.cluster
    if not isinstance(cluster, EmbeddedCluster):
        pytest.skip("no node of a cluster of yours is drained: somebody may need it")
    with cluster.second_node(build_local_images(("dspy-server",)).values()) as name:
        yield name


@contextmanager
def cordoned(world: World, name: str) -> Iterator[None]:
    """What starts in this block, starts on the other node."""
    cluster = world.installation.cluster
    kubectl(cluster, "cordon", name)
    try:
        yield
    finally:
        kubectl(cluster, "uncordon", name)


def with_canaries(spec: Object, number: int | None) -> Object:
    """A copy whose canary has so many pods whatever its weight; None: by its weight."""
    return spec | {"spec": spec["spec"] | {"traffic": spec["spec"]["traffic"] | {"canaryReplicas": number}}}


def list_nodes(world: World) -> list[str]:
    """The node of each serving pod."""
    return [pod["spec"]["nodeName"] for pod in world.list_pods() if "nodeName" in pod["spec"]]


def drain(world: World, name: str) -> float:
    """As a person would; the seconds that it took."""
    began = time.monotonic()
    kubectl(
        world.installation.cluster,
        *("drain", name, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=300s"),
    )
    return time.monotonic() - began


@pytest.fixture(scope="module")
def stepping(world: World, drained: str) -> Rollout:
    """An attempt at 50 %, the canary with two pods as stable has, all four on the second node."""
    gateway = open_gateway(world.installation.cluster, world.api, "traefik")
    with cordoned(world, OTHER):
        spec = with_canaries(build_story(world.namespace, world.artifacts["v1"], HELD), 2)
        world.apply(with_gateway(spec, HOST, gateway))
        world.wait_until_settled("v1")
    with cordoned(world, drained):
        ask_through(world, gateway, HOST)
        world.start_traffic()
    with cordoned(world, OTHER):
        name = begin(world, lambda: world.apply(with_environment(world.spec, RELEASE="2")))
        rollout = wait_until_effective(world, name)
    assert list_nodes(world) == [drained] * 4
    return rollout


def test_a_drain_moves_stable_and_canary_pod_by_pod_and_the_attempt_goes_on(
    world: World, drained: str, stepping: Rollout, capsys: pytest.CaptureFixture[str]
) -> None:
    before = world.get_identities()
    taken = drain(world, drained)
    wait_for("all pods elsewhere", lambda: list_nodes(world) == [OTHER] * 4, 60, tell=world.tell)
    assert not before.keys() & world.get_identities().keys()
    found = wait_until_effective(world, stepping.name)
    assert found.list_phases() == stepping.list_phases(), found.entries
    assert get_weights(world) == {f"{NAME}-stable": 50, f"{NAME}-canary": 50}
    with capsys.disabled():
        print(f"\na node with 2 pods of stable and 2 of the canary was drained in {taken:.1f} s")
    assert world.traffic.assert_none_failed() > 100


def test_what_was_moved_is_promoted_as_if_nothing_had_happened(world: World, stepping: Rollout) -> None:
    world.dspy("promote", NAME)
    wait_until_over(world, stepping.name, "Promoted", 120)
    world.wait("two pods", lambda _: len(world.list_pods()) == 2, 60)
    world.traffic.assert_none_failed()


def test_a_drain_that_takes_a_canarys_only_pod_ends_the_attempt_within_the_gateways_lag(
    world: World, drained: str, stepping: Rollout, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of stable's share nothing fails; of the canary's, what is sent there before the gateway has the new weights."""
    assert stepping.phase == "Stepping"
    kubectl(world.installation.cluster, "uncordon", drained)
    with cordoned(world, OTHER):
        spec = with_environment(with_canaries(world.spec, None), RELEASE="3")
        name = begin(world, lambda: world.apply(spec))
        wait_until_effective(world, name)
    assert sorted(list_nodes(world)) == [OTHER, OTHER, drained]
    drain(world, drained)
    rollout = wait_until_over(world, name, "RolledBack", 60)
    assert rollout.get_entry("RollingBack").reason == "CanaryDead"
    world.wait("stable alone", lambda _: list_nodes(world) == [OTHER, OTHER], 60)
    assert world.get().get("Available").status == "True"
    failed = world.traffic.get_failed()
    with capsys.disabled():
        print(f"\na node with the canary's only pod was drained at 50 %: {failed} requests failed")
    assert failed <= RPS * 0.5 * LAG
