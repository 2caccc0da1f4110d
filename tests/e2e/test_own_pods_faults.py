"""What can go wrong with pods of a canary's own, behind Traefik: each ends with a named reason, and stable answers on.

Before the canary has any weight nobody may notice; the split of users stands still while pods of stable go.
"""

from __future__ import annotations

import time
from copy import deepcopy
from typing import TYPE_CHECKING

import pytest
from tests.e2e.harness.artifacts import build_code
from tests.e2e.harness.own_pods import (
    allow_pods,
    begin,
    count_pods,
    evict,
    get_attempt,
    get_weights,
    get_workloads,
    list_pods_of,
    start_behind,
    wait_until_effective,
    wait_until_over,
)
from tests.e2e.harness.specs import JUDGED, NAME, build_step, build_strategy, with_environment
from tests.e2e.harness.waiting import wait_for
from tests.e2e.harness.world import RPS

if TYPE_CHECKING:
    from tests.e2e.harness.api import Object
    from tests.e2e.harness.gateways import Gateway
    from tests.e2e.harness.views import Deployment, Rollout
    from tests.e2e.harness.world import World

HOST = "faults.example"
OTHER = "example.com/other-controller"
SETTLE, QUIET = 5.0, 5.0
LONGEST = 10.0  # from the death of the last pod to the last request that was sent to it
STRATEGY = build_strategy(
    steps=(build_step(50, minDuration="20m", minSamples=30, deadline="1h"), {"weight": 100}),
    metrics=JUDGED,
    mode="Threshold",
)
STRATEGY["canary"]["readyDeadline"] = "20s"


@pytest.fixture(scope="module")
def gateway(world: World) -> Gateway:
    return start_behind(world, "traefik", HOST, STRATEGY)


def with_serving(spec: Object, **container: object) -> Object:
    """A copy whose serving container has more fields."""
    changed = deepcopy(spec)
    changed["spec"]["serving"]["podTemplate"]["spec"]["containers"][0].update(container)
    return changed


def fail_with(world: World, spec: Object, reason: str) -> tuple[Rollout, Deployment]:
    """Apply it; the attempt ends before anybody was sent there, and the resource says why."""
    before = world.get_identities()
    name = begin(world, lambda: world.apply(spec))
    rollout = wait_until_over(world, name, "RolledBack", 60)
    assert rollout.find_entry("Stepping") is None
    assert rollout.get_entry("RollingBack").reason == reason, rollout.entries
    deployment = world.wait("the resource says so", lambda d: d.get("Stalled").status == "True", 30)
    assert deployment.get("Available").status == "True"
    world.wait("its pods are gone", lambda _: world.get_identities() == before, 60)
    world.traffic.assert_none_failed()
    return rollout, deployment


def test_a_canary_that_crashes_again_and_again_is_given_up_by_the_pods_name(
    world: World, gateway: Gateway
) -> None:
    assert gateway.kind == "traefik"
    rollout, deployment = fail_with(world, with_environment(world.spec, PYTHONHOME="/nowhere"), "NotReady")
    told = deployment.get("Stalled").message
    assert deployment.get("Stalled").reason == "RolledBack"
    assert f"pod {NAME}-" in told
    assert "CrashLoopBackOff" in told, told
    assert "20s (readyDeadline)" in told
    assert rollout.revision in told


def test_a_canary_whose_image_cannot_be_pulled_is_given_up_by_the_images_name(
    world: World, gateway: Gateway
) -> None:
    assert gateway.kind == "traefik"
    spec = with_environment(world.spec, RELEASE="2")
    spec["spec"]["image"] = "localhost/no-such-image:1"
    _, deployment = fail_with(world, spec, "NotReady")
    told = deployment.get("Stalled").message
    assert "ImagePull" in told, told
    assert "localhost/no-such-image:1" in told, told
    del spec["spec"]["image"]
    world.spec = spec


