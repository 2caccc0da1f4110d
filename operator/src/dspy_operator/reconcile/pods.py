"""What the serving pods make of the routing table and of the programs: from readiness and from their own metrics."""

from collections.abc import Mapping
from typing import Any

from dspy_operator.api.names import ANNOTATION_ROUTES_GENERATION, LABEL_WORKLOAD, ProgramState, short_digest
from dspy_operator.api.reasons import Reason
from dspy_operator.metrics.looks import find_confirmation
from dspy_operator.metrics.readings import PodReading, Reading
from dspy_operator.reconcile.memory import Given, Memory
from dspy_operator.reconcile.snapshot import Snapshot
from dspy_operator.rollout.capacity import Load, LoadState
from dspy_operator.rollout.model import Confirmation, Program, Split, Table, Unmeasured
from dspy_operator.traffic.view import Obstacle, is_ready

_LONGEST = 200
PRESUMED_AFTER = 120.0
"""Seconds after the pods were told: a kubelet refreshes a mounted ConfigMap in about 90 s by itself."""

_REFUSED = {
    ProgramState.DIGEST: (
        Reason.DIGEST_MISMATCH,
        "a pod got no bytes with the digest that the spec names; see the pod's log",
    ),
    ProgramState.REFUSED: (
        Reason.ARTIFACT_REFUSED,
        "the artifact is no program that may be loaded; see the pod's log",
    ),
    ProgramState.SIGNATURE: (
        Reason.SIGNATURE_MISMATCH,
        "the artifact does not fit the module's signature; see the pod's log",
    ),
    ProgramState.MODULE: (
        Reason.MODULE_NOT_LOADABLE,
        "the module cannot be imported or built; see the pod's log",
    ),
}

_ELSEWHERE = "(spec.program.artifact.uri); its log says why"


def list_ready_pods(snapshot: Snapshot, program: Program | None) -> frozenset[str]:
    """Names of the ready pods of a program's workload."""
    if program is None:
        return frozenset()
    return frozenset(pod["metadata"]["name"] for pod in list_pods(snapshot, program) if is_ready(pod))


def list_pods(snapshot: Snapshot, program: Program) -> list[Mapping[str, Any]]:
    """The live pods of a program's workload."""
    return [pod for pod in snapshot.pods if pod["metadata"]["labels"].get(LABEL_WORKLOAD) == program.workload]


def list_using_pods(snapshot: Snapshot, split: Split | None, stable: Program | None) -> frozenset[str]:
    """Ready pods that answer users: stable's, and those of a canary's own that has any weight."""
    ready = list_ready_pods(snapshot, stable)
    canary = split.canary if split else None
    return ready | list_ready_pods(snapshot, canary.program) if canary and canary.weight else ready


def build_confirmation(
    snapshot: Snapshot,
    memory: Memory,
    given: Given,
    table: Table | None,
    ready: frozenset[str],
    obstacle: Obstacle | None = None,
) -> Confirmation:
    """How far the table has reached the pods that use it (`ready`), and what routes to them."""
    reading, now = given.reading, given.now
    if table is None:
        return Confirmation()
    at = None
    if isinstance(reading, Reading):
        needs = {name: _list_needed(snapshot, name, table.split) for name in ready}
        at = find_confirmation(
            reading, _key(snapshot), needs, table.generation, stale_after=given.stale_after
        )
    told = [_is_told(pod, table.generation) for pod in snapshot.pods]
    refreshing = memory.refreshing
    if all(told):
        refreshing.adopt(table.generation, now)
    blind = not isinstance(reading, Reading) or _key(snapshot) in reading.unmeasured
    since = refreshing.since if refreshing.generation == table.generation else now
    presumed = at is None and blind and bool(ready) and all(told) and now - since >= PRESUMED_AFTER
    refreshed = at is not None or (all(told) and not refreshing.is_due(table.generation, now))
    routed = _find_routed(memory, given, table, obstacle)
    return Confirmation(
        at=max(at, routed) if at is not None and routed is not None else None,
        presumed=presumed and obstacle is None,
        refreshed=refreshed or not snapshot.pods,
        message=obstacle.message if obstacle else "",
        is_settling=obstacle is not None and obstacle.is_settling,
    )


