"""A gateway is restarted, its controller is silent, its data plane lags: told by name, and no way back waits for it.

Envoy splits at random, so that shares are asserted within binomial bounds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.e2e.harness.own_pods import (
    begin,
    get_attempt,
    get_weights,
    get_workloads,
    list_pods_of,
    start_behind,
    wait_until_effective,
    wait_until_over,
)
from tests.e2e.harness.specs import (
    JUDGED,
    NAME,
    build_step,
    build_strategy,
    with_artifact,
    with_environment,
    with_strategy,
)
from tests.e2e.harness.waiting import wait_for, watch_for

if TYPE_CHECKING:
    from tests.e2e.harness.gateways import Gateway
    from tests.e2e.harness.views import Rollout
    from tests.e2e.harness.world import World

pytestmark = pytest.mark.alone

HOST = "gateway-faults.example"
QUICK = {"minDuration": "8s", "minSamples": 30}
STRATEGY = build_strategy(
    steps=(build_step(10, **QUICK), build_step(50, **QUICK), {"weight": 100}),
    metrics=JUDGED,
    mode="Threshold",
)
LONG = {"minDuration": "20m", "deadline": "1h"}
SLOW = build_strategy(
    steps=(build_step(10, **LONG), build_step(50, **LONG), {"weight": 100}), metrics=JUDGED, mode="Threshold"
)
for strategy in (STRATEGY, SLOW):
    strategy["canary"]["readyDeadline"] = "30s"
LATE = 1  # seconds that an answer may take
GRACE = 30.0  # of a pod, as Kubernetes has it
LAG = 2  # seconds that the data plane may be behind; the operator gives it 5


@pytest.fixture(scope="module")
def gateway(world: World) -> Gateway:
    return start_behind(world, "envoy", HOST, STRATEGY)


def find_failed(world: World, start: float, end: float) -> tuple[int, dict[int, int]]:
    """Requests that failed because of what happened in a stretch of time, and all others by second since its start.

    What is on its way when a data plane dies was sent a moment before; and the network of a pod that was killed without
    a farewell is taken away up to its grace period later.
    """
    buckets = {
        int(second): int(counts.get("failed", 0)) for second, counts in world.traffic.get_stats(0)["buckets"]
    }
    inside = {second for second in buckets if start - LATE - 1 <= second <= end + GRACE}
    others = {
        second - int(start): failed for second, failed in buckets.items() if failed and second not in inside
    }
    return sum(buckets[second] for second in inside), others


@pytest.fixture(scope="module")
def restarted(world: World, gateway: Gateway) -> tuple[str, float, float]:
    """v2 in another environment, and a restart in its first step: the attempt, and when the gateway was away."""
    world.traffic.assert_none_failed()
    spec = with_artifact(with_environment(world.spec, RELEASE="2"), world.artifacts["v2"])
    name = begin(world, lambda: world.apply(spec))
    wait_until_effective(world, name)
    began = world.traffic.get_now()
    gateway.restart()
    wait_for(
        "an answer", lambda: world.traffic.get_split(world.traffic.get_now() - 2, began + 60).total > 30, 30
    )
    return name, began, world.traffic.get_now()


@pytest.fixture(scope="module")
def promoted(world: World, restarted: tuple[str, float, float]) -> Rollout:
    return wait_until_over(world, restarted[0], "Promoted", 180)


def test_a_restarted_gateway_fails_requests_only_while_it_is_away_and_the_rollout_goes_on(
    world: World,
    restarted: tuple[str, float, float],
    promoted: Rollout,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, began, ended = restarted
    inside, others = find_failed(world, began, ended)
    with capsys.disabled():
        print(
            f"\nEnvoy restarted: {inside} requests failed in {ended - began:.1f} s, at other times {others}"
        )
    assert others == {}
    assert promoted.list_phases() == [
        *("Preparing", "Stepping 1", "Stepping 2", "Promoting", "Baking", "Promoted"),
    ]


@pytest.mark.parametrize(("step", "weight"), [(1, 10), (2, 50)])
def test_the_split_at_each_step_is_that_of_the_weight_within_binomial_bounds(
    world: World, restarted: tuple[str, float, float], promoted: Rollout, step: int, weight: int
) -> None:
    effective = world.watch.find_effective_at(promoted.name, step)
    assert effective is not None
    start = max(effective, restarted[2])
    following = promoted.get_entry("Stepping", 2) if step == 1 else promoted.get_entry("Promoting")
    split = world.traffic.get_split(start, following.at)
    split.assert_share(promoted.revision, weight)


@pytest.fixture(scope="module")
def unheard(world: World, gateway: Gateway, promoted: Rollout) -> Rollout:
    """At the raise to 50 % the gateway's controller writes no status any more; the attempt, ended."""
    assert promoted.is_over
    world.wait_until_settled("v2")
    spec = with_environment(with_strategy(world.spec, SLOW), RELEASE="3")
    name = begin(world, lambda: world.apply(spec))
    wait_until_effective(world, name)
    with gateway.status_held():
        world.dspy("promote", NAME)
        world.wait("what is waited for", lambda d: f"Gateway {gateway.name}" in d.message, 15)
        rollout = wait_until_over(world, name, "RolledBack", 60)
        assert get_weights(world) == {f"{NAME}-stable": 100, f"{NAME}-canary": 0}
        world.wait("the end is told", lambda d: d.get("Stalled").status == "True", 30)
    return rollout


