"""The sequential test that judges a canary: looks in, verdicts out, nothing else.

`start`, `enter_step`, `judge`, `enter_bake` and `resume` are the walk; `record` keeps it for replay.
"""

from dspy_operator.rollout.judging.config import (
    UNKNOWN_REFERENCE,
    Approval,
    MetricConfig,
    MetricType,
    Mode,
    OnDeadline,
    OnMissing,
    Reference,
    RolloutConfig,
    StepConfig,
)
from dspy_operator.rollout.judging.latency import LatencyLimits, find_p95
from dspy_operator.rollout.judging.looks import Counts, Look
from dspy_operator.rollout.judging.sequence import (
    build_judged,
    enter_bake,
    enter_step,
    judge,
    judge_blind,
    resume,
    start,
)
from dspy_operator.rollout.judging.state import State
from dspy_operator.rollout.judging.verdicts import Action, MetricAnswer, MetricVerdict, Reason, Verdict

__all__ = [
    "UNKNOWN_REFERENCE",
    "Action",
    "Approval",
    "Counts",
    "LatencyLimits",
    "Look",
    "MetricAnswer",
    "MetricConfig",
    "MetricType",
    "MetricVerdict",
    "Mode",
    "OnDeadline",
    "OnMissing",
    "Reason",
    "Reference",
    "RolloutConfig",
    "State",
    "StepConfig",
    "Verdict",
    "build_judged",
    "enter_bake",
    "enter_step",
    "find_p95",
    "judge",
    "judge_blind",
    "resume",
    "start",
]
