"""Own pods behind a Gateway: an HTTPRoute splits between Services `<name>-stable` and `<name>-canary`.

Raising: the canary's pods are endpoints of its Service and have been for a while, then one write of the route. Lowering
waits for nothing. A Service changes its pods only while the route gives it nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from dspy_operator.api import names
from dspy_operator.manifests.drift import is_covered
from dspy_operator.manifests.gateway import Weights, build_route, read_weights
from dspy_operator.manifests.owner import Manifest
from dspy_operator.manifests.service import build_service
from dspy_operator.rollout.model import Split
from dspy_operator.traffic.view import SETTLE, Obstacle, View, get_canary_workload, has_own_pods


class GatewayRouter:
    """Writes the route and says when the gateway follows it."""

    def list_services(self, view: View, split: Split) -> list[Manifest]:
        """Clients that do not come through the gateway reach stable; both roles always have pods."""
        name, stable = view.owner.name, split.stable.program.workload
        wanted = {
            names.service_name(name): stable,
            names.stable_service_name(name): stable,
            names.canary_service_name(name): get_canary_workload(split),
        }
        if view.preview:
            wanted[names.preview_service_name(name)] = view.preview
        return [build_service(view.owner, service, workload) for service, workload in wanted.items()]

    def list_writes(
        self, view: View, split: Split, annotations: Mapping[str, str], *, again: bool = False
    ) -> list[Manifest]:
        """The route if it says something else and may be written now."""
        if view.parents is None:
            return []
        route = build_route(view.owner, view.parents, self._get_weights(view, split), annotations)
        is_same = view.route is not None and _is_same(view.route, route)
        if is_same:
            return [route] if again else []
        return [] if self._describe_wait(view, split) else [route]

    def find_obstacle(self, view: View, split: Split) -> Obstacle | None:
        """The route says so, every Gateway of the spec has taken it, and that was a while ago."""
        if view.parents is None:
            return None
        name = names.route_name(view.owner.name)
        wanted = build_route(view.owner, view.parents, self._get_weights(view, split), {})
        if view.route is None or not _is_same(view.route, wanted):
            return Obstacle(self._describe_wait(view, split) or f"HTTPRoute {name} is not written yet")
        late = self._describe_services(view, split)
        if late:
            return Obstacle(late)
        refused = _find_refusal(view.route, view.parents.refs, view.owner.namespace)
        if refused:
            return Obstacle(f"HTTPRoute {name}: {refused}")
        meta = view.route["metadata"]
        if view.lasts("route", (meta.get("uid"), meta.get("generation"))) < SETTLE:
            return Obstacle(f"the gateway is given {SETTLE:.0f} s to follow", is_settling=True)
        return None

    def _describe_services(self, view: View, split: Split) -> str:
        """Which Service is not where it should be; empty: none. Pods go only when no request is sent there any more."""
        for service in self.list_services(view, split):
            found = view.services.get(service["metadata"]["name"])
            if found is None or not is_covered(found["spec"], service["spec"]):
                return f"Service {service['metadata']['name']} does not select its pods yet"
        owner, stable = view.owner.name, split.stable.program.workload
        for name in (names.service_name(owner), names.stable_service_name(owner)) if split.leaving else ():
            if not view.is_reached_only(name, stable):
                return f"Service {name} does not reach stable's pods alone yet"
        return ""

    def count_reachable(self, view: View, split: Split) -> tuple[int, str]:
        """Pods that are endpoints of the canary's Service, for long enough, behind a route that is taken."""
        workload, name = get_canary_workload(split), names.canary_service_name(view.owner.name)
        ready = view.list_ready(workload)
        if view.parents is None or view.route is None:
            return 0, f"HTTPRoute {names.route_name(view.owner.name)} is not there"
        refused = _find_refusal(view.route, view.parents.refs, view.owner.namespace)
        if refused:
            return 0, f"HTTPRoute {names.route_name(view.owner.name)}: {refused}"
        reachable = ready & view.list_endpoints(name)
        if view.find_selected(name) != workload or not view.is_reached_only(name, workload):
            view.lasts("canary endpoints", None)
            return 0, f"Service {name} does not reach them yet" if ready else ""
        if view.lasts("canary endpoints", workload) < SETTLE:
            return 0, f"the gateway is given {SETTLE:.0f} s to see them"
        return len(reachable), ""

    def _get_weights(self, view: View, split: Split) -> Weights:
        if not has_own_pods(split) or split.canary is None:
            return Weights(100, 0)
        return Weights(
            split.stable.weight,
            split.canary.weight,
            view.override_header,
            ("canary", split.canary.program.revision),
            ("stable", split.stable.program.revision),
        )

    def _describe_wait(self, view: View, split: Split) -> str:
        """What the route waits for, empty for nothing: a role whose Service has to take over other pods first."""
        owner, stable = view.owner, split.stable.program.workload
        live, canary_name = read_weights(view.route, owner), names.canary_service_name(owner.name)
        name = names.stable_service_name(owner.name)
        if live is None:
            missing = any(view.find_selected(role) is None for role in (name, canary_name))
            return "the Services of both roles are not there yet" if missing else ""
        loses = live[1] > 0 and view.find_selected(canary_name) != stable
        if loses or self._get_weights(view, split).stable <= live[0]:
            return ""  # whatever is not stable loses its share at once; more for it is decided before
        if view.find_selected(name) != stable or not view.is_reached_only(name, stable):
            view.lasts("stable endpoints", None)
            return f"Service {name} does not reach the pods that are stable now yet"
        if view.lasts("stable endpoints", stable) < SETTLE:
            return f"the gateway is given {SETTLE:.0f} s to see the pods that are stable now"
        return ""


def _is_same(live: Mapping[str, Any], wanted: Manifest) -> bool:
    return is_covered(live.get("spec"), wanted["spec"]) and ("hostnames" in live["spec"]) is (
        "hostnames" in wanted["spec"]
    )


def _find_refusal(route: Mapping[str, Any], refs: Sequence[Mapping[str, Any]], namespace: str) -> str:
    """What a Gateway of the spec says against the route, or that one says nothing; others do not matter."""
    told = (route.get("status") or {}).get("parents") or []
    for ref in refs:
        entries = [one for one in told if _is_parent(one.get("parentRef") or {}, ref, namespace)]
        answers = [
            _judge(one.get("conditions") or [], route["metadata"].get("generation")) for one in entries
        ]
        if not answers:
            return f"Gateway {ref['name']} has said nothing of it"
        if "" not in answers:
            return f"Gateway {ref['name']}: {answers[0]}"
    return ""


def _is_parent(said: Mapping[str, Any], ref: Mapping[str, Any], namespace: str) -> bool:
    keys = (("name", ""), ("namespace", namespace), ("sectionName", ""))
    return all((said.get(key) or default) == (ref.get(key) or default) for key, default in keys)


def _judge(conditions: Sequence[Mapping[str, Any]], generation: int | None) -> str:
    """Empty if the route as it is now is accepted and its backends are resolved."""
    found = {condition.get("type"): condition for condition in conditions}
    for kind in ("Accepted", "ResolvedRefs"):
        condition = found.get(kind)
        if condition is None or condition.get("observedGeneration") != generation:
            return f"it has not said {kind} of the route as it is now"
        if condition.get("status") != "True":
            return (
                f"{kind} is {condition.get('status')}: {condition.get('reason')}: {condition.get('message')}"
            )
    return ""
