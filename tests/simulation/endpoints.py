"""The endpoints controller, one EndpointSlice for each Service, and the controller of the Gateway: what routers go by.

Called by `run.py` for each write; `dataplane.py` is what follows them and users notice.
"""

from typing import Any

from tests.simulation.hand import Hand
from tests.simulation.plan import FaultKind
from tests.simulation.store import Change, Object
from tests.simulation.user import NAMESPACE, PARENT
from tests.simulation.weather import Weather

from dspy_operator.kube.resources import ENDPOINTSLICES, HTTPROUTES, PODS, SERVICES

PROMPT = 0.1
"""Seconds until the endpoints controller notices."""
ANSWERS = (0.05, 1.0)
"""Seconds until the Gateway's controller says something of a route."""
SERVICE_NAME = "kubernetes.io/service-name"


class Endpoints:
    """Keeps one EndpointSlice for each Service."""

    def __init__(self, weather: Weather, hand: Hand) -> None:
        self._weather = weather
        self._hand = hand
        self._is_due = False

    def notice(self, change: Change) -> None:
        """A Service selects other pods, or pods have changed."""
        if change.resource is PODS:
            if _describe(change.before) == _describe(change.after):
                return
        elif change.resource is not SERVICES and not (
            change.resource is ENDPOINTSLICES and change.after is None
        ):
            return  # a slice goes with its Service, and another of that name has none then
        if not self._is_due:
            self._is_due = True
            self._weather.later(PROMPT, self._sync)

    def _sync(self) -> None:
        self._is_due = False
        pods = self._weather.store.list_(PODS, NAMESPACE)
        for service in self._weather.store.list_(SERVICES, NAMESPACE):
            selector = (service["spec"].get("selector") or {}).items()
            chosen = [pod for pod in pods if selector and selector <= pod["metadata"]["labels"].items()]
            self._write(service, [_build_endpoint(pod) for pod in chosen])

    def _write(self, service: Object, endpoints: list[Object]) -> None:
        meta = service["metadata"]
        live = self._weather.store.find(ENDPOINTSLICES, NAMESPACE, f"{meta['name']}-x")
        if live is None:
            owner = {"kind": "Service", "name": meta["name"], "uid": meta["uid"], "controller": True}
            made = {
                "name": f"{meta['name']}-x",
                "namespace": NAMESPACE,
                "labels": {**(meta.get("labels") or {}), SERVICE_NAME: meta["name"]},
                "ownerReferences": [owner],
            }
            self._hand.create(ENDPOINTSLICES, {"metadata": made, "endpoints": endpoints})
        elif live["endpoints"] != endpoints:
            self._hand.merge(ENDPOINTSLICES, live, {"endpoints": endpoints})


def _build_endpoint(pod: Object) -> Object:
    return {
        "targetRef": {"kind": "Pod", "name": pod["metadata"]["name"]},
        "conditions": {"ready": is_ready(pod)},
    }


def is_ready(pod: Object) -> bool:
    """Whether a pod's condition says so."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _describe(pod: Object | None) -> Any:
    return pod and (pod["metadata"]["labels"], is_ready(pod))


class GatewayController:
    """Says of each version of the route whether it is taken."""

    def __init__(self, weather: Weather, hand: Hand) -> None:
        self._weather = weather
        self._hand = hand

    def notice(self, change: Change) -> None:
        """The route is another, or a Service that it names has come or gone."""
        has_come_or_gone = change.before is None or change.after is None
        is_route = change.resource is HTTPROUTES and change.after is not None
        if (
            is_route
            and (change.before is None or _get_generation(change.before) != _get_generation(change.live))
        ) or (change.resource is SERVICES and has_come_or_gone):
            self._answer_soon()

    def _answer_soon(self) -> None:
        if self._weather.plan.gateway:
            self._weather.later(self._weather.rng.uniform(*ANSWERS), self._answer)

    def _answer(self) -> None:
        if self._weather.is_on(FaultKind.SILENT):
            self._weather.later(1.0, self._answer)
            return
        for route in self._weather.store.list_(HTTPROUTES, NAMESPACE):
            status = {"parents": [{"parentRef": PARENT, "conditions": self._build_conditions(route)}]}
            if route.get("status") != status:
                self._hand.merge(HTTPROUTES, route, {"status": status}, "status")

    def _build_conditions(self, route: Object) -> list[Object]:
        backends = [ref["name"] for rule in route["spec"]["rules"] for ref in rule["backendRefs"]]
        missing = [name for name in backends if self._weather.store.find(SERVICES, NAMESPACE, name) is None]
        resolved = ("False", "BackendNotFound") if missing else ("True", "ResolvedRefs")
        told = {"Accepted": ("True", "Accepted"), "ResolvedRefs": resolved}
        return [
            {
                "type": kind,
                "status": status,
                "reason": reason,
                "message": ", ".join(missing),
                "observedGeneration": _get_generation(route),
            }
            for kind, (status, reason) in told.items()
        ]


def _get_generation(route: Object) -> int:
    return int(route["metadata"]["generation"])
