"""Whether the world has come to rest, and why not: what liveness (L1, L5) is measured with.

Called by `run.py` once a second after everything is mended.
"""

from typing import Any

from tests.simulation.controllers import DEPENDANTS
from tests.simulation.paths import OWNER, ROLES
from tests.simulation.pods import Pod
from tests.simulation.referee import Referee
from tests.simulation.store import Object
from tests.simulation.user import NAME, NAMESPACE, get_digest

from dspy_operator.api import names
from dspy_operator.api.spec import parse_deployment
from dspy_operator.kube.resources import (
    CONFIGMAPS,
    CONTROLLERREVISIONS,
    DEPLOYMENTS,
    DSPYROLLOUTS,
    HTTPROUTES,
    SERVICES,
)
from dspy_operator.manifests.gateway import read_weights
from dspy_operator.manifests.owner import Owner
from dspy_operator.rollout.revision import revision_hash, workload_hash
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
        return _find_unrest_of_lost(referee, deployment, stable)
    left = [obj["metadata"]["name"] for obj in store.list_(DSPYROLLOUTS, NAMESPACE) if not _is_over(obj)]
    if left:
        return f"{left[0]} is neither open nor over"
    return _find_unrest_of_table(referee, deployment, stable) or _find_unrest_of_spec(
        deployment, status, stable
    )


def _find_unrest_of_lost(referee: Referee, deployment: Object, stable: dict[str, Any]) -> str:
    """Somebody deleted the only record of stable's pods: they go on, and people are told what to do.

    What the spec, or another revision of its workload, still says is written again.
    """
    spec = parse_deployment(deployment).spec
    others = referee.weather.store.list_(CONTROLLERREVISIONS, NAMESPACE)
    known = {workload_hash(spec, str(spec.image), ""), *(str(one["data"]["workload"]) for one in others)}
    if any(revision_hash(workload, stable["sha256"]) == stable["revision"] for workload in known):
        return "the record of stable is gone, and could be written again"
    conditions = (deployment.get("status") or {}).get("conditions") or ()
    is_told = any(one.get("reason") == "RevisionNotFound" for one in conditions)
    is_theirs = names.revision_name(NAME, stable["revision"]) in referee.people.deleted
    return "" if is_told and is_theirs else "nothing says what stable is"


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
    people, kubelet = referee.people, referee.kubelet
    if not people.removed:
        return "there is no resource"
    if people.removed == "Orphan":
        reached = [pod for pod in kubelet.pods.values() if pod.name in kubelet.shares]
        idle = [pod.name for pod in reached if not pod.ready or not pod.list_split()]
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
    told = (_find_unrest_of_pod(pod, stable["revision"], table.generation) for pod in pods)
    return _find_unrest_of_paths(referee, pods) or next(filter(None, told), "")


def _find_unrest_of_pod(pod: Pod, revision: str, generation: int) -> str:
    if not pod.ready or not pod.is_loaded(revision):
        return f"{pod.name} does not serve stable"
    if pod.table is None or pod.table.generation != generation:
        return f"{pod.name} has not seen the table"
    return ""


def _find_unrest_of_paths(referee: Referee, pods: list[Pod]) -> str:
    """Nothing is left that nothing needs, and every request reaches pods of stable."""
    store, gateway = referee.weather.store, referee.weather.plan.gateway
    wanted = {names.service_name(NAME)} | (set(ROLES) if gateway else set())
    services = {one["metadata"]["name"] for one in store.list_(SERVICES, NAMESPACE)}
    if services != wanted:
        return f"Services {sorted(services)}"
    route = store.find(HTTPROUTES, NAMESPACE, names.route_name(NAME))
    if (route is not None) is not gateway or (gateway and read_weights(route, OWNER) != (100, 0)):
        return "the route is not as it should be"
    workload = referee.find_stable_workload()
    left = {one["metadata"]["labels"][names.LABEL_WORKLOAD] for one in store.list_(DEPLOYMENTS, NAMESPACE)}
    if left != {workload}:
        return f"the Deployments of {sorted(left)}, stable lives in {workload}"
    shares = referee.kubelet.shares
    reached = {pod.name for pod in pods if pod.ready and pod.workload == workload}
    if referee.plane.lost or shares.keys() != reached:
        return f"requests reach {sorted(shares)}, and {referee.plane.lost:.0%} nobody"
    return ""


def _find_unrest_of_spec(deployment: Object, status: dict[str, Any], stable: dict[str, Any]) -> str:
    """The spec's revision is stable, or is rejected."""
    spec = parse_deployment(deployment).spec
    sha256 = spec.program.artifact.sha256
    wanted = revision_hash(workload_hash(spec, str(spec.image), ""), sha256)
    if status.get("observedGeneration") != deployment["metadata"]["generation"]:
        return "the newest spec has not been looked at"
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    if wanted == stable["revision"]:
        return "" if conditions["Ready"]["status"] == "True" else "not Ready"
    if conditions["Stalled"]["status"] != "True":
        return f"the spec asks for {wanted}: {status.get('message')}"
    return ""


def _is_stuck(referee: Referee, rollout: Object) -> bool:
    """Whether pods of the canary's own never get ready: that ends by a deadline of the attempt."""
    workload, stuck = rollout["spec"]["to"].get("workload"), referee.weather.plan.stuck
    pods = referee.kubelet.pods.values()
    return any(pod.workload == workload and pod.variant and pod.variant in stuck for pod in pods)


def is_analysing(referee: Referee) -> bool:
    """Whether the time that passes is the analysis' own: a step or a bake whose weight is in effect, or examples."""
    status = (referee.people.find_deployment() or {}).get("status") or {}
    rollout = referee.find_rollout((status.get("canary") or {}).get("rolloutUID", ""))
    if rollout is None:
        is_first = not (status.get("stable") or {}).get("promotedAt")
        return is_first and bool(referee.weather.plan.gate.strip("v"))
    record = rollout.get("status") or {}
    phase = record.get("phase")
    if phase == "Regression" or _is_stuck(referee, rollout):
        return True
    is_preview = phase == "Stepping" and not record.get("step")
    return is_preview or (phase in {"Stepping", "Baking"} and bool(record.get("weightEffectiveAt")))
