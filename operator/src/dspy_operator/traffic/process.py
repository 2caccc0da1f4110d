"""Shared pods: each splits by the routing table, and all that clients need is one Service of stable's pods."""

from collections.abc import Mapping

from dspy_operator.api import names
from dspy_operator.manifests.owner import Manifest
from dspy_operator.manifests.service import build_service
from dspy_operator.rollout.model import Split
from dspy_operator.traffic.view import SETTLE, Obstacle, View


class ProcessRouter:
    """Nothing but the table moves traffic."""

    def list_services(self, view: View, split: Split) -> list[Manifest]:
        """The Service that clients call."""
        name = names.service_name(view.owner.name)
        return [build_service(view.owner, name, split.stable.program.workload)]

    def list_writes(
        self, view: View, split: Split, annotations: Mapping[str, str], *, again: bool = False
    ) -> list[Manifest]:
        """None: the table is written already."""
        del view, split, annotations, again
        return []

    def find_obstacle(self, view: View, split: Split) -> Obstacle | None:
        """The Service must not reach pods that are going, and has not for a while: the nodes follow it later."""
        name, workload = names.service_name(view.owner.name), split.stable.program.workload
        if not split.leaving:
            view.lasts("stable alone", None)
            return None
        if not view.is_reached_only(name, workload):
            view.lasts("stable alone", None)
            return Obstacle(f"Service {name} does not reach stable's pods alone yet")
        if view.lasts("stable alone", workload) < SETTLE:
            return Obstacle(f"the nodes are given {SETTLE:.0f} s to follow", is_settling=True)
        return None

    def count_reachable(self, view: View, split: Split) -> tuple[int, str]:
        """Stable's pods are the canary's."""
        return len(view.list_ready(split.stable.program.workload)), ""
