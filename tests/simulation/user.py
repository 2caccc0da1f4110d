"""People: they apply programs, give commands, scale, delete what they should not."""

import json
from typing import Any

from tests.simulation.hand import Hand
from tests.simulation.plan import Act, ActKind, Plan
from tests.simulation.store import Object
from tests.simulation.weather import Weather

from dspy_operator.api.names import Command
from dspy_operator.kube.resources import (
    CONFIGMAPS,
    CONTROLLERREVISIONS,
    DEPLOYMENTS,
    DSPYDEPLOYMENTS,
    DSPYROLLOUTS,
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


def _build_source(plan: Plan, letter: str) -> Object:
    if plan.remote:
        return {"uri": f"s3://models/{letter}.json"}
    return {"configMap": {"name": f"program-{letter}", "key": "program.json"}}


def build_spec(plan: Plan, letter: str) -> Object:
    """A short rollout: 10, 50, 100 % or 50, 100 %, every 5 s a look."""
    least = plan.min_duration
    step = {"minDuration": f"{least:.0f}s", "minSamples": 20, "deadline": f"{4 * least:.0f}s"}
    weights = (50,) if plan.brief else (10, 50)
    score = {"name": "score", "type": "Score", "maxDrop": "10%", "minSamples": 20, "source": "Function"}
    return {
        "replicas": plan.replicas,
        "image": "example.org/server:1",
        "program": {
            "module": "triage:Triage",
            "artifact": {"sha256": get_digest(letter), **_build_source(plan, letter)},
        },
        "lm": {"primary": {"model": "openai/gpt-4o-mini"}},
        "strategy": {
            "canary": {
                "steps": [*({"weight": weight, **step} for weight in weights), {"weight": 100}],
                "analysis": {"interval": "5s", "onDeadline": plan.on_deadline, "metrics": [score]},
                "bake": f"{least:.0f}s",
                "readyDeadline": "60s",
            },
            "onNewRevision": "Queue" if plan.queue else "Supersede",
        },
        **({"regression": GATE} if plan.gate else {}),
    }


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
        self.had_served = False
        """Whether it had ever served by then."""

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
                self._hand.create(
                    DSPYDEPLOYMENTS, {"metadata": {"name": NAME, "namespace": NAMESPACE}, "spec": spec}
                )
            return
        match act.kind:
            case ActKind.APPLY:
                self._edit(live, {"program": build_spec(self._weather.plan, act.argument)["program"]})
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
        self._edit(live, {"paused": None})
        self._command(self.find_deployment() or live, "resume")
        return True

    def give_up(self) -> None:
        """Somebody ends an attempt that holds for ever."""
        live = self.find_deployment()
        if live is not None:
            self._command(live, "abort")

    def _edit(self, live: Object, spec: dict[str, Any]) -> None:
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
