"""What people, kstatus, `kubectl wait` and Argo CD read: conditions, phase and numbers, derived from one decision.

Display only: nothing here is read back by `decide`, but for the times of unchanged conditions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from dspy_operator.api.choices import Router
from dspy_operator.api.names import ConditionType, short_digest
from dspy_operator.api.reasons import Reason
from dspy_operator.api.status import DeploymentPhase
from dspy_operator.rollout.actions import Decision
from dspy_operator.rollout.attempt import is_held
from dspy_operator.rollout.clock import format_time
from dspy_operator.rollout.judging import Action, MetricType, MetricVerdict, Verdict
from dspy_operator.rollout.model import Observation, Phase, Target
from dspy_operator.rollout.sizing import FULL

Wire = dict[str, Any]
LONGEST_MESSAGE = 1024

STALLING = frozenset(
    {
        Reason.INVALID_SPEC,
        Reason.ARTIFACT_NOT_FOUND,
        Reason.SOURCE_NOT_FOUND,
        Reason.DIGEST_MISMATCH,
        Reason.ARTIFACT_REFUSED,
        Reason.SIGNATURE_MISMATCH,
        Reason.MODULE_NOT_LOADABLE,
        Reason.NAME_TAKEN,
        Reason.QUOTA_EXCEEDED,
        Reason.WEIGHT_NOT_REACHABLE,
        Reason.REVISION_NOT_FOUND,
        Reason.REGRESSION_FAILED,
        Reason.CANARY_DEAD,
        Reason.GATEWAY_NOT_READY,
        Reason.ROLLED_BACK,
    }
)
"""Reasons that only a person can end."""


class World(StrEnum):
    """The rows of the status table in the documentation."""

    STARTING = "starting"
    HEALTHY = "healthy"
    WAITING = "waiting"
    ROLLOUT = "rollout"
    STALLED = "stalled"
    DOWN = "down"


@dataclass(frozen=True)
class Telemetry:
    """What is known of the scraping of the pods: True, False or Unknown, and why."""

    status: str = "Unknown"
    reason: str = Reason.NOT_SCRAPED
    message: str = "Not looked at yet"


@dataclass(frozen=True)
class Face:
    """What of the resource the display needs beside the observation."""

    generation: int
    conditions: Sequence[Mapping[str, Any]]
    selector: str
    total_pods: int
    ready_pods: int
    ready_when_serving: bool = False
    telemetry: Telemetry = Telemetry()


def build_display(seen: Observation, decision: Decision, face: Face) -> Wire:
    """The display part of DSPyDeployment.status, as a merge patch."""
    world = get_world(seen, decision, face)
    message = decision.message[:LONGEST_MESSAGE]
    return {
        "observedGeneration": face.generation,
        "phase": get_phase(seen, decision, world).value,
        "weight": seen.table.split.weight if seen.table else 0,
        "actualWeight": get_actual_weight(seen),
        "routesGeneration": seen.table.generation if seen.table else None,
        "replicas": face.total_pods,
        "readyReplicas": face.ready_pods,
        "selector": face.selector,
        "message": message,
        "paused": is_held(seen),
        "conditions": build_conditions(seen, decision, face, world),
    }


def get_actual_weight(seen: Observation) -> int | None:
    """Percent that the numbers of ready pods give the canary, where nothing else splits; None: the weight is exact."""
    rollout, weight = seen.rollout, seen.table.split.weight if seen.table else 0
    if rollout is None or not rollout.has_own_pods or rollout.plan.routing.router is not Router.REPLICAS:
        return None
    canary, stable = seen.capacity.own.ready, seen.capacity.ready_pods
    if weight in {0, FULL} or canary + stable == 0:
        return weight
    return round(FULL * canary / (canary + stable))


def build_canary_display(seen: Observation, verdict: Verdict | None) -> Wire:
    """The display part of `status.canary` while an attempt is open."""
    rollout = seen.rollout
    if rollout is None or seen.record.pointer is None:
        return {}
    shown: Wire = {
        "workload": rollout.to.workload,
        "sha256": rollout.to.sha256,
        "version": short_digest(rollout.to.sha256),
        "step": rollout.record.step,
        "steps": len(rollout.plan.weights),
        "weight": seen.table.split.weight if seen.table else 0,
    }
    return shown | build_summary(seen, verdict)


def get_world(seen: Observation, decision: Decision, face: Face) -> World:
    """Which row of the table this is."""
    never_served = seen.record.stable is None or not seen.record.stable.promoted_at
    if decision.reason in STALLING and seen.record.pointer is None:
        return World.STALLED
    if never_served and face.ready_pods == 0:
        return World.STARTING
    if face.ready_pods == 0:
        return World.DOWN
    if seen.record.pointer is not None:
        return World.ROLLOUT
    if decision.reason in {Reason.HEALTHY, Reason.PROMOTED} and _is_stable_asked_for(seen):
        return World.HEALTHY
    return World.WAITING


def _is_stable_asked_for(seen: Observation) -> bool:
    stable, target = seen.record.stable, seen.target
    return stable is not None and isinstance(target, Target) and target.program.revision == stable.revision


def get_phase(seen: Observation, decision: Decision, world: World) -> DeploymentPhase:
    """One word for people."""
    match world:
        case World.STALLED | World.DOWN:
            return DeploymentPhase.DEGRADED
        case World.STARTING:
            return DeploymentPhase.INITIALIZING
        case World.HEALTHY:
            return DeploymentPhase.PAUSED if is_held(seen) else DeploymentPhase.HEALTHY
        case World.WAITING | World.ROLLOUT:
            paused = is_held(seen) or decision.reason == Reason.AWAITING_PROMOTION
            return DeploymentPhase.PAUSED if paused else DeploymentPhase.PROGRESSING


def build_conditions(seen: Observation, decision: Decision, face: Face, world: World) -> list[Wire]:
    """All eight conditions, the kstatus trio first; a time changes only with its status."""
    reason, message = str(decision.reason), decision.message[:LONGEST_MESSAGE]
    ready, reconciling, stalled = _get_trio(world, face)
    ready_reason = {World.ROLLOUT: Reason.ROLLOUT_IN_PROGRESS, World.STARTING: Reason.INITIALIZING}.get(
        world, reason
    )
    if ready == "True":
        ready_reason = Reason.HEALTHY if world is World.HEALTHY else ready_reason
    available = "True" if face.ready_pods else "False"
    pods = f"{face.ready_pods} of {face.total_pods} pods are ready"
    paused = is_held(seen) or reason == Reason.AWAITING_PROMOTION
    built = [
        (ConditionType.READY, ready, ready_reason, message),
        (ConditionType.RECONCILING, reconciling, reason, message),
        (ConditionType.STALLED, stalled, reason, message),
        (
            ConditionType.AVAILABLE,
            available,
            Reason.PODS_READY if face.ready_pods else Reason.PODS_NOT_READY,
            pods,
        ),
        (ConditionType.PROGRESSING, "True" if world is World.ROLLOUT else "False", reason, message),
        (
            ConditionType.PAUSED,
            "True" if paused else "False",
            reason if paused else Reason.NOT_PAUSED,
            message if paused else "",
        ),
        (ConditionType.ANALYSIS_PASSED, *_get_analysis(seen, decision)),
        (ConditionType.TELEMETRY_READY, face.telemetry.status, face.telemetry.reason, face.telemetry.message),
    ]
    return [_build_condition(seen, face, *parts) for parts in built]


def _get_trio(world: World, face: Face) -> tuple[str, str, str]:
    match world:
        case World.HEALTHY:
            return "True", "False", "False"
        case World.STARTING | World.WAITING:
            return "Unknown", "True", "False"
        case World.ROLLOUT:
            return ("True", "False", "False") if face.ready_when_serving else ("Unknown", "True", "False")
        case World.STALLED:
            return "False", "False", "True"
        case World.DOWN:
            return "False", "True", "False"


def _get_analysis(seen: Observation, decision: Decision) -> tuple[str, str, str]:
    if seen.record.pointer is None or seen.rollout is None:
        if seen.record.rejected and decision.reason in STALLING:
            return "False", str(decision.reason), decision.message[:LONGEST_MESSAGE]
        return "Unknown", Reason.NO_ROLLOUT, "No rollout is in progress"
    record = decision.rollout or seen.rollout.record
    metrics = seen.rollout.plan.config.metrics
    hint = ""
    if not any(metric.type is MetricType.SCORE for metric in metrics):
        hint = "No source of scores: judging " + " and ".join(metric.name for metric in metrics) + " only. "
    message = (hint + decision.message)[:LONGEST_MESSAGE]
    if record.phase is Phase.PROMOTED:
        return "True", str(record.reason), message
    if record.outcome in {Phase.ROLLED_BACK, Phase.ABORTED}:
        return "False", str(record.reason), message
    return "Unknown", Reason.NO_SCORE_SOURCE if hint else str(decision.reason), message


def _build_condition(
    seen: Observation, face: Face, kind: str, status: str, reason: str, message: str
) -> Wire:
    before = next((c for c in face.conditions if c.get("type") == kind), {})
    since = before.get("lastTransitionTime") if before.get("status") == status else None
    return {
        "type": str(kind),
        "status": status,
        "observedGeneration": face.generation,
        "lastTransitionTime": since or format_time(seen.now),
        "reason": str(reason),
        "message": message,
    }


# --- the evidence ---------------------------------------------------------------------------------------------


def build_summary(seen: Observation, verdict: Verdict | None) -> Wire:
    """Two numbers for the columns: `score` is the change against stable, `p95` as measured, both as text."""
    if verdict is None or seen.rollout is None:
        return {}
    types = {metric.name: metric.type for metric in seen.rollout.plan.config.metrics}
    score = next((m for m in verdict.metrics if types.get(m.name) is MetricType.SCORE), None)
    shown: Wire = {}
    if score is not None and score.drop is not None:
        shown["score"] = f"{-100 * score.drop:+.1f}%"
    canary, stable = (seen.p95.get(p.revision, 0.0) for p in (seen.rollout.to, seen.rollout.origin))
    if canary > 0 and stable > 0:
        shown["p95"] = f"{100 * (canary / stable - 1):+.0f}%"
    return shown


def build_evidence(seen: Observation, decision: Decision) -> Wire:
    """The display part of DSPyRollout.status: what was measured, and what is done about it."""
    verdict = decision.verdict
    shown: Wire = {
        "decision": {
            "action": _get_action(decision).value,
            "reason": str(decision.reason),
            "message": decision.message[:2048],
            "at": format_time(seen.now),
        }
    }
    if verdict is None or seen.rollout is None:
        return shown
    types = {metric.name: metric.type for metric in seen.rollout.plan.config.metrics}
    shown["verdict"] = verdict.answer.value
    shown["metrics"] = [_build_metric(metric, types.get(metric.name)) for metric in verdict.metrics]
    shown["summary"] = build_summary(seen, verdict) or None
    return shown


def _get_action(decision: Decision) -> Action:
    """What is done: what the verdict says, without one what the record that is written stands for."""
    if decision.verdict is not None:
        return decision.verdict.action
    match decision.rollout.phase if decision.rollout else None:
        case Phase.ROLLING_BACK | Phase.ROLLED_BACK | Phase.ABORTED | Phase.SUPERSEDED:
            return Action.ROLL_BACK
        case Phase.PROMOTING | Phase.PROMOTED:
            return Action.PROMOTE
        case _:
            return Action.HOLD


def _build_metric(metric: MetricVerdict, kind: MetricType | None) -> Wire:
    return {
        "name": metric.name,
        "type": kind.value if kind else None,
        "verdict": metric.verdict.value,
        "reason": metric.reason.value,
        "drop": metric.drop_text or None,
        "samples": {"canary": int(metric.canary_samples), "stable": int(metric.stable_samples)},
        "evidence": {
            "rollback": f"{max(0.0, metric.evidence_rollback):.2f}",
            "promote": f"{max(0.0, metric.evidence_promote):.2f}",
        },
        "samplesNeeded": metric.samples_needed,
        "dryRun": metric.dry_run or None,
        "message": metric.message[:LONGEST_MESSAGE],
    }
