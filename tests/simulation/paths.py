"""The invariants of what routes to pods of a canary's own: route, Services, numbers of pods, pods that go.

Called by `run.py` for each change, beside `referee.py`. Whom requests reach is asked of the data plane, not of the
objects: it follows them late.
"""

from dataclasses import dataclass, field
from typing import Any

from tests.simulation.referee import Referee
from tests.simulation.store import Change, Object
from tests.simulation.user import NAME, NAMESPACE

from dspy_operator.api import names
from dspy_operator.kube.resources import (
    CONFIGMAPS,
    DEPLOYMENTS,
    HTTPROUTES,
    PODS,
    SERVICES,
)
from dspy_operator.manifests.gateway import read_weights
from dspy_operator.manifests.owner import Owner

OWNER = Owner(NAMESPACE, NAME, "")
ROLES = (names.stable_service_name(NAME), names.canary_service_name(NAME))
RECENT = 20.0
"""Seconds in which pods that were hurt, and another `spec.replicas`, may not have been noticed and made up for."""
FULL = 100


@dataclass
class Paths:
    """`selected` by Service: the workload that the operator wrote last."""

    referee: Referee
    selected: dict[str, str] = field(default_factory=dict)

    def check(self, change: Change) -> None:
        """One write."""
        if not change.who.startswith("operator"):
            return
        if change.resource is HTTPROUTES:
            self._check_route(change)
        elif change.resource is SERVICES and change.after is not None:
            self._check_service(change, change.after)
        elif change.resource is DEPLOYMENTS:
            self._check_deployment(change)
        elif change.resource is CONFIGMAPS and change.live["metadata"]["name"] == names.routes_name(NAME):
            self._check_pods_for_table(change)

    # --- the route and the Services -----------------------------------------------------------------------------

    def _check_route(self, change: Change) -> None:
        """S4, S7: the canary's share of the route never exceeds the record's, nor rises for who was given up."""
        weights = read_weights(change.after, OWNER)
        if weights is None:
            self.referee.say("S6", "the route goes, or gives the two roles nothing that can be read")
            return
        before = read_weights(change.before, OWNER) or (FULL, 0)
        stable = self.find_stable_workload()
        if (
            weights[0] > before[0]
            and not self.referee.was_deleted(NAME)
            and self._find_selected(ROLES[0]) != stable
        ):
            self.referee.say("S6", f"the route gives {ROLES[0]} {weights[0]} % before it selects {stable}")
        if weights[1] > before[1]:
            self._check_raise(f"the route gives the canary {weights[1]} %", weights[1])

    def _check_raise(self, what: str, weight: int) -> None:
        """An attempt is open, its record says so much, and it was not given up."""
        status = self._get_status()
        uid = (status.get("canary") or {}).get("rolloutUID", "")
        rollout = self.referee.find_rollout(uid)
        if rollout is None:
            if not self.referee.was_deleted("rollout") and not self.referee.people.removed:
                self.referee.say("S4", f"{what} without an attempt")
            return
        recorded = (rollout.get("status") or {}).get("weight") or 0
        if weight > recorded:
            self.referee.say("S4", f"{what} where the record says {recorded}")
        if uid in self.referee.lowered:
            self.referee.say("S7", f"{what}, and it was given up")

    def _check_service(self, change: Change, after: Object) -> None:
        """S6: a role takes over other pods only while nothing is sent to it, or if they are stable's."""
        name, selector = after["metadata"]["name"], after["spec"].get("selector") or {}
        if selector.get(names.LABEL_INSTANCE) != NAME or names.LABEL_COMPONENT not in selector:
            self.referee.say("S6", f"Service {name} selects {selector}")
        workload = str(selector.get(names.LABEL_WORKLOAD, ""))
        known, self.selected[name] = self.selected.get(name), workload
        stable = self.find_stable_workload()
        if change.before is None or known == workload or stable in {"", workload}:
            return
        if name in ROLES:
            route = self.referee.weather.store.find(HTTPROUTES, NAMESPACE, names.route_name(NAME))
            for told in (read_weights(route, OWNER), self.referee.plane.weights):
                if told and told[ROLES.index(name)]:
                    self.referee.say("S6", f"{name} takes over {workload} while {told} is routed")
        elif name == names.service_name(NAME):
            self._check_raise(
                f"Service {name} selects {workload or 'both workloads'}", FULL if workload else 1
            )

    # --- pods ---------------------------------------------------------------------------------------------------

    def _check_pods_for_table(self, change: Change) -> None:
        """S2: own pods are ready, as many as the weight needs, before they get it."""
        split, before = (self.referee.read_split(obj) for obj in (change.after, change.before))
        if split is None or split.canary is None or split.weight <= (before.weight if before else 0):
            return
        workload = split.canary.program.workload
        if workload == split.stable.program.workload or self._is_hurt():
            return
        least = min(self.referee.people.list_replicas(RECENT))
        needed = max(1, round(least * split.weight / FULL - 0.01))
        if len(self._list_ready(workload)) < needed:
            self.referee.say("S2", f"{len(self._list_ready(workload))} of {needed} pods for {split.weight} %")

    def _check_deployment(self, change: Change) -> None:
        workload = change.live["metadata"]["labels"][names.LABEL_WORKLOAD]
        if change.after is None:
            self._check_removal(workload)
        elif change.before and change.after["spec"]["replicas"] < change.before["spec"]["replicas"]:
            self._check_shrinking(workload, change.after["spec"]["replicas"])

    def _check_shrinking(self, workload: str, size: int) -> None:
        """S3: stable keeps all its pods behind a gateway; without one both workloads together are enough."""
        wanted = min(self.referee.people.list_replicas(RECENT))
        stable = self.find_stable_workload()
        if self.referee.weather.plan.gateway:
            if workload == stable and size < wanted:
                self.referee.say("S3", f"stable is scaled to {size} of {wanted} pods")
            return
        reached = self._list_reached_workloads()
        if workload not in reached or self._is_hurt():
            return
        ready = {one: len(self._list_ready(one)) for one in reached}
        ready[workload] = min(ready[workload], size)
        if sum(ready.values()) < wanted:
            self.referee.say("S3", f"{workload} is scaled to {size}: {ready} are ready of {wanted}")

    def _check_removal(self, workload: str) -> None:
        """W6: nobody sends requests to pods that go."""
        stable = self._get_status().get("stable") or {}
        if not stable.get("promotedAt") or 0 in self.referee.people.list_replicas(RECENT):
            return
        kubelet = self.referee.kubelet
        reached = [
            pod.name
            for pod in kubelet.pods.values()
            if pod.workload == workload and kubelet.shares.get(pod.name)
        ]
        if reached:
            self.referee.say("W6", f"the pods of {workload} go while requests reach {', '.join(reached)}")
        routes = self.referee.weather.store.find(CONFIGMAPS, NAMESPACE, names.routes_name(NAME))
        split = self.referee.read_split(routes)
        if split and any(s.weight and s.program.workload == workload for s in split.shares):
            self.referee.say("W6", f"the pods of {workload} go while the table gives them a share")

    # --- what there is ------------------------------------------------------------------------------------------

    def find_stable_workload(self) -> str:
        """The pods that stable lives in; empty while there is none, or nobody knows."""
        return self.referee.find_stable_workload()

    def _get_status(self) -> dict[str, Any]:
        return (self.referee.people.find_deployment() or {}).get("status") or {}

    def _is_hurt(self) -> bool:
        return self.referee.weather.time - self.referee.kubelet.hurt_at < RECENT

    def _find_selected(self, name: str) -> str:
        """The workload that a live Service selects."""
        found = self.referee.weather.store.find(SERVICES, NAMESPACE, name) or {}
        return str(((found.get("spec") or {}).get("selector") or {}).get(names.LABEL_WORKLOAD, ""))

    def _list_ready(self, workload: str) -> list[str]:
        return [p.name for p in self.referee.kubelet.pods.values() if p.workload == workload and p.ready]

    def _list_reached_workloads(self) -> set[str]:
        """The workloads that the Service selects."""
        service = self.referee.weather.store.find(SERVICES, NAMESPACE, names.service_name(NAME))
        selector = ((service or {}).get("spec") or {}).get("selector") or {}
        pods = self.referee.weather.store.list_(PODS, NAMESPACE)
        labels = [pod["metadata"]["labels"] for pod in pods]
        chosen = [found for found in labels if selector and selector.items() <= found.items()]
        return {found[names.LABEL_WORKLOAD] for found in chosen}
