"""The regression gate as decisions see it: from its Job, and from the last words of the container that asked.

`manifests/jobs.py` builds the Job, `rollout/gate.py` decides. Only a verdict on these very programs is believed.
"""

import json
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final

from dspy_operator.api import names
from dspy_operator.api.defaults import analysis_with_defaults, regression_with_defaults
from dspy_operator.api.rollout import DSPyRollout, FilledAnalysis, FilledRegression, parse_rollout
from dspy_operator.errors import Conflict
from dspy_operator.manifests.jobs import Comparison, build_gate
from dspy_operator.manifests.owner import Manifest
from dspy_operator.reconcile import children
from dspy_operator.reconcile.snapshot import Object, Snapshot
from dspy_operator.rollout.actions import RunGate
from dspy_operator.rollout.capacity import Gate, GateState
from dspy_operator.rollout.clock import parse_time
from dspy_operator.rollout.gate import FIRST_ATTEMPT
from dspy_operator.rollout.model import DeploymentRecord, Program, Rollout

VERDICTS: Final = {
    "Pass": GateState.PASSED,
    "Fail": GateState.FAILED,
    "Invalid": GateState.FAILED,
    "NoVerdict": GateState.NO_VERDICT,
}
"""What `dspy-server eval` says; a set, metric or program that is refused stays so, so that is a no."""
_LONGEST = 500


def observe_gate(
    snapshot: Snapshot, record: DeploymentRecord, rollout: Rollout | None, target: Program | None
) -> Gate:
    """The state of the Job of the open attempt, or of the spec's revision while there is no stable one."""
    if rollout is not None and record.pointer is not None:
        name = names.gate_name(snapshot.owner.name, rollout.to.revision, record.pointer.attempt)
        arms: tuple[str, str | None] = (rollout.to.sha256, rollout.origin.sha256)
    elif target is not None and not (record.stable and record.stable.promoted_at):
        name = names.gate_name(snapshot.owner.name, target.revision, FIRST_ATTEMPT)
        arms = (target.sha256, None)
    else:
        name, arms = "", ("", None)
    left = tuple(job for job, live in snapshot.jobs.items() if job != name and not _find_end(live))
    job = snapshot.jobs.get(name)
    if job is None:
        return Gate(left=left)
    # Stable of another workload may not fit the canary's code: then it is measured alone.
    known = {arms, (arms[0], None)} if rollout is not None and rollout.has_own_pods else {arms}
    state, message = _judge(snapshot, job, known)
    ended = _find_time(job) if state is GateState.NO_VERDICT else None
    return Gate(state, name, message[:_LONGEST], ended, left)


def build_job(action: RunGate, snapshot: Snapshot) -> Manifest:
    """The Job to create: for an attempt by its frozen rules, for the first revision by the spec's.

    Raises:
        Conflict: what it needs is not there any more.
    """
    record = snapshot.revisions.get(action.program.revision)
    gate, analysis, stable = _find_rules(snapshot)
    if record is None or gate is None or analysis is None:
        raise Conflict("nothing says any more what the gate compares, and how")
    comparison = Comparison(
        name=names.gate_name(snapshot.owner.name, action.program.revision, action.attempt),
        gate=gate,
        mode=analysis.mode,
        confidence=analysis.confidence,
        canary=action.program.sha256,
        stable=stable,
        is_other_code=_is_other_code(snapshot),
    )
    return build_gate(children.describe_workload(snapshot, record), comparison)


def _is_other_code(snapshot: Snapshot) -> bool:
    """Whether the attempt's canary has pods of its own."""
    if snapshot.rollout is None:
        return False
    spec = parse_rollout(snapshot.rollout).spec
    return spec.from_.workload != spec.to.workload


def _find_rules(snapshot: Snapshot) -> tuple[FilledRegression | None, FilledAnalysis | None, str | None]:
    """The gate, the analysis whose mode and confidence it has, and the digest of stable."""
    if snapshot.rollout is not None:
        parsed: DSPyRollout = parse_rollout(snapshot.rollout)
        return parsed.spec.regression, parsed.spec.strategy.analysis, parsed.spec.from_.sha256
    if snapshot.parsed is None:
        return None, None, None
    spec = snapshot.parsed.spec
    return regression_with_defaults(spec), analysis_with_defaults(spec), None


def is_first_gated(snapshot: Snapshot) -> bool:
    """Whether even the first revision must reach a score."""
    gate = snapshot.parsed.spec.regression if snapshot.parsed else None
    return gate is not None and gate.min_score is not None


def find_missing_examples(snapshot: Snapshot) -> str:
    """A sentence if the examples that the spec names are not there; empty if they are, or none are named."""
    gate = snapshot.parsed.spec.regression if snapshot.parsed else None
    if gate is None or snapshot.examples.digest is not None:
        return ""
    ref = gate.dataset.config_map
    return f"ConfigMap {ref.name} or its key {ref.key} of regression.dataset is not there"


def _judge(
    snapshot: Snapshot, job: Object, known: AbstractSet[tuple[str, str | None]]
) -> tuple[GateState, str]:
    """By the container's last words; a Job that ended without any was killed, which says nothing of the program."""
    terminated = next(_list_ends(snapshot, job), None)
    if terminated is None:
        end = _find_end(job)
        if end is None:
            return GateState.RUNNING, ""
        return GateState.NO_VERDICT, str(
            end.get("message") or end.get("reason") or "the Job ended without a word"
        )
    result = _parse(terminated.get("message"))
    if result is None:
        code, reason = terminated.get("exitCode"), terminated.get("reason") or "no reason given"
        return GateState.NO_VERDICT, f"the run ended with code {code} ({reason}) and without a result"
    state, message = VERDICTS[str(result["verdict"])], str(result.get("message") or result.get("reason"))
    if state is GateState.PASSED and (result.get("canarySha256"), result.get("stableSha256")) not in known:
        return GateState.NO_VERDICT, "the result is about other programs than these"
    return state, message


def _list_ends(snapshot: Snapshot, job: Object) -> Iterator[Mapping[str, Any]]:
    """The state of the asking container in each pod of the Job in which it has ended."""
    for pod in snapshot.gate_pods:
        owners = pod["metadata"].get("ownerReferences") or []
        if not any(owner.get("uid") == job["metadata"]["uid"] for owner in owners):
            continue
        for status in (pod.get("status") or {}).get("containerStatuses") or []:
            ended = (status.get("state") or {}).get("terminated")
            if status.get("name") == names.CONTAINER and ended:
                yield ended


def _parse(text: Any) -> Mapping[str, Any] | None:
    try:
        value = json.loads(text or "")
    except (ValueError, TypeError, RecursionError):
        return None
    return value if isinstance(value, dict) and str(value.get("verdict")) in VERDICTS else None


def _find_end(job: Object) -> Mapping[str, Any] | None:
    """The condition that says that the Job has ended."""
    conditions = (job.get("status") or {}).get("conditions") or []
    ends = (c for c in conditions if c.get("type") in {"Complete", "Failed"} and c.get("status") == "True")
    return next(ends, None)


def _find_time(job: Object) -> float | None:
    """When it ended, seconds since 1970; None while it clears up."""
    end = _find_end(job)
    text = end.get("lastTransitionTime") if end else None
    return parse_time(str(text)) if text else None
