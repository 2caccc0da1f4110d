"""A little cluster that routers look at and write to: Services with prompt endpoints, a route with a prompt gateway."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from dspy_operator.api.names import LABEL_COMPONENT, LABEL_WORKLOAD
from dspy_operator.manifests.gateway import Parents
from dspy_operator.manifests.owner import Owner, build_selector
from dspy_operator.rollout.model import Program, Share, Split
from dspy_operator.traffic.view import Router, View

OWNER = Owner("ml", "triage", "uid-1")
STABLE = Program("aaaaaaaaaa", "11111111", "a" * 64, "triage:Triage")
CANARY = Program("bbbbbbbbbb", "22222222", "b" * 64, "triage:Triage")
SHARED = Program("cccccccccc", "11111111", "c" * 64, "triage:Triage")
PARENTS = Parents(({"name": "public"},), ("triage.example",))
FULL = 100


def split(weight: int, canary: Program | None = CANARY, stable: Program = STABLE) -> Split:
    """Stable with the rest beside a canary with a weight."""
    share = Share(canary, 1, weight) if canary else None
    return Split(Share(stable, 0, FULL - (weight if canary else 0)), share)


@dataclass
class Cluster:
    """What a router's writes go to; `tick` lets endpoints and the gateway follow, and time pass."""

    router: Router
    pods: dict[str, int] = field(default_factory=lambda: {"11111111": 2, "22222222": 2})
    sizes: dict[str, int] = field(default_factory=dict)
    services: dict[str, Any] = field(default_factory=dict)
    slices: dict[str, Any] = field(default_factory=dict)
    route: Any = None
    parents: Parents | None = PARENTS
    accepts: bool = True
    now: float = 0.0
    seen: dict[str, tuple[object, float]] = field(default_factory=dict)

    def view(self) -> View:
        """What the router sees now."""
        return View(
            owner=OWNER,
            services=deepcopy(self.services),
            slices=tuple(deepcopy(list(self.slices.values()))),
            pods=tuple(self._list_pods()),
            route=deepcopy(self.route),
            parents=self.parents,
            sizes=self.sizes or dict(self.pods),
            lasts=self._measure,
        )

    def _measure(self, name: str, state: object) -> float:
        if state is None:
            self.seen.pop(name, None)
            return 0.0
        known, since = self.seen.get(name, (None, self.now))
        if known != state:
            since = self.now
            self.seen[name] = (state, since)
        return self.now - since

    def _list_pods(self) -> list[dict[str, Any]]:
        return [
            {
                "metadata": {
                    "name": f"{workload}-{number}",
                    "labels": build_selector(OWNER) | {LABEL_WORKLOAD: workload},
                },
                "status": {"conditions": [{"type": "Ready", "status": "True"}]},
            }
            for workload, count in self.pods.items()
            for number in range(count)
        ]

    def make(self, wanted: Split) -> None:
        """One pass of the operator: the Services that must be, then what must be written."""
        for service in self.router.list_services(self.view(), wanted):
            self._put(service)
        for manifest in self.router.list_writes(self.view(), wanted, {"record": "x"}):
            self._put(manifest)

    def _put(self, manifest: dict[str, Any]) -> None:
        if manifest["kind"] == "Service":
            self.services[manifest["metadata"]["name"]] = deepcopy(manifest)
            return
        before = self.route["metadata"]["generation"] if self.route else 0
        if self.route is None or self.route["spec"] != manifest["spec"]:
            before += 1
        self.route = deepcopy(manifest)
        self.route["metadata"] |= {"uid": "route", "generation": before}
        self.route["status"] = {}

    def tick(self, seconds: float = 6.0) -> None:
        """Controllers follow, then time passes in which everything is looked at once before and once after."""
        for name, service in self.services.items():
            wanted = service["spec"]["selector"]
            names = [
                pod["metadata"]["name"]
                for pod in self._list_pods()
                if all(pod["metadata"]["labels"].get(key) == value for key, value in wanted.items())
            ]
            assert LABEL_COMPONENT in wanted
            self.slices[name] = {
                "metadata": {"labels": {"kubernetes.io/service-name": name}},
                "endpoints": [{"targetRef": {"name": n}, "conditions": {"ready": True}} for n in names],
            }
        if self.route is not None and self.accepts:
            generation = self.route["metadata"]["generation"]
            conditions = [
                {"type": kind, "status": "True", "observedGeneration": generation}
                for kind in ("Accepted", "ResolvedRefs")
            ]
            refs = self.parents.refs if self.parents else ()
            self.route["status"] = {"parents": [{"parentRef": ref, "conditions": conditions} for ref in refs]}
        self.now += seconds

    def settle(self, wanted: Split, rounds: int = 8) -> None:
        """Passes and ticks until the split is in effect.

        Raises:
            AssertionError: it never is.
        """
        for _ in range(rounds):
            self.make(wanted)
            self.tick(0.1)
            self.router.count_reachable(self.view(), wanted)
            if self.router.find_obstacle(self.view(), wanted) is None:
                return
            self.tick()
        raise AssertionError(str(self.router.find_obstacle(self.view(), wanted)))

    def measure_share(self, workload: str) -> float:
        """Percent of the requests of users that pods of a workload would answer, by what is written now."""
        if self.route is not None:
            refs = self.route["spec"]["rules"][-1]["backendRefs"]
            return sum(ref["weight"] * self._measure_service(ref["name"], workload) for ref in refs)
        return FULL * self._measure_service(OWNER.name, workload)

    def _measure_service(self, name: str, workload: str) -> float:
        wanted = self.services[name]["spec"]["selector"].get(LABEL_WORKLOAD)
        counts = {w: n for w, n in self.pods.items() if wanted in {None, w}}
        return counts.get(workload, 0) / max(1, sum(counts.values()))
