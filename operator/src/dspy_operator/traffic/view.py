"""What a router sees of the cluster, and what it says: the small port that moves traffic between pods.

Three implementations: `process.py` (shared pods), `gateway_api.py` and `replicas.py` (own pods). They are pure: built
by `reconcile/routing.py` from one reading, asked by `observe` and `execute`; who writes is `reconcile/execute.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from dspy_operator.api.names import LABEL_COMPONENT, LABEL_WORKLOAD
from dspy_operator.manifests.gateway import Parents
from dspy_operator.manifests.owner import Manifest, Owner
from dspy_operator.rollout.model import Split

Object = Mapping[str, Any]

SETTLE: Final = 5.0
"""Seconds that a change is given to reach the data plane: status is not traffic (measured: 0.2 to 1.2 s behind)."""


@dataclass(frozen=True)
class Obstacle:
    """Why a split is not in effect, for people. `is_settling`: only time is missing, as far as can be told."""

    message: str
    is_settling: bool = False


@dataclass(frozen=True)
class View:
    """What a router goes by.

    `parents`: of the route, None without a gateway. `services` are ours by name, `slices` their EndpointSlices, `pods`
    the live serving pods. `sizes`: how many pods a workload should have. `lasts` says for how many seconds something,
    by name, has been seen in the same state; None is no state. `preview`: the workload that a Service shows before any
    traffic.
    """

    owner: Owner
    services: Mapping[str, Object] = field(default_factory=dict)
    slices: tuple[Object, ...] = ()
    pods: tuple[Object, ...] = ()
    route: Object | None = None
    parents: Parents | None = None
    override_header: str = ""
    sizes: Mapping[str, int] = field(default_factory=dict)
    preview: str = ""
    lasts: Callable[[str, object], float] = lambda _name, _state: SETTLE

    def list_ready(self, workload: str) -> frozenset[str]:
        """Names of the ready pods of a workload."""
        return frozenset(
            pod["metadata"]["name"]
            for pod in self.pods
            if pod["metadata"]["labels"].get(LABEL_WORKLOAD) == workload and is_ready(pod)
        )

    def list_endpoints(self, service: str) -> frozenset[str]:
        """Names of the pods that a Service sends requests to, as its EndpointSlices say."""
        found = (
            endpoint
            for one in self.slices
            if (one["metadata"].get("labels") or {}).get("kubernetes.io/service-name") == service
            for endpoint in one.get("endpoints") or ()
        )
        return frozenset(
            str((endpoint.get("targetRef") or {}).get("name", ""))
            for endpoint in found
            if (endpoint.get("conditions") or {}).get("ready") is not False
        )

    def is_reached_only(self, service: str, workload: str) -> bool:
        """Whether a Service sends requests to pods of a workload, and to no live pod of another."""
        labels = {pod["metadata"]["name"]: pod["metadata"]["labels"].get(LABEL_WORKLOAD) for pod in self.pods}
        reached = {labels[name] for name in self.list_endpoints(service) if name in labels}
        return reached == {workload}

    def find_selected(self, service: str) -> str | None:
        """The workload that a live Service selects, empty for all serving pods; None if there is none, or another's."""
        live = self.services.get(service)
        selector = ((live or {}).get("spec") or {}).get("selector") or {}
        if live is None or LABEL_COMPONENT not in selector:
            return None
        return str(selector.get(LABEL_WORKLOAD, ""))


class Router(Protocol):
    """Moves traffic so that it follows a split."""

    def list_services(self, view: View, split: Split) -> list[Manifest]:
        """The Services that there must be."""

    def list_writes(
        self, view: View, split: Split, annotations: Mapping[str, str], *, again: bool = False
    ) -> list[Manifest]:
        """What must be written now for the split, with the annotations of its record; `again`: also if it is there."""

    def find_obstacle(self, view: View, split: Split) -> Obstacle | None:
        """Why the split is not in effect; None: it is."""

    def count_reachable(self, view: View, split: Split) -> tuple[int, str]:
        """Ready pods of the canary that traffic would reach, and what the others wait for."""


def is_ready(pod: Object) -> bool:
    """Whether a live pod answers users."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def get_canary_workload(split: Split) -> str:
    """The pods of the canary's own; stable's while there are none."""
    return split.canary.program.workload if split.canary else split.stable.program.workload


def has_own_pods(split: Split) -> bool:
    """Whether stable and canary live in different pods."""
    return get_canary_workload(split) != split.stable.program.workload
