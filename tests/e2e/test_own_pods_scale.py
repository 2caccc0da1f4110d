"""Numbers of pods are the weight without a gateway: what they cannot reach is refused, and they follow an autoscaler.

The HorizontalPodAutoscaler is Kubernetes' own; as no metrics server runs, only its bounds move the number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.e2e.harness.api import OPERATOR_API
from tests.e2e.harness.own_pods import (
    begin,
    get_attempt,
    get_workloads,
    list_pods_of,
    wait_for_attempt,
    wait_until_effective,
    wait_until_over,
)
from tests.e2e.harness.specs import JUDGED, NAME, build_step, build_story, build_strategy, with_environment
from tests.e2e.harness.waiting import wait_for, watch_for

if TYPE_CHECKING:
    from tests.e2e.harness.api import Object
    from tests.e2e.harness.views import Rollout
    from tests.e2e.harness.world import World

LONG = {"minDuration": "20m", "deadline": "1h"}
STRATEGY = build_strategy(
    steps=(build_step(10, **LONG), build_step(50, **LONG), {"weight": 100}), metrics=JUDGED, mode="Threshold"
)
SETTLE = 5
SYNC = 40  # the autoscaler looks every 15 s


def with_traffic(spec: Object, **fields: object) -> Object:
    """A copy with more fields of spec.traffic."""
    changed = {**spec, "spec": dict(spec["spec"])}
    changed["spec"]["traffic"] = spec["spec"]["traffic"] | fields
    return changed


def scale_by_autoscaler(world: World, replicas: int) -> None:
    """Let the autoscaler want this number, and wait until it has written it."""
    target = {"apiVersion": OPERATOR_API, "kind": "DSPyDeployment", "name": NAME}
    use = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}
    world.api.apply(
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": NAME, "namespace": world.namespace},
            "spec": {
                "scaleTargetRef": target,
                "minReplicas": replicas,
                "maxReplicas": replicas,
                "metrics": [{"type": "Resource", "resource": use}],
            },
        }
    )
    wait_for(f"the autoscaler to want {replicas}", lambda: get_replicas(world) == replicas, SYNC)


def get_replicas(world: World) -> int:
    return int(world.api.get("DSPyDeployment", world.namespace, NAME)["spec"]["replicas"])


def scale_by_hand(world: World, replicas: int) -> None:
    """`kubectl scale`, with no autoscaler any more."""
    world.api.delete("HorizontalPodAutoscaler", world.namespace, NAME)
    world.api.merge("DSPyDeployment", world.namespace, NAME, {"spec": {"replicas": replicas}}, "scale")


def wait_for_sizes(world: World, rollout: Rollout, stable: int, canary: int) -> None:
    """So many ready pods of each workload, and none besides."""
    workloads = get_workloads(world, rollout)

    def count() -> list[tuple[int, int]]:
        return [(len(list_pods_of(world, w, ready=True)), len(list_pods_of(world, w))) for w in workloads]

    wait_for(
        f"{stable} pods of stable and {canary} of the canary",
        lambda: count() == [(stable, stable), (canary, canary)],
        60,
        tell=lambda: f"{count()}\n{world.tell()}",
    )


def wait_for_actual(world: World, weight: int, actual: int) -> None:
    """The status says both the weight and what users get."""
    world.wait(
        f"{actual} % where {weight} % is asked for",
        lambda d: (d.weight, d.status.get("actualWeight")) == (weight, actual),
        30,
    )


@pytest.fixture(scope="module")
def refused(world: World) -> str:
    """Two pods, a first step of 10 %, and another environment: the message."""
    world.apply(build_story(world.namespace, world.artifacts["v1"], STRATEGY))
    world.wait_until_settled("v1")
    world.start_traffic()
    world.apply(with_environment(world.spec, RELEASE="2"))
    found = world.wait("the refusal", lambda d: d.get("Stalled").reason == "WeightNotReachable", 60)
    assert found.get("Stalled").status == "True"
    assert found.get("Available").status == "True"
    return found.get("Stalled").message


def test_a_weight_that_two_pods_cannot_come_near_is_refused_with_what_would_do(
    world: World, refused: str
) -> None:
    assert "10 % cannot be reached by the numbers of pods: 1 of 2 is 50 %" in refused
    for way in ("spec.replicas to ", "spec.traffic.gateway", "spec.traffic.approximation", "larger weights"):
        assert way in refused, refused
    watch_for("no attempt", lambda: not world.list_rollouts() and len(world.list_pods()) == 2, 4)
    world.traffic.assert_none_failed()


@pytest.fixture(scope="module")
def allowed(world: World, refused: str) -> Rollout:
    """The attempt that Allow opens, at its first step."""
    assert refused
    name = begin(world, lambda: world.apply(with_traffic(world.spec, approximation="Allow")))
    return wait_until_effective(world, name)


def test_allow_takes_what_there_is_and_the_status_says_what_users_get(world: World, allowed: Rollout) -> None:
    wait_for_sizes(world, allowed, 1, 1)
    wait_for_actual(world, 10, 50)
    start = world.traffic.get_now()
    wait_for("answers", lambda: world.traffic.get_split(start, start + 8).total > 150, 30)
    world.traffic.get_split(start, start + 8).assert_share(allowed.revision, 50)
    told = wait_for_attempt(world, allowed.name, "is judged", lambda r: "observed for" in r.message).message
    assert "cannot be compared" not in told


def test_an_autoscaler_brings_the_weight_nearer(world: World, allowed: Rollout) -> None:
    scale_by_autoscaler(world, 4)
    wait_for_sizes(world, allowed, 3, 1)
    wait_for_actual(world, 10, 25)
    world.traffic.assert_none_failed()


def test_both_follow_an_autoscaler_up_and_down_at_50_percent(world: World, allowed: Rollout) -> None:
    world.dspy("promote", NAME)
    wait_until_effective(world, allowed.name, 2)
    wait_for_sizes(world, allowed, 2, 2)
    wait_for_actual(world, 50, 50)
    scale_by_autoscaler(world, 2)
    wait_for_sizes(world, allowed, 1, 1)
    world.traffic.assert_none_failed()


def test_one_replica_leaves_one_pod_of_each(world: World, allowed: Rollout) -> None:
    scale_by_hand(world, 1)
    world.wait("it is taken", lambda d: d.is_current, 20)
    wait_for_sizes(world, allowed, 1, 1)
    wait_for_actual(world, 50, 50)
    assert get_attempt(world, allowed.name).phase == "Stepping"
    world.traffic.assert_none_failed()


def test_none_and_back_ends_no_attempt(world: World, allowed: Rollout) -> None:
    world.traffic.set_rate(0)
    scale_by_hand(world, 0)
    wait_for_sizes(world, allowed, 0, 0)
    scale_by_hand(world, 2)
    wait_for_sizes(world, allowed, 1, 1)
    # As long as the operator itself gives the nodes to learn of endpoints: before that they refuse, as there were none.
    watch_for("the attempt", lambda: get_attempt(world, allowed.name).phase == "Stepping", SETTLE)
    world.start_traffic()
    world.traffic.assert_none_failed()


def test_a_scale_during_a_rollback_gives_stable_all_pods(world: World, allowed: Rollout) -> None:
    scale_by_hand(world, 4)
    world.dspy("abort", NAME)
    wait_until_over(world, allowed.name, "Aborted")
    wait_for_sizes(world, allowed, 4, 0)
    world.traffic.assert_none_failed()


def test_canary_replicas_say_how_many_whatever_the_weight(world: World, allowed: Rollout) -> None:
    assert allowed.weight == 10
    spec = with_traffic(with_environment(world.spec, RELEASE="3"), canaryReplicas=2)
    rollout = wait_until_effective(world, begin(world, lambda: world.apply(spec)))
    wait_for_sizes(world, rollout, 2, 2)
    wait_for_actual(world, 10, 50)
    assert world.traffic.assert_none_failed() > 1000
