"""The sequential test that judges a canary: looks in, verdicts out, nothing else.

`start`, `enter_step`, `judge`, `enter_bake` and `resume` are the walk; `record` keeps it for replay.
"""

from dspy_operator.api.choices import Approval, MetricType, Mode, OnDeadline, OnMissing
from dspy_operator.rollout.judging.config import (
    UNKNOWN_REFERENCE,
    MetricConfig,
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
