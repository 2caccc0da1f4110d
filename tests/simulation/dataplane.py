"""What really carries requests to pods: the Gateway's proxies, or the nodes' rules for a Service, always a little late.

Called by `run.py` for each write; `pods.py` counts what its shares say, `paths.py` asks whom requests reach.
"""

from typing import TYPE_CHECKING

from tests.simulation.endpoints import SERVICE_NAME
from tests.simulation.plan import FaultKind
from tests.simulation.store import Change, Object
from tests.simulation.user import NAME, NAMESPACE
from tests.simulation.weather import Weather

from dspy_operator.api import names
from dspy_operator.kube.resources import ENDPOINTSLICES, HTTPROUTES
from dspy_operator.manifests.gateway import read_weights
from dspy_operator.manifests.owner import Owner

if TYPE_CHECKING:
    from tests.simulation.pods import Kubelet

NODES = (0.05, 0.5)
"""Seconds until the nodes follow the endpoints of a Service."""
PROXIES = (0.2, 1.2)
"""Seconds until a Gateway's proxies follow the route and the endpoints, as measured."""


class DataPlane:
    """`shares` by pod sum to 1 with `lost`, the part of the requests that reaches no pod at all."""

    def __init__(self, weather: Weather, kubelet: "Kubelet") -> None:
        self.weights: tuple[int, int] | None = None
        """What the proxies give the two Services; None without a route."""
        self.lost = 1.0
        self._weather = weather
        self._kubelet = kubelet
        self._endpoints: dict[str, tuple[str, ...]] = {}

    def notice(self, change: Change) -> None:
        """The route or endpoints have changed: whoever carries requests follows soon."""
        gateway = self._weather.plan.gateway
        if change.resource is ENDPOINTSLICES:
            self._follow_soon(PROXIES if gateway else NODES)
        elif change.resource is HTTPROUTES and gateway and _is_other(change):
            self._follow_soon(PROXIES)

    def _follow_soon(self, delays: tuple[float, float]) -> None:
        self._weather.later(self._weather.rng.uniform(*delays), self._follow)

    def _follow(self) -> None:
        """Everything as the API server has it now; proxies that their controller does not speak to go on as before."""
        weather = self._weather
        if weather.plan.gateway:
            if weather.is_on(FaultKind.SILENT):
                weather.later(1.0, self._follow)
                return
            route = weather.store.find(HTTPROUTES, NAMESPACE, names.route_name(NAME))
            self.weights = read_weights(route, Owner(NAMESPACE, NAME, ""))
        self._endpoints = dict(map(_read_slice, weather.store.list_(ENDPOINTSLICES, NAMESPACE)))
        self._share()

    def _share(self) -> None:
        """Every endpoint of a Service alike."""
        self._kubelet.count_all()
        shares: dict[str, float] = {}
        lost = 0.0
        for service, part in self._list_parts():
            pods = self._endpoints.get(service, ())
            lost += 0.0 if pods else part
            for pod in pods:
                shares[pod] = shares.get(pod, 0.0) + part / len(pods)
        self.lost = lost
        self._kubelet.shares = shares

    def _list_parts(self) -> list[tuple[str, float]]:
        """The Services that users' requests go to, and which part of them."""
        if not self._weather.plan.gateway:
            return [(names.service_name(NAME), 1.0)]
        stable, canary = self.weights or (0, 0)
        if stable + canary == 0:
            return [("", 1.0)]
        parts = ((names.stable_service_name(NAME), stable), (names.canary_service_name(NAME), canary))
        return [(service, weight / (stable + canary)) for service, weight in parts if weight]


def _is_other(change: Change) -> bool:
    """Whether the route says something else; its status changes nothing."""
    return (change.before or {}).get("spec") != (change.after or {}).get("spec")


def _read_slice(found: Object) -> tuple[str, tuple[str, ...]]:
    ready = (e["targetRef"]["name"] for e in found["endpoints"] if e["conditions"]["ready"])
    return found["metadata"]["labels"][SERVICE_NAME], tuple(ready)
