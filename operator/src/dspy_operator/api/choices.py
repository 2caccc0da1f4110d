"""The words that a user chooses among in `spec.strategy` and that the judge understands: enums and nothing else.

Imported by the models here and by `rollout/judging`, which needs no more than the standard library: keep it so.
"""

from enum import StrEnum


class MetricType(StrEnum):
    """What a metric measures: `metrics[].type`."""

    SCORE = "Score"
    LATENCY_P95 = "LatencyP95"
    ERROR_RATE = "ErrorRate"
    RATIO = "Ratio"
    COST_PER_REQUEST = "CostPerRequest"


class Mode(StrEnum):
    """What decides at a look: evidence, or the literal rule."""

    EVIDENCE = "Evidence"
    THRESHOLD = "Threshold"


class OnDeadline(StrEnum):
    """What ends a step that is still undecided at its deadline."""

    THRESHOLD = "Threshold"
    HOLD = "Hold"
    PROMOTE = "Promote"
    ROLLBACK = "Rollback"


class OnMissing(StrEnum):
    """What a metric without one sample in the step does to the gate."""

    HOLD = "Hold"
    SKIP = "Skip"


class Router(StrEnum):
    """What splits the traffic between pods of two workloads."""

    GATEWAY = "Gateway"
    REPLICAS = "Replicas"


class Approximation(StrEnum):
    """What happens if replica counts cannot come near the weight."""

    REFUSE = "Refuse"
    ALLOW = "Allow"


class Approval(StrEnum):
    """Whether a person must open the gate of a step."""

    AUTO = "Auto"
    MANUAL = "Manual"
