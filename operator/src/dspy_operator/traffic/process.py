"""Shared pods: each splits by the routing table, and all that clients need is one Service of stable's pods."""

from collections.abc import Mapping

from dspy_operator.api import names
from dspy_operator.manifests.owner import Manifest
from dspy_operator.manifests.service import build_service
from dspy_operator.rollout.model import Split
from dspy_operator.traffic.view import Obstacle, View


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
        """The Service must not reach pods that are going."""
        name = names.service_name(view.owner.name)
        if split.leaving and not view.is_reached_only(name, split.stable.program.workload):
            return Obstacle(f"Service {name} does not reach stable's pods alone yet")
        return None

    def count_reachable(self, view: View, split: Split) -> tuple[int, str]:
        """Stable's pods are the canary's."""
        return len(view.list_ready(split.stable.program.workload)), ""