def test_a_canary_for_which_no_node_is_large_enough_is_given_up_in_the_schedulers_words(
    world: World, gateway: Gateway
) -> None:
    assert gateway.kind == "traefik"
    resources = {"requests": {"cpu": "500", "memory": "160Mi"}}
    _, deployment = fail_with(world, with_serving(world.spec, resources=resources), "NotReady")
    told = deployment.get("Stalled").message
    assert f"pod {NAME}-" in told, told
    assert "Insufficient cpu" in told, told
    world.spec = with_serving(world.spec, resources={"requests": {"cpu": "50m", "memory": "160Mi"}})


def test_a_canary_whose_pods_run_and_never_become_ready_is_given_up_by_the_containers_name(
    world: World, gateway: Gateway
) -> None:
    """Its code does not come back from its import: the process lives and answers probes, and serves nothing."""
    assert gateway.kind == "traefik"
    code = build_code(world.namespace)
    code["metadata"]["name"] = "endless-code"
    code["data"] = {file: f"import time\ntime.sleep(3600)\n{text}" for file, text in code["data"].items()}
    world.api.apply(code)
    good, spec = world.spec, deepcopy(world.spec)
    spec["spec"]["program"]["source"]["configMap"]["name"] = "endless-code"
    rollout, deployment = fail_with(world, spec, "NotReady")
    told = deployment.get("Stalled").message
    assert "0 of 1 pods of the canary could be reached within 20s (readyDeadline)" in told, told
    assert f"pod {NAME}-" in told
    assert "containers with unready status: [server]" in told, told
    assert rollout.get_entry("RollingBack").at - rollout.created_at >= 20
    world.spec = good


def test_a_canary_that_a_quota_denies_ends_in_the_words_of_the_api_server(
    world: World, gateway: Gateway
) -> None:
    assert gateway.kind == "traefik"
    allow_pods(world, count_pods(world))
    _, deployment = fail_with(world, with_environment(world.spec, RELEASE="3"), "QuotaExceeded")
    assert deployment.get("Stalled").reason == "QuotaExceeded"
    assert "exceeded quota: pods" in deployment.get("Stalled").message
    allow_pods(world, None)


@pytest.fixture(scope="module")
def stepping(world: World, gateway: Gateway) -> Rollout:
    """An attempt that stands at 50 %, with a word of somebody else's controller on its route since before."""
    assert gateway.kind == "traefik"
    say_as_another_controller(world)
    name = begin(world, lambda: world.apply(with_environment(world.spec, RELEASE="4")))
    return wait_until_effective(world, name)


