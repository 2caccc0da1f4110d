"""The durable records on the wire: DSPyDeployment.status and DSPyRollout.status to `model` and back.

Read by `reconcile/observe.py`, written by `reconcile/record.py`. What is display only is in `status.py`.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from dspy_operator.api.names import Command, short_digest
from dspy_operator.api.rollout import DSPyRollout, RevisionRef, RolloutStatus
from dspy_operator.api.status import DeploymentStatus, StableStatus
from dspy_operator.rollout.analysis import Analysis
from dspy_operator.rollout.clock import format_exact, format_time
from dspy_operator.rollout.model import (
    DeploymentRecord,
    Entry,
    Handled,
    Phase,
    Pointer,
    Program,
    Rejected,
    RolloutRecord,
    Stable,
)

Wire = dict[str, Any]


def read_program(ref: RevisionRef) -> Program:
    """One side of an attempt."""
    return Program(ref.revision, ref.workload, ref.sha256, ref.module)


def build_revision_ref(program: Program) -> Wire:
    """One side of an attempt, for DSPyRollout.spec."""
    return {
        "revision": program.revision,
        "workload": program.workload,
        "module": program.module,
        "sha256": program.sha256,
        "version": short_digest(program.sha256),
    }


def read_deployment_record(status: DeploymentStatus) -> DeploymentRecord:
    """The part of DSPyDeployment.status that decisions rest on."""
    stable, canary = status.stable, status.canary
    return DeploymentRecord(
        stable=_read_stable(stable) if stable else None,
        rejected=tuple(
            Rejected(r.revision, r.reason, _text(r.at), r.sha256 or "", r.message or "")
            for r in status.rejected or ()
        ),
        pointer=Pointer(canary.revision, canary.source, canary.attempt, canary.rollout, canary.rollout_uid)
        if canary
        else None,
        handled=_read_handled(status.handled_commands),
    )


def _read_stable(stable: StableStatus) -> Stable:
    return Stable(stable.revision, stable.sha256, _text(stable.promoted_at), stable.workload or "")


def build_deployment_record(record: DeploymentRecord) -> Wire:
    """The same as a merge patch of the status; what is gone is null."""
    stable, pointer = record.stable, record.pointer
    return {
        "stable": stable
        and {
            "revision": stable.revision,
            "sha256": stable.sha256,
            "version": short_digest(stable.sha256),
            "promotedAt": stable.promoted_at or None,
            "workload": stable.workload or None,
        },
        "rejected": [_build_rejected(entry) for entry in record.rejected] or None,
        "canary": pointer
        and {
            "revision": pointer.revision,
            "source": pointer.source,
            "attempt": pointer.attempt,
            "rollout": pointer.rollout,
            "rolloutUID": pointer.rollout_uid,
        },
        "handledCommands": _build_handled(record.handled),
    }


def _build_rejected(entry: Rejected) -> Wire:
    digest = {"sha256": entry.sha256, "version": short_digest(entry.sha256)} if entry.sha256 else {}
    told = {"message": entry.message} if entry.message else {}
    return {"revision": entry.revision, "reason": entry.reason, "at": entry.at} | digest | told


def read_rollout_record(rollout: DSPyRollout, analysis: Analysis | None) -> RolloutRecord:
    """The part of DSPyRollout.status that decisions rest on; an empty status is Preparing.

    `analysis` is what `status.looks` says: replaying it is the caller's, who may know the result already.

    Raises:
        ValueError: a phase that this version does not know.
    """
    status = rollout.status
    return RolloutRecord(
        phase=Phase(status.phase or Phase.PREPARING),
        step=status.step or 0,
        outcome=Phase(status.outcome) if status.outcome else None,
        reason=status.reason or Phase.PREPARING,
        message=status.message or "",
        number=status.decision_number or 0,
        epoch=status.epoch or 0,
        started_at=_seconds(status.step_started_at),
        effective_at=_seconds(status.weight_effective_at),
        awaiting=bool(status.awaiting_promotion),
        held=bool(status.held),
        weight=status.weight or 0,
        handled=_read_handled(status.handled_commands),
        entries=tuple(_read_entries(status)),
        analysis=analysis,
        noticed=tuple(status.noticed or ()),
    )


def build_rollout_record(record: RolloutRecord) -> Wire:
    """The same as a merge patch of the status; what is gone is null."""
    return {
        "phase": record.phase.value,
        "step": record.step,
        "weight": record.weight,
        "outcome": record.outcome and record.outcome.value,
        "reason": str(record.reason),
        "message": record.message[:2048],
        "decisionNumber": record.number,
        "epoch": record.epoch,
        "stepStartedAt": format_exact(record.started_at) if record.started_at is not None else None,
        "weightEffectiveAt": format_exact(record.effective_at) if record.effective_at is not None else None,
        "awaitingPromotion": record.awaiting,
        "held": record.held,
        "handledCommands": _build_handled(record.handled),
        "decisions": [_build_entry(entry) for entry in record.entries] or None,
        "looks": record.analysis.to_text() if record.analysis else None,
        "noticed": list(record.noticed) or None,
    }


def _read_entries(status: RolloutStatus) -> list[Entry]:
    return [
        Entry(e.at.timestamp(), e.number, e.phase, e.step, e.weight, e.reason, e.message)
        for e in status.decisions or ()
    ]


def _build_entry(entry: Entry) -> Wire:
    return {
        "at": format_exact(entry.at),
        "number": entry.number,
        "phase": entry.phase,
        "step": entry.step,
        "weight": entry.weight,
        "reason": entry.reason,
        "message": entry.message,
    }


def _read_handled(handled: Mapping[str, list[str]] | None) -> Handled:
    known = {command.value: command for command in Command}
    return {known[name]: tuple(nonces) for name, nonces in (handled or {}).items() if name in known}


def _build_handled(handled: Handled) -> Wire | None:
    return {command.value: list(nonces) for command, nonces in handled.items()} or None


def _seconds(time: datetime | None) -> float | None:
    return None if time is None else time.timestamp()


def _text(time: datetime | None) -> str:
    return "" if time is None else format_time(time.timestamp())