def _find_routed(memory: Memory, given: Given, table: Table, obstacle: Obstacle | None) -> float | None:
    """Since when what routes is known to follow this table, by Prometheus' clock; None: it does not yet.

    Shared pods are routed to as ever: 0, and the pods alone say when.
    """
    if obstacle is not None:
        memory.routed_at = (table.generation, None)
        return None
    generation, since = memory.routed_at
    if generation != table.generation:
        return 0.0
    if since is None:
        memory.routed_at = (generation, given.prometheus_now)
    return memory.routed_at[1]


def _list_needed(snapshot: Snapshot, pod: str, split: Split) -> list[str]:
    """Revisions with weight that a pod must have loaded: those that live in it."""
    labels = next(p["metadata"]["labels"] for p in snapshot.pods if p["metadata"]["name"] == pod)
    return [
        share.program.revision
        for share in (split.stable, split.canary)
        if share and share.weight and share.program.workload == labels.get(LABEL_WORKLOAD)
    ]


def find_waiting(snapshot: Snapshot, program: Program) -> str:
    """What the first pod of a program that is not ready waits for, in the words of kubelet or scheduler; or empty."""
    for pod in sorted(list_pods(snapshot, program), key=lambda pod: str(pod["metadata"]["name"])):
        waiting = pod["status"].get("waiting") or _find_unmet(pod)
        if waiting and not is_ready(pod):
            told = str(waiting.get("message") or "")[:_LONGEST]
            return f"pod {pod['metadata']['name']}: {waiting.get('reason')}" + (told and f": {told}")
    return ""


def _find_unmet(pod: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """No node takes it; or its containers run, and a readiness probe of theirs fails."""
    unmet = {c.get("type"): c for c in pod["status"].get("conditions") or () if c.get("status") == "False"}
    return unmet.get("PodScheduled") or unmet.get("ContainersReady")


def build_load(
    reading: Reading | Unmeasured | None, snapshot: Snapshot, program: Program, ready: frozenset[str]
) -> Load:
    """What all ready pods, or while none is ready all pods, make of a program.

    One pod that refuses it is enough to refuse it: all hold the same bytes. One that waits for bytes that lie
    elsewhere is enough to say so.
    """
    revision = program.revision
    if not isinstance(reading, Reading):
        return Load()
    pods = reading.programs.get(_key(snapshot), {})
    known = {
        name: pod for name, pod in pods.items() if any(p["metadata"]["name"] == name for p in snapshot.pods)
    }
    states = [pod.states.get(revision) for pod in known.values()]
    for state, (reason, message) in _REFUSED.items():
        if state in states:
            return Load(LoadState.REFUSED, reason, f"Program of revision {revision}: {message}")
    waiting = [name for name in sorted(ready or known) if _is_waiting(known.get(name), revision)]
    if waiting and snapshot.artifact.uri and snapshot.artifact.digest == program.sha256:
        message = (
            f"Pod {waiting[0]} waits for the bytes of program {short_digest(program.sha256)} {_ELSEWHERE}"
        )
        return Load(LoadState.LOADING, Reason.WAITING_FOR_ARTIFACT, message)
    if not ready or not ready <= known.keys():
        return Load()
    if all(_has_loaded(known[name], revision) for name in ready):
        return Load(LoadState.LOADED)
    return Load(LoadState.LOADING)


def _is_waiting(pod: PodReading | None, revision: str) -> bool:
    return pod is not None and pod.states.get(revision) == ProgramState.WAITING


def _has_loaded(pod: PodReading, revision: str) -> bool:
    return bool(pod.loaded.get(revision))


def _is_told(pod: Mapping[str, Any], generation: int) -> bool:
    annotation = (pod["metadata"].get("annotations") or {}).get(ANNOTATION_ROUTES_GENERATION, "")
    return str(annotation).partition(".")[0] == str(generation)


def _key(snapshot: Snapshot) -> tuple[str, str]:
    return snapshot.owner.namespace, snapshot.owner.name