def say_as_another_controller(world: World) -> None:
    """Write what a controller whose Gateway the spec does not name may write into a route's status."""
    route = world.api.get("HTTPRoute", world.namespace, NAME)
    condition = {
        "type": "Accepted",
        "status": "False",
        "reason": "NotAllowedByListeners",
        "message": "not here",
        "observedGeneration": route["metadata"]["generation"],
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    entry = {"controllerName": OTHER, "parentRef": {"name": "other"}, "conditions": [condition]}
    parents = [*route["status"]["parents"], entry]
    world.api.merge("HTTPRoute", world.namespace, NAME, {"status": {"parents": parents}}, "status")


# at 50 %


def test_what_the_controller_of_another_gateway_says_is_ignored(world: World, stepping: Rollout) -> None:
    assert stepping.weight == 50
    parents = world.api.get("HTTPRoute", world.namespace, NAME)["status"]["parents"]
    assert OTHER in {parent["controllerName"] for parent in parents}
    assert world.get().get("Stalled").status == "False"
    assert world.traffic.assert_none_failed() > 100


def test_a_route_edited_by_hand_is_put_back_at_once(
    world: World, stepping: Rollout, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = world.api.get("HTTPRoute", world.namespace, NAME)["spec"]["rules"]
    due = get_weights(world)
    assert due == {f"{NAME}-stable": 50, f"{NAME}-canary": 50}
    edited = deepcopy(rules)
    refs = edited[-1]["backendRefs"]
    refs[0]["weight"], refs[1]["weight"] = 5, 80
    refs.append(refs[0] | {"name": NAME, "weight": 15})
    began = time.monotonic()
    world.api.merge("HTTPRoute", world.namespace, NAME, {"spec": {"rules": edited}})
    wait_for("the route as it was", lambda: get_weights(world) == due, 15, tell=world.tell, poll=0.05)
    taken = time.monotonic() - began
    with capsys.disabled():
        print(f"\na route edited by hand was put back after {taken:.2f} s")
    assert taken < 5
    start = world.traffic.get_now() + SETTLE
    wait_for("answers", lambda: world.traffic.get_split(start, start + 5).total > 100, 30, tell=world.tell)
    world.traffic.get_split(start, start + 5).assert_share(stepping.revision, 50)
    assert get_attempt(world, stepping.name).phase == "Stepping"


def test_stables_pods_die_one_by_one_and_nothing_moves(world: World, stepping: Rollout) -> None:
    stable, _ = get_workloads(world, stepping)
    for pod in list_pods_of(world, stable, ready=True):
        name = pod["metadata"]["name"]
        world.api.delete("Pod", world.namespace, name)
        wait_for(
            f"another pod than {name}",
            lambda name=name: name not in get_ready(world, stable) and len(get_ready(world, stable)) == 2,
            60,
            tell=world.tell,
        )
        assert get_weights(world) == {f"{NAME}-stable": 50, f"{NAME}-canary": 50}
    assert get_attempt(world, stepping.name).phase == "Stepping"
    world.traffic.assert_none_failed()


def get_ready(world: World, workload: str) -> set[str]:
    return {pod["metadata"]["name"] for pod in list_pods_of(world, workload, ready=True)}


def test_a_drain_gets_one_pod_at_a_time(world: World, stepping: Rollout) -> None:
    stable, _ = get_workloads(world, stepping)
    first, second = sorted(get_ready(world, stable))
    assert evict(world, first)
    assert not evict(world, second), "the disruption budget allows one pod at a time"
    wait_for(
        "a pod instead",
        lambda: first not in get_ready(world, stable) and len(get_ready(world, stable)) == 2,
        60,
    )
    wait_for("the second eviction", lambda: evict(world, second), 30)
    wait_for(
        "a pod instead",
        lambda: second not in get_ready(world, stable) and len(get_ready(world, stable)) == 2,
        60,
    )
    assert get_attempt(world, stepping.name).phase == "Stepping"
    world.traffic.assert_none_failed()


def test_a_canary_whose_pods_all_die_at_50_percent_is_rolled_back_within_seconds(
    world: World, stepping: Rollout, capsys: pytest.CaptureFixture[str]
) -> None:
    """What of the canary's share is on its way when its pods die cannot be saved; nothing of stable's may fail."""
    _, workload = get_workloads(world, stepping)
    world.traffic.assert_none_failed()
    allow_pods(world, count_pods(world) - 1)
    (pod,) = list_pods_of(world, workload, ready=True)
    began = world.traffic.get_now()
    world.api.delete("Pod", world.namespace, pod["metadata"]["name"], grace=0)
    rollout = wait_until_over(world, stepping.name, "RolledBack", 30)
    entry = rollout.get_entry("RollingBack")
    assert entry.reason == "CanaryDead"
    assert "No pod of the canary is ready at 50 %" in entry.message
    failed, last = wait_for_quiet(world, began)
    with capsys.disabled():
        print(
            f"\nall pods of the canary died at 50 %: on record after {entry.at - began:.1f} s, {failed} requests "
            f"failed, the last sent {last - began:.1f} s after the death"
        )
    assert last - began < LONGEST
    assert failed <= RPS * 0.5 * (last - began + 1) * 1.5, "no more than the canary's share"
    deployment = world.wait("the resource says so", lambda d: d.get("Stalled").status == "True", 30)
    assert deployment.get("Stalled").reason == "CanaryDead"
    assert deployment.get("Available").status == "True"


def wait_for_quiet(world: World, start: float) -> tuple[int, float]:
    """Requests that failed since then, and when the last one was sent, once all have been answered for a while."""

    def look() -> tuple[int, float] | None:
        stats = world.traffic.get_stats(int(start))
        failures = {second: counts.get("failed", 0) for second, counts in stats["buckets"]}
        last = max((second for second, failed in failures.items() if failed), default=int(start))
        return (sum(failures.values()), last + 1) if stats["now"] - last > QUIET else None

    return wait_for("answers only", look, 60, tell=world.tell)
