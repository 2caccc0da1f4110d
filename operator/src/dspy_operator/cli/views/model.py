"""What a screen shows, as frozen dataclasses; `build.py` fills them, `render` draws them.

Weights are percent, times epoch seconds, evidence 0 to 1 and above (1.0 fires).
"""

from dataclasses import dataclass, field
from enum import StrEnum

from dspy_operator.api.names import Track


class Health(StrEnum):
    """What a pipeline wants to know, as kstatus and Argo CD would say it."""

    HEALTHY = "Healthy"
    IN_PROGRESS = "InProgress"
    DEGRADED = "Degraded"


class StepState(StrEnum):
    """Where a rollout is with one of its steps."""

    DONE = "done"
    CURRENT = "current"
    AHEAD = "ahead"
    FAILED = "failed"


@dataclass(frozen=True)
class Step:
    """One position of the strategy; `gate` says what opens it, such as `24h, 100 samples, until 72h`."""

    number: int
    weight: int
    state: StepState
    gate: str = ""


@dataclass(frozen=True)
class Metric:
    """One measurement: its rule, its numbers and how close each answer is; a positive `drop` is worse."""

    name: str
    verdict: str = ""
    rule: str = ""
    drop: str = ""
    canary_samples: int | None = None
    stable_samples: int | None = None
    samples_needed: int | None = None
    rollback: float | None = None
    promote: float | None = None
    message: str = ""


@dataclass(frozen=True)
class Decision:
    """What the operator does now, and why."""

    action: str
    reason: str = ""
    message: str = ""
    at: float | None = None


@dataclass(frozen=True)
class Change:
    """One recorded change of phase, step or weight."""

    phase: str
    step: int
    weight: int
    reason: str = ""
    message: str = ""
    at: float | None = None


@dataclass(frozen=True)
class Rollout:
    """One attempt, open or over."""

    name: str
    phase: str
    is_open: bool
    attempt: int = 1
    from_version: str = ""
    to_version: str = ""
    from_revision: str = ""
    to_revision: str = ""
    step: int = 0
    weight: int = 0
    mode: str = ""
    confidence: str = ""
    steps: tuple[Step, ...] = ()
    metrics: tuple[Metric, ...] = ()
    decision: Decision | None = None
    changes: tuple[Change, ...] = ()
    reason: str = ""
    message: str = ""
    score: str = ""
    p95: str = ""
    started_at: float | None = None
    step_started_at: float | None = None
    effective_at: float | None = None
    ended_at: float | None = None


@dataclass(frozen=True)
class Arm:
    """Stable or canary: which program, and its share; `workload`: the pods of its own that it answers from."""

    track: Track
    revision: str
    version: str
    weight: int
    since: float | None = None
    workload: str = ""


@dataclass(frozen=True)
class Pod:
    """One serving pod."""

    name: str
    workload: str
    is_ready: bool
    restarts: int = 0
    started_at: float | None = None


@dataclass(frozen=True)
class Condition:
    """One condition of the DSPyDeployment."""

    type: str
    status: str
    reason: str = ""
    message: str = ""


@dataclass(frozen=True)
class Deployment:
    """A DSPyDeployment as a person sees it."""

    namespace: str
    name: str
    health: Health
    phase: str
    message: str
    ready: str = ""
    reason: str = ""
    weight: int = 0
    step: int | None = None
    steps: int | None = None
    score: str = ""
    paused_by_spec: bool = False
    created_at: float | None = None
    stable: Arm | None = None
    canary: Arm | None = None
    rollout: Rollout | None = None
    pods: tuple[Pod, ...] = ()
    conditions: tuple[Condition, ...] = field(default=())
