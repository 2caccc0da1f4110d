"""What is known of the bytes that the spec names, of the pods, of the programs in them (C), and of the gate.

A part of the observation in `model.py`; built by `reconcile/pods.py`, `gates.py` and `observe.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from dspy_operator.api.reasons import Reason


class ArtifactState(StrEnum):
    """What is known of the bytes that the spec names."""

    READY = "Ready"
    MISSING = "Missing"
    MISMATCH = "Mismatch"


class LoadState(StrEnum):
    """What the serving pods make of the canary's program."""

    UNKNOWN = "Unknown"
    LOADING = "Loading"
    LOADED = "Loaded"
    REFUSED = "Refused"


@dataclass(frozen=True)
class Load:
    """The state of one program over all ready pods; `message` when it is refused, or its bytes are waited for."""

    state: LoadState = LoadState.UNKNOWN
    reason: Reason = Reason.PREPARING
    message: str = ""


class GateState(StrEnum):
    """What is known of the Job of the regression gate."""

    ABSENT = "Absent"
    RUNNING = "Running"
    PASSED = "Passed"
    FAILED = "Failed"
    NO_VERDICT = "NoVerdict"


@dataclass(frozen=True)
class Gate:
    """The Job of this attempt, or of the first revision.

    `job` is its name while it is there; `ended_at` in seconds. `left` are Jobs that still run for something else.
    """

    state: GateState = GateState.ABSENT
    job: str = ""
    message: str = ""
    ended_at: float | None = None
    left: tuple[str, ...] = ()


@dataclass(frozen=True)
class Own:
    """The canary's own pods, where it does not share stable's.

    `ready`: those that are Ready; `reachable`: those of them that traffic would reach, 0 while the gateway or the
    Service has not taken notice of them. `is_coming_up`: they were scaled to none and none is Ready yet. `denied`: why
    the API server lets no more be made, `message`: what they wait for, both for people.
    """

    ready: int = 0
    reachable: int = 0
    is_coming_up: bool = False
    denied: str = ""
    message: str = ""

    @property
    def is_waited_for(self) -> bool:
        """Whether pods are there and only time, or what routes to them, is missing: no watch tells of time."""
        return self.reachable < self.ready


@dataclass(frozen=True)
class Capacity:
    """Pods of stable's workload, and programs.

    `slots[i]`: digest of the bytes in slot i, or empty. `archived`: digests with a copy that cannot change,
    `available`: those whose bytes can be had. `drifted`: children that are missing or differ, `leaving`: workloads that
    still have pods although stable lives in others, `denied`: why the API server lets no pod of
    stable be made, in its words. `own`: the pods of a canary that has its own. `down_for`: seconds for which no pod of
    stable has been ready, as long as this process knows.
    """

    ready_pods: int = 0
    desired_pods: int = 0
    slots: tuple[str, ...] = ("", "", "")
    archived: frozenset[str] = frozenset()
    available: frozenset[str] = frozenset()
    drifted: tuple[str, ...] = ()
    leaving: tuple[str, ...] = ()
    denied: str = ""
    own: Own = Own()
    down_for: float = 0.0
    loads: Mapping[str, Load] = field(default_factory=dict)
