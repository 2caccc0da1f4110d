"""What stories read of the two custom resources, as small frozen values."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.e2e.harness.api import Object

ENDS = frozenset({"Promoted", "RolledBack", "Aborted", "Superseded"})


def parse_time(text: str | None) -> float | None:
    """Unix seconds of an RFC 3339 time."""
    return datetime.fromisoformat(text).timestamp() if text else None


@dataclass(frozen=True)
class Entry:
    """One line of a rollout's record: what changed, when, why."""

    at: float
    number: int
    phase: str
    step: int
    weight: int
    reason: str
    message: str


@dataclass(frozen=True)
class Measured:
    """What one metric says; evidence of 1.0 fires."""

    name: str
    verdict: str
    drop: str
    canary: int
    stable: int
    rollback: float
    promote: float
    message: str


@dataclass(frozen=True)
class Rollout:
    """One attempt. `source` and `target` are artifact versions, `from_revision` and `revision` the hashes."""

    name: str
    uid: str
    attempt: int
    source: str
    target: str
    from_revision: str
    revision: str
    fast: bool
    phase: str
    step: int
    weight: int
    reason: str
    message: str
    created_at: float
    weight_effective_at: float | None
    finished_at: float | None
    metrics: Mapping[str, Measured] = field(default_factory=dict)
    entries: tuple[Entry, ...] = ()
    status: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        """Whether the attempt has ended."""
        return self.phase in ENDS

    def find_entry(self, phase: str, step: int | None = None) -> Entry | None:
        """The first line with which a phase (and step) was entered."""
        found = (e for e in self.entries if e.phase == phase and step in {None, e.step})
        return next(found, None)

    def get_entry(self, phase: str, step: int | None = None) -> Entry:
        """The same; AssertionError with the whole record when there is none."""
        entry = self.find_entry(phase, step)
        assert entry is not None, f"{self.name} never entered {phase} {step or ''}: {self.entries}"
        return entry

    def list_phases(self) -> list[str]:
        """The walk: `Stepping 1` and so on, each once."""
        walk: list[str] = []
        for entry in self.entries:
            name = f"Stepping {entry.step}" if entry.phase == "Stepping" else entry.phase
            if name not in walk[-1:]:
                walk.append(name)
        return walk


@dataclass(frozen=True)
class Condition:
    """One condition of a DSPyDeployment."""

    status: str
    reason: str
    message: str


NO_CONDITION = Condition("", "", "")


@dataclass(frozen=True)
class Deployment:
    """A DSPyDeployment. `stable` and `canary` are artifact versions, empty when there is none, `rejected` revisions."""

    phase: str
    message: str
    stable: str
    stable_revision: str
    canary: str
    rollout: str
    weight: int
    ready_replicas: int
    is_current: bool
    rejected: tuple[str, ...]
    conditions: Mapping[str, Condition]
    status: Mapping[str, Any]

    def get(self, condition: str) -> Condition:
        """A condition by its type; an empty one when it is not there yet."""
        return self.conditions.get(condition, NO_CONDITION)

    @property
    def is_healthy(self) -> bool:
        """Ready=True for the spec that is there, and no attempt open."""
        return self.is_current and self.get("Ready").status == "True" and not self.canary

    def __str__(self) -> str:
        """A few lines for a failure."""
        conditions = "; ".join(f"{k}={c.status} {c.reason}" for k, c in self.conditions.items())
        return (
            f"phase {self.phase}, stable {self.stable or '-'}, canary {self.canary or '-'} at {self.weight} %\n"
            f"message: {self.message}\nconditions: {conditions}"
        )


def read_rollout(obj: Object) -> Rollout:
    """A DSPyRollout as a value."""
    spec, status = obj["spec"], obj.get("status", {})
    return Rollout(
        name=obj["metadata"]["name"],
        uid=obj["metadata"]["uid"],
        attempt=spec["attempt"],
        source=spec["from"]["version"],
        target=spec["to"]["version"],
        from_revision=spec["from"]["revision"],
        revision=spec["to"]["revision"],
        fast=spec["fast"],
        phase=status.get("phase", ""),
        step=status.get("step", 0),
        weight=status.get("weight", 0),
        reason=status.get("reason", ""),
        message=status.get("message", ""),
        created_at=parse_time(obj["metadata"]["creationTimestamp"]) or 0.0,
        weight_effective_at=parse_time(status.get("weightEffectiveAt")),
        finished_at=parse_time(status.get("finishedAt")),
        metrics={m["name"]: _read_measured(m) for m in status.get("metrics", [])},
        entries=tuple(_read_entry(e) for e in status.get("decisions", [])),
        status=status,
    )


def _read_entry(entry: Object) -> Entry:
    return Entry(
        at=parse_time(entry["at"]) or 0.0,
        number=entry["number"],
        phase=entry["phase"],
        step=entry["step"],
        weight=entry["weight"],
        reason=entry["reason"],
        message=entry["message"],
    )


def _read_measured(metric: Object) -> Measured:
    samples, evidence = metric.get("samples", {}), metric.get("evidence", {})
    return Measured(
        name=metric["name"],
        verdict=metric["verdict"],
        drop=metric.get("drop", ""),
        canary=samples.get("canary", 0),
        stable=samples.get("stable", 0),
        rollback=float(evidence.get("rollback", 0)),
        promote=float(evidence.get("promote", 0)),
        message=metric.get("message", ""),
    )


def read_deployment(obj: Object) -> Deployment:
    """A DSPyDeployment as a value."""
    status = obj.get("status", {})
    stable, canary = status.get("stable", {}), status.get("canary") or {}
    conditions = {
        c["type"]: Condition(c["status"], c["reason"], c.get("message", ""))
        for c in status.get("conditions", [])
    }
    return Deployment(
        phase=status.get("phase", ""),
        message=status.get("message", ""),
        stable=stable.get("version", ""),
        stable_revision=stable.get("revision", ""),
        canary=canary.get("version", "") or canary.get("revision", ""),
        rollout=canary.get("rollout", ""),
        weight=status.get("weight", 0),
        ready_replicas=status.get("readyReplicas", 0),
        is_current=status.get("observedGeneration") == obj["metadata"]["generation"],
        rejected=tuple(entry["revision"] for entry in status.get("rejected", [])),
        conditions=conditions,
        status=status,
    )
