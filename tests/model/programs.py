"""Programs and the strategy of the checked attempts: three revisions of one workload, steps of 10, 50 and 100 %.

One letter names a revision everywhere in the model; its digest is the letter 64 times.
"""

from functools import cache

from dspy_operator.rollout.judging import Approval, MetricConfig, MetricType, RolloutConfig, StepConfig
from dspy_operator.rollout.model import Plan, Program

NOW = 1_800_000_000.0
"""The only time that the model knows, seconds since 1970; what is over is decided by the environment."""
LATE = NOW + 86_400.0
"""A time at which every deadline and every bake is over."""
WEIGHTS = (10, 50, 100)
NAME = "triage"


@cache
def build_program(letter: str) -> Program:
    """Revision `b` holds the bytes `bbb…`."""
    return Program(letter, "w1", letter * 64, "triage:Triage")


@cache
def build_plan(weights: tuple[int, ...] = WEIGHTS) -> Plan:
    """The same steps for every attempt; the judge is an oracle, so its numbers do not matter."""
    steps = tuple(StepConfig(weight, 60.0, 0, 3600.0, Approval.AUTO) for weight in weights)
    metric = MetricConfig("score", MetricType.SCORE, margin=0.05, min_samples=50)
    config = RolloutConfig(steps, (metric,), interval=10.0, bake=60.0)
    return Plan(weights, (False,) * len(weights), 60.0, 600.0, config)
