"""DSPyDeployment, DSPyRollout and pods, as the API server returns them, into views. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from dspy_operator.api.names import LABEL_WORKLOAD, ConditionType, Track, short_digest
from dspy_operator.cli.objects import integer, mapping, mappings, number, parse_time, text
from dspy_operator.cli.views.health import health_of
from dspy_operator.cli.views.model import (
    Arm,
    Change,
    Condition,
    Decision,
    Deployment,
    Metric,
    Pod,
    Rollout,
)
from dspy_operator.cli.views.strategy import metric_specs, rule_of, steps_of

Object = Mapping[str, Any]
ENDS = frozenset({"Promoted", "RolledBack", "Aborted", "Superseded"})
ORDER = tuple(ConditionType)


def deployment_view(obj: Object, rollout: Object | None = None, pods: Sequence[Object] = ()) -> Deployment:
    """Build the view of a DSPyDeployment, its newest rollout and its serving pods."""
    metadata, status = mapping(obj, "metadata"), mapping(obj, "status")
    conditions = _conditions(status)
    ready = next((c for c in conditions if c.type == ConditionType.READY), None)
    stable, canary = mapping(status, "stable"), mapping(status, "canary")
    apart = bool(text(canary, "workload")) and text(canary, "workload") != text(stable, "workload")
    return Deployment(
        namespace=text(metadata, "namespace"),
        name=text(metadata, "name"),
        health=health_of(obj),
        phase=text(status, "phase") or "Unseen",
        message=text(status, "message") or "the operator has not seen it yet",
        ready=ready.status if ready else "",
        reason=ready.reason if ready else "",
        weight=integer(status, "weight") or 0,
        step=integer(canary, "step"),
        steps=integer(canary, "steps"),
        score=text(canary, "score"),
        paused_by_spec=bool(mapping(obj, "spec").get("paused")),
        created_at=parse_time(text(metadata, "creationTimestamp")),
        stable=_arm(Track.STABLE, stable, 100 - (integer(status, "weight") or 0), apart=apart),
        canary=_arm(Track.CANARY, canary, integer(status, "weight") or 0, apart=apart),
        rollout=None if rollout is None else rollout_view(rollout),
        pods=tuple(sorted((_pod(pod) for pod in pods), key=lambda pod: pod.name)),
        conditions=conditions,
    )


def rollout_view(obj: Object) -> Rollout:
    """Build the view of one attempt."""
    metadata, spec, status = mapping(obj, "metadata"), mapping(obj, "spec"), mapping(obj, "status")
    phase = text(status, "phase") or "Preparing"
    strategy, step = mapping(spec, "strategy"), integer(status, "step") or 0
    decision, rules = mapping(status, "decision"), metric_specs(strategy)
    return Rollout(
        name=text(metadata, "name"),
        phase=phase,
        is_open=phase not in ENDS,
        attempt=integer(spec, "attempt") or 1,
        from_version=_version(mapping(spec, "from")),
        to_version=_version(mapping(spec, "to")),
        from_revision=text(mapping(spec, "from"), "revision"),
        to_revision=text(mapping(spec, "to"), "revision"),
        step=step,
        weight=integer(status, "weight") or 0,
        mode=text(mapping(strategy, "analysis"), "mode"),
        confidence=text(mapping(strategy, "analysis"), "confidence"),
        steps=steps_of(strategy, phase, step),
        metrics=tuple(_metric(item, rules) for item in mappings(status, "metrics")),
        decision=_decision(decision) if decision else None,
        changes=tuple(_change(item) for item in mappings(status, "decisions")),
        reason=text(status, "reason") or text(decision, "reason"),
        message=text(status, "message") or text(decision, "message"),
        score=text(mapping(status, "summary"), "score"),
        p95=text(mapping(status, "summary"), "p95"),
        started_at=parse_time(text(status, "startedAt") or text(metadata, "creationTimestamp")),
        step_started_at=parse_time(text(status, "stepStartedAt")),
        effective_at=parse_time(text(status, "weightEffectiveAt")),
        ended_at=parse_time(text(status, "finishedAt")) if phase in ENDS else None,
    )


def owned_rollouts(rollouts: Sequence[Object], deployment: Object) -> list[Object]:
    """List a DSPyDeployment's attempts, the oldest first."""
    uid = text(mapping(deployment, "metadata"), "uid")
    mine = [
        rollout
        for rollout in rollouts
        if any(text(o, "uid") == uid for o in mappings(mapping(rollout, "metadata"), "ownerReferences"))
    ]
    return sorted(mine, key=_birth)


def _birth(rollout: Object) -> tuple[str, str]:
    metadata = mapping(rollout, "metadata")
    return text(metadata, "creationTimestamp"), text(metadata, "name")


def _version(program: Object) -> str:
    return text(program, "version") or short_digest(text(program, "sha256"))


def _arm(track: Track, arm: Object, weight: int, *, apart: bool) -> Arm | None:
    if not arm:
        return None
    since = parse_time(text(arm, "promotedAt"))
    workload = text(arm, "workload") if apart else ""
    return Arm(track, text(arm, "revision"), _version(arm), weight, since, workload)


def _metric(item: Object, rules: Mapping[str, Object]) -> Metric:
    name, samples, evidence = text(item, "name"), mapping(item, "samples"), mapping(item, "evidence")
    return Metric(
        name=name,
        verdict=text(item, "verdict"),
        rule=rule_of(rules.get(name, {})),
        drop=text(item, "drop"),
        canary_samples=integer(samples, "canary"),
        stable_samples=integer(samples, "stable"),
        samples_needed=integer(item, "samplesNeeded"),
        rollback=number(evidence, "rollback"),
        promote=number(evidence, "promote"),
        message=text(item, "message"),
    )


def _decision(item: Object) -> Decision:
    at = parse_time(text(item, "at"))
    return Decision(text(item, "action"), text(item, "reason"), text(item, "message"), at)


def _change(item: Object) -> Change:
    return Change(
        phase=text(item, "phase"),
        step=integer(item, "step") or 0,
        weight=integer(item, "weight") or 0,
        reason=text(item, "reason"),
        message=text(item, "message"),
        at=parse_time(text(item, "at")),
    )


def _pod(obj: Object) -> Pod:
    metadata, status = mapping(obj, "metadata"), mapping(obj, "status")
    is_ready = any(
        text(c, "type") == "Ready" and text(c, "status") == "True" for c in mappings(status, "conditions")
    )
    restarts = sum(integer(c, "restartCount") or 0 for c in mappings(status, "containerStatuses"))
    workload = text(mapping(metadata, "labels"), LABEL_WORKLOAD)
    return Pod(text(metadata, "name"), workload, is_ready, restarts, parse_time(text(status, "startTime")))


def _conditions(status: Object) -> tuple[Condition, ...]:
    known = [
        Condition(text(c, "type"), text(c, "status"), text(c, "reason"), text(c, "message"))
        for c in mappings(status, "conditions")
    ]
    rank = {kind.value: place for place, kind in enumerate(ORDER)}
    return tuple(sorted(known, key=lambda c: (rank.get(c.type, len(rank)), c.type)))
