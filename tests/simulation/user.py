"""People: they apply programs, give commands, scale, delete what they should not."""

import json
from typing import Any

from tests.simulation.hand import Hand
from tests.simulation.plan import Act, ActKind, FaultKind, Plan
from tests.simulation.store import Object
from tests.simulation.weather import Weather

from dspy_operator.api import names
from dspy_operator.api.names import CONTAINER, Command
from dspy_operator.kube.resources import (
    CONFIGMAPS,
    CONTROLLERREVISIONS,
    DEPLOYMENTS,
    DSPYDEPLOYMENTS,
    DSPYROLLOUTS,
    HTTPROUTES,
    PDBS,
    SERVICES,
)
from dspy_operator.manifests.archive import digest_content
from dspy_operator.rollout.clock import format_exact

NAMESPACE, NAME = "ml", "triage"
EXAMPLES = "canary-set"
GATE = {
    "dataset": {"configMap": {"name": EXAMPLES, "key": "examples.jsonl"}},
    "metric": "triage:metric",
    "minScore": "0.1",
    "deadline": "60s",
}
PARENT = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "shared"}
VARIANT = "VARIANT"
READY_DEADLINE = 60.0
PREVIEW = 10.0
KINDS = {
    "routes": CONFIGMAPS,
    "slot": CONFIGMAPS,
    "program": CONFIGMAPS,
    "deployment": DEPLOYMENTS,
    "service": SERVICES,
    "budget": PDBS,
    "revision": CONTROLLERREVISIONS,
    "rollout": DSPYROLLOUTS,
}


def build_artifact(letter: str) -> str:
    """The bytes of a program."""
    return json.dumps({"predict": {"demos": [], "letter": letter}})


def get_digest(letter: str) -> str:
    """sha256 of a program's bytes."""
    return digest_content(build_artifact(letter).encode())


def _build_serving(argument: str) -> Object | None:
    """Pods of another workload have another variable."""
    variant = argument[1:]
    env = [{"name": VARIANT, "value": variant}]
    return {"podTemplate": {"spec": {"containers": [{"name": CONTAINER, "env": env}]}}} if variant else None


def _build_traffic(plan: Plan) -> Object:
    routed = {"gateway": {"parentRefs": [PARENT]}} if plan.gateway else {}
    approximation = {"approximation": "Allow"} if plan.approximate else {}
    return {**routed, **approximation, **({"isolation": "Pod"} if plan.isolated else {})}


def _build_source(plan: Plan, letter: str) -> Object:
    if plan.remote:
        return {"uri": f"s3://models/{letter}.json"}
    return {"configMap": {"name": f"program-{letter}", "key": "program.json"}}


def build_edit(plan: Plan, argument: str) -> Object:
    """What an edit says: the program, and the pods that it wants."""
    letter = argument[0]
    program = {
        "module": "triage:Triage",
        "artifact": {"sha256": get_digest(letter), **_build_source(plan, letter)},
    }
    return {"program": program, "serving": _build_serving(argument)}


def build_spec(plan: Plan, argument: str) -> Object:
    """A short rollout: 10, 50, 100 % or 50, 100 %, every 5 s a look."""
    edit = {key: value for key, value in build_edit(plan, argument).items() if value}
    traffic = _build_traffic(plan) if plan.has_own_pods else {}
    return {
        "replicas": plan.replicas,
        "image": "example.org/server:1",
        **edit,
        "lm": {"primary": {"model": "openai/gpt-4o-mini"}},
        "strategy": _build_strategy(plan),
        **({"traffic": traffic} if traffic else {}),
        **({"regression": GATE} if plan.gate else {}),
    }


def _build_strategy(plan: Plan) -> Object:
    least = plan.min_duration
    step = {"minDuration": f"{least:.0f}s", "minSamples": 20, "deadline": f"{4 * least:.0f}s"}
    weights = (50,) if plan.brief else (10, 50)
    score = {"name": "score", "type": "Score", "maxDrop": "10%", "minSamples": 20, "source": "Function"}
    common = {
        "analysis": {"interval": "5s", "onDeadline": plan.on_deadline, "metrics": [score]},
        "bake": f"{least:.0f}s",
        "readyDeadline": f"{READY_DEADLINE:.0f}s",
    }
    steps = [*({"weight": weight, **step} for weight in weights), {"weight": 100}]
    kind = (
        {"blueGreen": {"previewDuration": f"{PREVIEW:.0f}s", **common}}
        if plan.preview
        else {"canary": {"steps": steps, **common}}
    )
    return {**kind, "onNewRevision": "Queue" if plan.queue else "Supersede"}


