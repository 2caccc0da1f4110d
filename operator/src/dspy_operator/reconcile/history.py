"""What earlier attempts say: their numbers, which revisions were promoted, what a crash left half open."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from dspy_operator.api.defaults import revision_history_limit, rollback_window
from dspy_operator.api.rollout import DSPyRollout, parse_rollout
from dspy_operator.api.status import DeploymentStatus
from dspy_operator.errors import InvalidSpec
from dspy_operator.reconcile.opening import is_as_asked
from dspy_operator.reconcile.snapshot import Snapshot
from dspy_operator.rollout.judging import RolloutConfig
from dspy_operator.rollout.model import (
    ENDS,
    DeploymentRecord,
    Past,
    Phase,
    Plan,
    Program,
    Rollout,
    RolloutRecord,
    Stock,
)
from dspy_operator.rollout.plan import build_plan
from dspy_operator.rollout.records import read_program

_ENDS = frozenset(str(phase) for phase in ENDS)
STRAY_AFTER = 600.0
"""Seconds after which an attempt that nothing points to is given up."""


@dataclass(frozen=True)
class History:
    """Attempts of one deployment; `previous` are promoted revisions other than stable, the newest first."""

    attempts: Mapping[str, int] = field(default_factory=dict)
    previous: tuple[str, ...] = ()
    pending: Rollout | None = None
    orphans: tuple[str, ...] = ()


def build_stock(snapshot: Snapshot) -> Stock:
    """What there is to keep or to prune; nothing while an attempt is stepping."""
    if snapshot.rollouts is None or snapshot.parsed is None:
        return Stock()
    parsed = [found for obj in snapshot.rollouts if (found := _parse(obj))]
    prefixes = (f"{snapshot.owner.name}-program-", f"{snapshot.owner.name}-source-")
    known = [past for r in parsed if (past := _find_past(r))]
    return Stock(
        attempts=tuple(past for past in known if past.phase.is_end),
        unfinished=tuple(past for past in known if not past.phase.is_end),
        copies=frozenset(name for name in snapshot.config_maps if name.startswith(prefixes)),
        digests={kept.revision: (kept.sha256, kept.source_digest) for kept in snapshot.revisions.values()},
        limit=revision_history_limit(snapshot.parsed.spec),
        window=rollback_window(snapshot.parsed.spec),
    )


def read_status(snapshot: Snapshot) -> DeploymentStatus:
    """The status as it was read; one that somebody spoiled counts as wiped."""
    if snapshot.parsed is not None:
        return snapshot.parsed.status
    try:
        return DeploymentStatus.model_validate(snapshot.deployment.get("status") or {})
    except ValidationError:
        return DeploymentStatus()


def build_history(snapshot: Snapshot, record: DeploymentRecord, now: float) -> History:
    """From the attempts that the pass has read (none while one is stepping: nothing asks for them then)."""
    if snapshot.rollouts is None:
        return History()
    attempts: dict[str, int] = {}
    parsed = [found for obj in snapshot.rollouts if (found := _parse(obj))]
    for rollout in parsed:
        revision = rollout.spec.to.revision
        attempts[revision] = max(attempts.get(revision, 0), rollout.spec.attempt)
    pointed = record.pointer.rollout_uid if record.pointer else ""
    loose = [r for r in parsed if r.metadata.uid != pointed and r.status.phase not in _ENDS]
    # The oldest goes on: one that lands late must not take the place of the one that a pointer may be under way to.
    loose.sort(key=lambda r: (_get_creation(r), r.metadata.name))
    usable = [r for r in loose if not r.status.phase and _is_usable(r, snapshot, now)]
    waits = [r for r in loose if r.status.phase and now - _get_creation(r) < STRAY_AFTER]
    return History(
        attempts=attempts,
        previous=tuple(_list_previous(parsed, record)),
        pending=_build_pending(usable[0]) if usable else None,
        orphans=tuple(r.metadata.name for r in loose if r not in usable[:1] and r not in waits),
    )


def _is_usable(rollout: DSPyRollout, snapshot: Snapshot, now: float) -> bool:
    """Whether an opening may go on with this half: it is young, and frozen as the spec is now."""
    if now - _get_creation(rollout) >= STRAY_AFTER:
        return False
    return snapshot.parsed is None or is_as_asked(rollout.spec, snapshot.parsed.spec)


def build_unknown(obj: Mapping[str, Any]) -> Rollout:
    """An attempt that another version of the operator wrote: identity only, never acted upon."""
    meta, spec = obj["metadata"], obj.get("spec") or {}
    plan = Plan((100,), (False,), 0.0, 0.0, RolloutConfig(steps=(), metrics=()))
    return Rollout(
        name=meta["name"],
        uid=meta["uid"],
        origin=_read_loose(spec.get("from") or {}),
        to=_read_loose(spec.get("to") or {}),
        fast=False,
        plan=plan,
        record=RolloutRecord(),
        created_at=0.0,
        known=False,
    )


def _read_loose(ref: Mapping[str, Any]) -> Program:
    return Program(*(str(ref.get(key, "")) for key in ("revision", "workload", "sha256", "module")))


def _parse(obj: dict[str, Any]) -> DSPyRollout | None:
    try:
        return parse_rollout(obj)
    except InvalidSpec:
        return None


def _build_pending(rollout: DSPyRollout) -> Rollout | None:
    try:
        plan = build_plan(rollout.spec)
    except ValueError:
        return None
    return Rollout(
        name=rollout.metadata.name,
        uid=rollout.metadata.uid,
        origin=read_program(rollout.spec.from_),
        to=read_program(rollout.spec.to),
        fast=rollout.spec.fast,
        plan=plan,
        record=RolloutRecord(),
        created_at=_get_creation(rollout),
    )


def _find_past(rollout: DSPyRollout) -> Past | None:
    """An attempt that began; None for one that did not, or is in a phase of another version."""
    if rollout.status.phase not in set(Phase):
        return None
    origin, to = rollout.spec.from_.revision, rollout.spec.to.revision
    phase = Phase(rollout.status.phase)
    return Past(rollout.metadata.name, origin, to, phase, _get_end(rollout), rollout.spec.fast)


def _list_previous(rollouts: Iterable[DSPyRollout], record: DeploymentRecord) -> list[str]:
    promoted = [rollout for rollout in rollouts if rollout.status.phase == Phase.PROMOTED]
    promoted.sort(key=_get_end, reverse=True)
    seen: dict[str, None] = {}
    for rollout in promoted:
        seen.setdefault(rollout.spec.to.revision)
        seen.setdefault(rollout.spec.from_.revision)
    stable = record.stable.revision if record.stable else ""
    return [revision for revision in seen if revision != stable]


def _get_creation(rollout: DSPyRollout) -> float:
    created = rollout.metadata.creation_timestamp
    return created.timestamp() if created else 0.0


def _get_end(rollout: DSPyRollout) -> float:
    time = rollout.status.finished_at or rollout.metadata.creation_timestamp
    return time.timestamp() if time else 0.0
