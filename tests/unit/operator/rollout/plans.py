"""Programs and strategies of the stories."""

from dspy_operator.rollout.judging import (
    Approval,
    MetricConfig,
    MetricType,
    Mode,
    OnDeadline,
    RolloutConfig,
    StepConfig,
)
from dspy_operator.rollout.model import Plan, Program
from dspy_operator.rollout.strategy import Preview, Routing

INTERVAL = 10.0
"""Seconds between looks."""
SCORE = MetricConfig("score", MetricType.SCORE, margin=0.05, min_samples=50)


def build_program(letter: str, workload: str = "w1") -> Program:
    """Program `b` of workload `w1` is revision `b`, of workload `w2` revision `b-w2`; its digest is `bbb…`."""
    revision = letter if workload == "w1" else f"{letter}-{workload}"
    return Program(revision, workload, letter * 64, "triage:Triage")


def build_plan(
    *,
    mode: Mode = Mode.EVIDENCE,
    on_deadline: OnDeadline = OnDeadline.THRESHOLD,
    manual: tuple[bool, ...] = (False, False, False),
    weights: tuple[int, ...] = (10, 50, 100),
    bake: float = 60.0,
    ready_deadline: float = 600.0,
    gate_deadline: float | None = None,
    routing: Routing | None = None,
    preview: Preview | None = None,
) -> Plan:
    """10 %, 50 %, 100 %, each at least 60 s and at most an hour."""
    steps = tuple(
        StepConfig(weight, 60.0, 0, 3600.0, Approval.MANUAL if waits else Approval.AUTO)
        for weight, waits in zip(weights, manual, strict=True)
    )
    config = RolloutConfig(steps, (SCORE,), interval=INTERVAL, mode=mode, on_deadline=on_deadline, bake=bake)
    return Plan(
        weights,
        manual,
        bake,
        ready_deadline,
        config,
        gate_deadline=gate_deadline,
        routing=routing or Routing(),
        preview=preview,
    )