def test_a_silent_controller_at_a_raise_brings_the_weight_back_by_name(
    world: World, gateway: Gateway, unheard: Rollout
) -> None:
    entry = unheard.get_entry("RollingBack")
    assert entry.reason == "GatewayNotReady", entry
    assert f"Gateway {gateway.name}" in entry.message
    assert "readyDeadline" in entry.message
    deployment = world.wait("its reason", lambda d: d.get("Stalled").reason == "GatewayNotReady", 30)
    assert f"Gateway {gateway.name}" in deployment.get("Stalled").message
    assert deployment.get("Available").status == "True"


def test_its_pods_go_when_the_controller_speaks_again(world: World, unheard: Rollout) -> None:
    _, canary = get_workloads(world, unheard)
    wait_for("its pods to go", lambda: not list_pods_of(world, canary), 60, tell=world.tell)


@pytest.fixture(scope="module")
def lagging(world: World, gateway: Gateway, unheard: Rollout) -> Rollout:
    """Tried again; at the raise to 50 % the status is current and the traffic is not."""
    assert unheard.is_over
    name = begin(world, lambda: world.dspy("retry", NAME))
    wait_until_effective(world, name)
    with gateway.routes_held():
        world.dspy("promote", NAME)
        rollout = wait_until_effective(world, name, 2)
        start = world.traffic.get_now()
        wait_for("answers", lambda: world.traffic.get_split(start, start + 6).total > 120, 30)
        world.traffic.get_split(start, start + 6).assert_share(rollout.revision, 10)
    return get_attempt(world, name)


def test_a_data_plane_that_lags_gives_the_canary_what_it_had_and_ends_nothing(lagging: Rollout) -> None:
    assert (lagging.phase, lagging.step, lagging.weight) == ("Stepping", 2, 50)


def test_a_data_plane_behind_by_less_than_the_settling_time_fails_nobody_on_the_way_back(
    world: World, gateway: Gateway, lagging: Rollout
) -> None:
    _, canary = get_workloads(world, lagging)
    began = world.traffic.get_now()
    with gateway.routes_held():
        world.dspy("abort", NAME)
        wait_for("weight 0", lambda: get_weights(world)[f"{NAME}-canary"] == 0, 10, poll=0.05)
        watch_for("the canary's pods", lambda: bool(list_pods_of(world, canary, ready=True)), LAG)
    wait_until_over(world, lagging.name, "Aborted")
    wait_for("its pods to go", lambda: not list_pods_of(world, canary), 60, tell=world.tell)
    failed, _ = find_failed(world, began + LATE + 1, world.traffic.get_now())
    assert failed == 0, world.traffic.get_stats()["total"]["causes"]
