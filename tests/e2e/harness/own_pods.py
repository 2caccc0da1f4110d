"""Canaries with pods of their own: how stories start them, find their attempts and pods, and take pods away.

An attempt is found by its being new, as several may be at one artifact, in other environments.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

from tests.e2e.harness.api import RefusedError
from tests.e2e.harness.gateways import ask_through, open_gateway, with_gateway
from tests.e2e.harness.installation import is_ready
from tests.e2e.harness.specs import NAME, build_story
from tests.e2e.harness.views import Rollout, read_rollout
from tests.e2e.harness.waiting import POLL, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.harness.api import Object
    from tests.e2e.harness.gateways import Gateway
    from tests.e2e.harness.world import World

WORKLOAD = "dspy-operator.io/workload"
SECONDS = 90.0
TOO_MANY = 429


def start_behind(
    world: World,
    kind: str,
    host: str,
    strategy: Object,
    *,
    artifact: str = "v1",
    change: Callable[[Object], Object] = deepcopy,
) -> Gateway:
    """The first revision, its spec changed if need be, serves behind a gateway; clients are answered through it."""
    gateway = open_gateway(world.installation.cluster, world.api, kind)
    spec = change(build_story(world.namespace, world.artifacts[artifact], strategy))
    world.apply(with_gateway(spec, host, gateway))
    world.wait_until_settled(artifact)
    ask_through(world, gateway, host)
    world.start_traffic()
    return gateway


# attempts


def begin(world: World, act: Callable[[], object]) -> str:
    """Do what opens an attempt, such as applying a spec; the name of the attempt."""
    before = {rollout.name for rollout in world.list_rollouts()}
    act()

    def look() -> str | None:
        return next((r.name for r in world.list_rollouts() if r.name not in before), None)

    return wait_for("another attempt", look, SECONDS, tell=world.tell)


def get_attempt(world: World, name: str) -> Rollout:
    """An attempt by its name."""
    return read_rollout(world.api.get("DSPyRollout", world.namespace, name))


def wait_for_attempt(
    world: World,
    name: str,
    what: str,
    is_so: Callable[[Rollout], object],
    seconds: float = SECONDS,
    *,
    poll: float = POLL,
) -> Rollout:
    """An attempt once it is so."""

    def look() -> Rollout | None:
        found = get_attempt(world, name)
        return found if is_so(found) else None

    return wait_for(f"{name} {what}", look, seconds, tell=world.tell, poll=poll)


def wait_until_effective(world: World, name: str, step: int = 1, seconds: float = SECONDS) -> Rollout:
    """An attempt once the weight of a step is in effect."""
    return wait_for_attempt(
        world,
        name,
        f"at step {step} with its weight in effect",
        lambda r: r.phase == "Stepping" and r.step == step and r.weight_effective_at,
        seconds,
    )


def wait_until_over(world: World, name: str, phase: str, seconds: float = SECONDS) -> Rollout:
    """An attempt once it has ended and is closed; AssertionError when it ended otherwise."""
    found = wait_for_attempt(world, name, "has ended", lambda r: r.is_over, seconds)
    assert found.phase == phase, f"{name} ended {found.phase}, not {phase}: {found.message}\n{found.entries}"
    world.wait("the attempt is closed", lambda d: not d.canary, 30)
    return found


# pods


def list_pods_of(world: World, workload: str, *, ready: bool = False) -> list[Object]:
    """Pods of a workload that are not on their way out; only the ready ones if asked."""
    return [
        pod
        for pod in world.list_pods()
        if pod["metadata"]["labels"][WORKLOAD] == workload
        and "deletionTimestamp" not in pod["metadata"]
        and (is_ready(pod) or not ready)
    ]


def get_workloads(world: World, rollout: Rollout) -> tuple[str, str]:
    """The workloads of stable and canary of an attempt."""
    spec = world.api.get("DSPyRollout", world.namespace, rollout.name)["spec"]
    return str(spec["from"]["workload"]), str(spec["to"]["workload"])


def evict(world: World, pod: str) -> bool:
    """Ask for an eviction as a drain does; False: a disruption budget is in the way."""
    path = f"/api/v1/namespaces/{world.namespace}/pods/{pod}/eviction"
    metadata = {"name": pod, "namespace": world.namespace}
    try:
        world.api.call("POST", path, {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata})
    except RefusedError as error:
        if error.code == TOO_MANY:
            return False
        raise
    return True


def allow_pods(world: World, count: int | None) -> None:
    """Let the namespace have so many pods, those of the surroundings included; None: any number."""
    if count is None:
        world.api.delete("ResourceQuota", world.namespace, "pods")
        return
    metadata = {"name": "pods", "namespace": world.namespace}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata}
    world.api.apply(quota | {"spec": {"hard": {"pods": str(count)}}})

    def is_counted() -> bool:
        status = world.api.get("ResourceQuota", world.namespace, "pods").get("status", {})
        return bool(status.get("hard") == {"pods": str(count)} and "used" in status)

    wait_for("the quota in force", is_counted, 30)


def count_pods(world: World) -> int:
    """All pods of the namespace."""
    return len(world.api.list_("Pod", world.namespace))


# the route


def read_weights(route: Object) -> dict[str, int]:
    """Weights of the last rule of a route, by Service."""
    return {ref["name"]: ref.get("weight", 1) for ref in route["spec"]["rules"][-1]["backendRefs"]}


def get_weights(world: World) -> dict[str, int]:
    """Weights of the route as it is now."""
    return read_weights(world.api.get("HTTPRoute", world.namespace, NAME))
