"""Own pods without a gateway: one Service of stable's pods, of both, or of the canary's, and the numbers of pods.

Every pod behind the Service gets the same share, connection by connection, so the weight is only approximated.
"""

from collections.abc import Mapping

from dspy_operator.api import names
from dspy_operator.manifests.drift import is_covered
from dspy_operator.manifests.owner import Manifest
from dspy_operator.manifests.service import build_service
from dspy_operator.rollout.model import Split
from dspy_operator.rollout.sizing import FULL
from dspy_operator.traffic.view import SETTLE, Obstacle, View, get_canary_workload


class ReplicasRouter:
    """Writes the Service's selector and says when its endpoints follow."""

    def list_services(self, view: View, split: Split) -> list[Manifest]:
        """The Service that clients call is the split; a preview has its own."""
        wanted = [self._build(view, split, {})]
        if view.preview:
            wanted.append(
                build_service(view.owner, names.preview_service_name(view.owner.name), view.preview)
            )
        return wanted

    def list_writes(
        self, view: View, split: Split, annotations: Mapping[str, str], *, again: bool = False
    ) -> list[Manifest]:
        """The Service if it selects other pods."""
        wanted = self._build(view, split, annotations)
        live = view.services.get(wanted["metadata"]["name"])
        if live is None or (not again and _selects_alike(live, wanted)):
            return []
        return [wanted]

    def find_obstacle(self, view: View, split: Split) -> Obstacle | None:
        """The Service selects and reaches the pods that it should, as many as it should, and has for a while."""
        wanted = self._build(view, split, {})
        name = wanted["metadata"]["name"]
        live = view.services.get(name)
        if live is None or not is_covered(live["spec"], wanted["spec"]) or not _selects_alike(live, wanted):
            return Obstacle(f"Service {name} does not select its pods yet")
        workloads = _list_workloads(split)
        ready = {workload: view.list_ready(workload) for workload in workloads}
        if len(workloads) > 1:
            for workload in workloads:
                due = view.sizes.get(workload)
                if due is not None and len(ready[workload]) != due:
                    return Obstacle(f"{len(ready[workload])} of {due} pods of workload {workload} are ready")
        endpoints = view.list_endpoints(name)
        if endpoints != frozenset().union(*ready.values()):
            view.lasts("endpoints", None)
            return Obstacle(f"Service {name} does not reach exactly its ready pods yet")
        if view.lasts("endpoints", tuple(sorted(endpoints))) < SETTLE:
            return Obstacle(f"the nodes are given {SETTLE:.0f} s to follow", is_settling=True)
        return None

    def count_reachable(self, view: View, split: Split) -> tuple[int, str]:
        """Ready pods: the Service takes them in as soon as it selects them."""
        return len(view.list_ready(get_canary_workload(split))), ""

    def _build(self, view: View, split: Split, annotations: Mapping[str, str]) -> Manifest:
        workloads = _list_workloads(split)
        service = build_service(
            view.owner, names.service_name(view.owner.name), workloads[0] if len(workloads) == 1 else None
        )
        if annotations:
            service["metadata"]["annotations"] = dict(annotations)
        return service


def _list_workloads(split: Split) -> tuple[str, ...]:
    """Whose pods the Service reaches."""
    stable, canary = split.stable.program.workload, get_canary_workload(split)
    if split.weight == 0 or stable == canary:
        return (stable,)
    return (canary,) if split.weight >= FULL else (stable, canary)


def _selects_alike(live: Mapping[str, object], wanted: Manifest) -> bool:
    """A selector is compared whole: one label more is other pods."""
    spec = live.get("spec")
    return isinstance(spec, Mapping) and spec.get("selector") == wanted["spec"]["selector"]
