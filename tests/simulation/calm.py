"""Whether the world has come to rest, and why not: what liveness (L1, L5) is measured with.

Called by `run.py` once a second after everything is mended.
"""

from typing import Any

from tests.simulation.controllers import DEPENDANTS
from tests.simulation.referee import Referee
from tests.simulation.store import Object
from tests.simulation.user import NAME, NAMESPACE, get_digest

from dspy_operator.api import names
from dspy_operator.kube.resources import CONFIGMAPS, CONTROLLERREVISIONS, DSPYROLLOUTS
from dspy_operator.manifests.owner import Owner
from dspy_operator.traffic.table import read_table

ENDS = frozenset({"Promoted", "RolledBack", "Aborted", "Superseded"})


def find_unrest(referee: Referee) -> str:
    """What is not as it should be in the end; empty if everything is."""
    store = referee.weather.store
    deployment = referee.people.find_deployment()
    if deployment is None:
        return _find_unrest_of_remains(referee)
    status = deployment.get("status") or {}
    if status.get("canary"):
        return f"attempt {status['canary']['rollout']} is open"
    stable = status.get("stable") or {}
    if not stable.get("promotedAt"):
        return _find_unrest_of_first(referee, deployment, status)
    if store.find(CONTROLLERREVISIONS, NAMESPACE, names.revision_name(NAME, stable["revision"])) is None:
        return "nothing says what stable is"
    left = [obj["metadata"]["name"] for obj in store.list_(DSPYROLLOUTS, NAMESPACE) if not _is_over(obj)]
    if left:
        return f"{left[0]} is neither open nor over"
    return _find_unrest_of_table(referee, deployment, stable) or _find_unrest_of_spec(
        deployment, status, stable
    )


def _find_unrest_of_first(referee: Referee, deployment: Object, status: dict[str, Any]) -> str:
    """Nothing has ever served: only a first program that pods refuse may end so, and people are told."""
    wanted = deployment["spec"]["program"]["artifact"]["sha256"]
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    if wanted not in map(get_digest, referee.weather.plan.unfit):
        return "no revision has served"
    stalled = conditions.get("Stalled", {})
    if (stalled.get("status"), stalled.get("reason")) != ("True", "ArtifactRefused"):
        return f"the first program is refused, and Stalled is {stalled.get('status')} {stalled.get('reason')}"
    return ""


def _find_unrest_of_remains(referee: Referee) -> str:
    """After the resource itself was deleted: nothing of it is left (L4), or all of it goes on serving."""
    people, pods = referee.people, referee.kubelet.pods.values()
    if not people.removed:
        return "there is no resource"
    if people.removed == "Orphan":
        idle = [pod.name for pod in pods if not pod.ready or not pod.list_split()]
        is_excused = people.deleted or not people.had_served
        return f"{idle[0]} was orphaned and does not serve" if idle and not is_excused else ""
    mine = (obj for kind in DEPENDANTS for obj in referee.weather.store.list_(kind, NAMESPACE))
    left = [obj["metadata"]["name"] for obj in mine if obj["metadata"].get("ownerReferences")]
    return f"{left[0]} is left of a deleted resource" if left else ""


def _is_over(rollout: Object) -> bool:
    return (rollout.get("status") or {}).get("phase") in ENDS


def _find_unrest_of_table(referee: Referee, deployment: Object, stable: dict[str, Any]) -> str:
    routes = referee.weather.store.find(CONFIGMAPS, NAMESPACE, names.routes_name(NAME))
    table = read_table(routes, Owner(NAMESPACE, NAME, ""), None)
    if table is None:
        return "there is no table"
    if table.split.canary is not None or table.split.stable.program.revision != stable["revision"]:
        return "the table does not send everything to stable"
    pods = [pod for pod in referee.kubelet.pods.values() if pod.owner == NAME]
    if len(pods) != deployment["spec"]["replicas"]:
        return f"{len(pods)} pods"
    for pod in pods:
        if not pod.ready or not pod.is_loaded(stable["revision"]):
            return f"{pod.name} does not serve stable"
        if pod.table is None or pod.table.generation != table.generation:
            return f"{pod.name} has not seen the table"
    return ""


def _find_unrest_of_spec(deployment: Object, status: dict[str, Any], stable: dict[str, Any]) -> str:
    """The spec's program is stable's, or is rejected."""
    wanted = deployment["spec"]["program"]["artifact"]["sha256"]
    if status.get("observedGeneration") != deployment["metadata"]["generation"]:
        return "the newest spec has not been looked at"
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    if wanted == stable["sha256"]:
        return "" if conditions["Ready"]["status"] == "True" else "not Ready"
    if conditions["Stalled"]["status"] != "True":
        return f"the spec asks for {wanted[:8]}: {status.get('message')}"
    return ""


def is_analysing(referee: Referee) -> bool:
    """Whether the time that passes is the analysis' own: a step or a bake whose weight is in effect, or examples."""
    status = (referee.people.find_deployment() or {}).get("status") or {}
    rollout = referee.find_rollout((status.get("canary") or {}).get("rolloutUID", ""))
    if rollout is None:
        is_first = not (status.get("stable") or {}).get("promotedAt")
        return is_first and bool(referee.weather.plan.gate.strip("v"))
    record = rollout.get("status") or {}
    phase = record.get("phase")
    if phase == "Regression":
        return True
    return phase in {"Stepping", "Baking"} and bool(record.get("weightEffectiveAt"))