class People:
    """Carry out the acts of a plan."""

    def __init__(self, weather: Weather, hand: Hand) -> None:
        self._weather = weather
        self._hand = hand
        self.given: dict[tuple[str, str], str] = {}
        """Per (command, nonce) the uid of the attempt that was open when it was given; empty: none."""
        self.deleted: dict[str, float] = {}
        """Names of objects that people deleted, and when."""
        self.removed = ""
        """How people deleted the resource itself, the last time."""
        self._sizes: list[tuple[float, int]] = []
        self.had_served = False
        """Whether it had ever served by then."""

    def list_replicas(self, within: float) -> list[int]:
        """How many pods the spec has asked for in the last seconds."""
        since = self._weather.time - within
        started = [n for n, (at, _) in enumerate(self._sizes) if at <= since]
        return [size for _, size in self._sizes[started[-1] if started else 0 :]]

    def meddle(self, kind: FaultKind) -> None:
        """Somebody edits what routes, or deletes it, by hand."""
        store = self._weather.store
        route = store.find(HTTPROUTES, NAMESPACE, names.route_name(NAME))
        if kind is FaultKind.ROLE_EDITED:
            services = [s for s in store.list_(SERVICES, NAMESPACE) if s["metadata"].get("ownerReferences")]
            self._edit_role(services)
        elif route is not None:
            self.deleted[f"{NAME} route"] = self._weather.time
            if kind is FaultKind.ROUTE_DELETED:
                self._hand.delete(HTTPROUTES, route)
            else:
                self._edit_route(route)

    def _edit_role(self, services: list[Object]) -> None:
        """A Service selects the pods of another workload, of all, or of none."""
        if services:
            deployments = self._weather.store.list_(DEPLOYMENTS, NAMESPACE)
            workloads = [one["metadata"]["labels"][names.LABEL_WORKLOAD] for one in deployments]
            chosen = self._weather.rng.choice(services)
            workload = self._weather.rng.choice([*workloads, None, "nothing"])
            self.deleted[chosen["metadata"]["name"]] = self._weather.time
            patch = {"spec": {"selector": {names.LABEL_WORKLOAD: workload}}}
            self._hand.merge(SERVICES, chosen, patch)

    def _edit_route(self, route: Object) -> None:
        weight = self._weather.rng.choice((0, 30, 100))
        last = route["spec"]["rules"][-1]
        weights = (100 - weight, weight)
        shares = [{**ref, "weight": w} for ref, w in zip(last["backendRefs"], weights, strict=False)]
        rules = [*route["spec"]["rules"][:-1], {**last, "backendRefs": shares}]
        self._hand.merge(HTTPROUTES, route, {"spec": {"rules": rules}})

    def begin(self) -> None:
        """The artifacts are there before anything names them."""
        for letter in dict(self._weather.plan.scores):
            data = {"program.json": build_artifact(letter)}
            meta = {"name": f"program-{letter}", "namespace": NAMESPACE}
            self._hand.create(CONFIGMAPS, {"metadata": meta, "data": data})
        if self._weather.plan.gate:
            meta = {"name": EXAMPLES, "namespace": NAMESPACE}
            self._hand.create(CONFIGMAPS, {"metadata": meta, "data": {"examples.jsonl": "{}"}})

    def find_deployment(self) -> Object | None:
        return self._weather.store.find(DSPYDEPLOYMENTS, NAMESPACE, NAME)

    def act(self, act: Act) -> None:
        """Do it."""
        live = self.find_deployment()
        if live is None:
            # What an orphaning deletion has left would be somebody else's to a new resource of that name.
            if act.kind is ActKind.APPLY and self.removed != "Orphan":
                spec = build_spec(self._weather.plan, act.argument)
                self._sizes.append((self._weather.time, spec["replicas"]))
                self._hand.create(
                    DSPYDEPLOYMENTS, {"metadata": {"name": NAME, "namespace": NAMESPACE}, "spec": spec}
                )
            return
        match act.kind:
            case ActKind.APPLY:
                self._edit(live, build_edit(self._weather.plan, act.argument))
            case ActKind.COMMAND:
                self._command(live, act.argument)
            case ActKind.REPEAT:
                self._repeat(live)
            case ActKind.PAUSE | ActKind.UNPAUSE:
                self._edit(live, {"paused": act.kind is ActKind.PAUSE})
            case ActKind.SCALE:
                self._edit(live, {"replicas": int(act.argument)})
            case ActKind.DELETE:
                self._delete(act.argument)
            case ActKind.REMOVE:
                self.removed = self.removed or act.argument
                stable = (live.get("status") or {}).get("stable") or {}
                self.had_served = bool(stable.get("promotedAt"))
                self._hand.delete(DSPYDEPLOYMENTS, live, self.removed)

    def mend(self) -> bool:
        """At the end nobody holds anything up; whether that was so."""
        live = self.find_deployment()
        if live is None:
            return False
        replicas = live["spec"]["replicas"] or self._weather.plan.replicas
        self._edit(live, {"paused": None, "replicas": replicas})
        self._command(self.find_deployment() or live, "resume")
        return True

    def give_up(self) -> None:
        """Somebody ends an attempt that holds for ever."""
        live = self.find_deployment()
        if live is not None:
            self._command(live, "abort")

    def _edit(self, live: Object, spec: dict[str, Any]) -> None:
        if "replicas" in spec:
            self._sizes.append((self._weather.time, spec["replicas"]))
        self._hand.merge(DSPYDEPLOYMENTS, live, {"spec": spec})

    def _command(self, live: Object, command: str) -> None:
        nonce = format_exact(self._weather.time)
        pointer = (live.get("status") or {}).get("canary") or {}
        self.given[command, nonce] = str(pointer.get("rolloutUID", ""))
        self._hand.merge(
            DSPYDEPLOYMENTS, live, {"metadata": {"annotations": {Command(command).annotation: nonce}}}
        )

    def _repeat(self, live: Object) -> None:
        """Git restores annotations of the past."""
        old = {Command(command).annotation: nonce for command, nonce in self.given}
        if old:
            self._hand.merge(DSPYDEPLOYMENTS, live, {"metadata": {"annotations": old}})

    def _delete(self, child: str) -> None:
        """Delete one child by hand."""
        wanted = {"routes": "-routes", "slot": "-slot-", "program": "-program-"}.get(child, "")
        found = [
            obj
            for obj in self._weather.store.list_(KINDS[child], NAMESPACE)
            if wanted in obj["metadata"]["name"] and obj["metadata"].get("ownerReferences")
        ]
        if found:
            chosen = self._weather.rng.choice(found)
            self.deleted[chosen["metadata"]["name"]] = self._weather.time
            self._hand.delete(KINDS[child], chosen)
