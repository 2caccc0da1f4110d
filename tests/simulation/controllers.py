"""Kubernetes' own controllers, as far as needed: Deployments make pods, owners take their children along."""

from tests.simulation.hand import Hand
from tests.simulation.plan import FaultKind
from tests.simulation.store import FOREGROUND, Change, Object
from tests.simulation.weather import Weather

from dspy_operator.kube.resources import (
    CONFIGMAPS,
    CONTROLLERREVISIONS,
    DEPLOYMENTS,
    DSPYDEPLOYMENTS,
    DSPYROLLOUTS,
    ENDPOINTSLICES,
    HTTPROUTES,
    JOBS,
    PDBS,
    PODS,
    SERVICES,
    Resource,
)

DEPENDANTS: tuple[Resource, ...] = (
    CONFIGMAPS,
    CONTROLLERREVISIONS,
    DEPLOYMENTS,
    DSPYROLLOUTS,
    ENDPOINTSLICES,
    HTTPROUTES,
    JOBS,
    PDBS,
    PODS,
    SERVICES,
)
AGAIN = 1.0
"""Seconds until a pod that could not be made is tried again."""
DENIED = "pods is forbidden: exceeded quota: compute"
PROMPT = 0.1
"""Seconds until a controller notices."""


class Controllers:
    """Deployment controller and garbage collector."""

    def __init__(self, weather: Weather, hand: Hand) -> None:
        self._weather = weather
        self._hand = hand
        self._numbers = 0

    def notice(self, change: Change) -> None:
        """Something changed: whoever it concerns looks at it soon."""
        meta = change.live["metadata"]
        if change.resource is DEPLOYMENTS and change.after is not None:
            self._look_soon(meta["namespace"], meta["name"])
        if change.resource is PODS:
            for owner in meta.get("ownerReferences") or ():
                self._look_soon(meta["namespace"], owner["name"])
        if change.before is None:
            self._weather.later(PROMPT, lambda: self._collect_unowned(change.resource, meta))
        if change.after is None:
            self._weather.later(PROMPT, lambda: self._collect(meta["namespace"], meta["uid"]))
        elif meta.get("deletionTimestamp"):
            self._weather.later(
                PROMPT, lambda: self._finalize(change.resource, meta["namespace"], meta["name"])
            )

    def _look_soon(self, namespace: str, name: str) -> None:
        self._weather.later(PROMPT, lambda: self._scale(namespace, name))

    def _scale(self, namespace: str, name: str) -> None:
        """As many pods as are asked for, of the newest template; older ones go when the new ones are ready."""
        deployment = self._weather.store.find(DEPLOYMENTS, namespace, name)
        if deployment is None:
            return
        wanted = deployment["spec"]["replicas"]
        template = deployment["spec"]["template"]
        pods = self._list_pods(deployment)
        current = [pod for pod in pods if pod["spec"] == template["spec"]]
        old = [pod for pod in pods if pod["spec"] != template["spec"]]
        if wanted > len(current) and self._is_denied(deployment):
            return
        for _ in range(wanted - len(current)):
            self._create_pod(deployment, template)
        current.sort(key=_is_ready)  # those that are not ready go first
        for pod in current[: max(0, len(current) - wanted)]:
            self._hand.delete(PODS, pod)
        if len(current) >= wanted and all(_is_ready(pod) for pod in current):
            for pod in old:
                self._hand.delete(PODS, pod)

    def _is_denied(self, deployment: Object) -> bool:
        """Whether a quota lets no pod be made now: the Deployment repeats why, until one is made."""
        is_on = self._weather.is_on(FaultKind.QUOTA)
        told = (deployment.get("status") or {}).get("conditions") or []
        if is_on:
            meta = deployment["metadata"]
            self._weather.later(AGAIN, lambda: self._scale(meta["namespace"], meta["name"]))
        if is_on is not bool(told):
            failure = {
                "type": "ReplicaFailure",
                "status": "True",
                "reason": "FailedCreate",
                "message": DENIED,
            }
            status = {"status": {"conditions": [failure] if is_on else []}}
            self._hand.merge(DEPLOYMENTS, deployment, status, "status")
        return is_on

    def _list_pods(self, deployment: Object) -> list[Object]:
        uid = deployment["metadata"]["uid"]
        pods = self._weather.store.list_(PODS, deployment["metadata"]["namespace"])
        return [p for p in pods if any(o["uid"] == uid for o in p["metadata"].get("ownerReferences") or ())]

    def _create_pod(self, deployment: Object, template: Object) -> None:
        self._numbers += 1
        meta = deployment["metadata"]
        owner = {"kind": "ReplicaSet", "name": meta["name"], "uid": meta["uid"], "controller": True}
        pod: Object = {
            "metadata": {
                "name": f"{meta['name']}-{self._numbers}",
                "namespace": meta["namespace"],
                "labels": template["metadata"]["labels"],
                "ownerReferences": [owner],
            },
            "spec": template["spec"],
        }
        self._hand.create(PODS, pod)

    def _collect(self, namespace: str, uid: str) -> None:
        """Delete what belonged to an object that is gone."""
        for resource in DEPENDANTS:
            for obj in self._weather.store.list_(resource, namespace):
                if any(owner["uid"] == uid for owner in obj["metadata"].get("ownerReferences") or ()):
                    self._hand.delete(resource, obj)

    def _collect_unowned(self, resource: Resource, meta: Object) -> None:
        """Delete what was created for an owner that is gone: the request was on its way when the owner went."""
        obj = self._weather.store.find(resource, meta["namespace"], meta["name"])
        owners = {owner["uid"] for owner in (obj or {}).get("metadata", {}).get("ownerReferences") or ()}
        kinds = (DSPYDEPLOYMENTS, DEPLOYMENTS, JOBS, SERVICES)
        live = {o["metadata"]["uid"] for kind in kinds for o in self._weather.store.list_(kind)}
        if obj is not None and owners and not owners & live:
            self._hand.delete(resource, obj)

    def _finalize(self, resource: Resource, namespace: str, name: str) -> None:
        """A foreground deletion takes the children first, an orphaning one frees them."""
        obj = self._weather.store.find(resource, namespace, name)
        if obj is None:
            return
        uid = obj["metadata"]["uid"]
        if FOREGROUND in (obj["metadata"].get("finalizers") or ()):
            self._collect(namespace, uid)
        else:
            for kind in DEPENDANTS:
                for child in self._weather.store.list_(kind, namespace):
                    owners = child["metadata"].get("ownerReferences") or []
                    left = [owner for owner in owners if owner["uid"] != uid]
                    if left != owners:
                        self._hand.merge(kind, child, {"metadata": {"ownerReferences": left or None}})
        self._hand.merge(resource, obj, {"metadata": {"finalizers": None}})


def _is_ready(pod: Object) -> bool:
    return any(c["status"] == "True" for c in (pod.get("status") or {}).get("conditions") or ())
