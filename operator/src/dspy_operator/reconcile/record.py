"""A decision becomes durable: at most one record a pass, bound to what was read; display only when it changed."""

from collections.abc import Callable, Mapping
from typing import Any

from dspy_operator.api.names import ConditionType
from dspy_operator.kube.client import Client
from dspy_operator.kube.resources import DSPYDEPLOYMENTS, DSPYROLLOUTS, Resource
from dspy_operator.manifests.owner import build_selector_text
from dspy_operator.reconcile.memory import Given, Memory, get_version
from dspy_operator.reconcile.snapshot import Object, Snapshot
from dspy_operator.rollout.actions import Decision
from dspy_operator.rollout.clock import format_time
from dspy_operator.rollout.model import Observation, RolloutRecord
from dspy_operator.rollout.records import build_deployment_record, build_rollout_record
from dspy_operator.rollout.status import Face, Telemetry, build_canary_display, build_display, build_evidence
from dspy_operator.traffic.view import is_ready

Wire = dict[str, Any]


class Recorder:
    """Writes status. `check` raises when this process may not write any more."""

    def __init__(self, client: Client, check: Callable[[], None]) -> None:
        self._client = client
        self._check = check

    async def record(self, seen: Observation, decision: Decision, snapshot: Snapshot, memory: Memory) -> None:
        """Write the record of this decision, if it has one.

        Raises:
            Conflict: somebody else wrote since the pass read.
        """
        if decision.deployment is not None:
            patch = build_deployment_record(decision.deployment)
            await self._write(DSPYDEPLOYMENTS, snapshot.deployment, patch, memory)
        elif decision.rollout is not None and snapshot.rollout is not None:
            await self._record_rollout(seen, decision, decision.rollout, snapshot, memory)

    async def _record_rollout(
        self,
        seen: Observation,
        decision: Decision,
        record: RolloutRecord,
        snapshot: Snapshot,
        memory: Memory,
    ) -> None:
        obj = snapshot.rollout
        assert obj is not None  # noqa: S101  the caller says so
        patch = build_rollout_record(record) | build_evidence(seen, decision)
        before = obj.get("status") or {}
        if not before.get("startedAt"):
            patch["startedAt"] = format_time(seen.now)
        if record.phase.is_end:
            patch["finishedAt"] = format_time(seen.now)
        await self._write(DSPYROLLOUTS, obj, patch, memory)
        memory.checkpoint_at = seen.now
        if record.analysis is not None:
            memory.saved, memory.saved_text = record.analysis, patch["looks"]

    async def show(
        self, seen: Observation, decision: Decision, snapshot: Snapshot, memory: Memory, given: Given
    ) -> bool:
        """Bring the display part of the deployment's status up to date; numbers at most once a checkpoint.

        Returns whether anything was written.
        """
        live = snapshot.deployment.get("status") or {}
        patch = build_display(seen, decision, _build_face(snapshot, memory))
        if seen.record.pointer is not None and decision.deployment is None:
            patch["canary"] = build_canary_display(seen, decision.verdict)
        if _is_shown(live, patch):
            return False
        canary = {**(live.get("canary") or {}), **(patch.get("canary") or {})}
        same_shape = _get_shape(live) == _get_shape({**live, **patch, "canary": canary})
        if same_shape and given.now - memory.display_at < given.checkpoint_interval:
            return False
        memory.display_at = given.now
        await self._write(DSPYDEPLOYMENTS, snapshot.deployment, patch, memory)
        return True

    async def _write(self, resource: Resource, obj: Object, patch: Mapping[str, Any], memory: Memory) -> None:
        """Patch the status; the object in the snapshot becomes what was written, for the next write of this pass."""
        self._check()
        meta = obj["metadata"]
        written = await self._client.patch_status(
            resource,
            meta["namespace"],
            meta["name"],
            patch,
            uid=meta["uid"],
            resource_version=meta["resourceVersion"],
        )
        memory.known.add(get_version(written))
        obj["metadata"]["resourceVersion"] = written["metadata"]["resourceVersion"]
        obj["status"] = written.get("status") or {}


def _build_face(snapshot: Snapshot, memory: Memory) -> Face:
    status = snapshot.deployment.get("status") or {}
    strategy = snapshot.deployment["spec"].get("strategy") or {}
    return Face(
        generation=snapshot.deployment["metadata"]["generation"],
        conditions=status.get("conditions") or (),
        selector=build_selector_text(snapshot.owner),
        total_pods=len(snapshot.pods),
        ready_pods=sum(1 for pod in snapshot.pods if is_ready(pod)),
        ready_when_serving=strategy.get("readyWhen") == "Serving",
        telemetry=memory.telemetry or _get_shown_telemetry(status),
    )


def _get_shown_telemetry(status: Mapping[str, Any]) -> Telemetry:
    """What the process before this one has found: until this one has looked, it is no news."""
    for condition in status.get("conditions") or ():
        if condition.get("type") == ConditionType.TELEMETRY_READY:
            return Telemetry(condition["status"], condition.get("reason", ""), condition.get("message", ""))
    return Telemetry()


def _is_shown(live: Mapping[str, Any], patch: Mapping[str, Any]) -> bool:
    """Whether the patch would change nothing."""
    for key, value in patch.items():
        if isinstance(value, Mapping):
            if not _is_shown(live.get(key) or {}, value):
                return False
        elif live.get(key) != value:
            return False
    return True


def _get_shape(status: Mapping[str, Any]) -> Wire:
    """The status without what moves all the time: sentences and measured numbers."""
    canary = {k: v for k, v in (status.get("canary") or {}).items() if k not in {"score", "p95"}}
    conditions = [
        {k: v for k, v in condition.items() if k not in {"message", "reason"}}
        | {"reason": condition.get("reason") if condition.get("type") in {"Ready", "Stalled"} else None}
        for condition in status.get("conditions") or ()
    ]
    rest = {k: v for k, v in status.items() if k not in {"message", "conditions", "canary"} and v is not None}
    return rest | {"canary": canary, "conditions": conditions}
