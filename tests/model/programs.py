"""Programs and the strategy of the checked attempts: a few revisions of three workloads, steps of 10, 50 and 100 %.

One letter names a revision everywhere in the model; its digest is the letter 64 times. `x` and `y` run on workload w2,
`z` on w3, all others on w1.
"""

from dataclasses import dataclass
from functools import cache

from dspy_operator.api.choices import Approximation, Router
from dspy_operator.rollout.judging import Approval, MetricConfig, MetricType, RolloutConfig, StepConfig
from dspy_operator.rollout.model import Plan, Program
from dspy_operator.rollout.strategy import Preview, Routing

NOW = 1_800_000_000.0
"""The only time that the model knows, seconds since 1970; what is over is decided by the environment."""
LATE = NOW + 86_400.0
"""A time at which every deadline, every bake and every preview is over."""
WEIGHTS = (10, 50, 100)
NAME = "triage"
REPLICAS = 2
"""Pods of a workload in full: one is enough for a canary of 10 and of 50 %, both are needed at 100 %."""

_WORKLOADS = {"x": "w2", "y": "w2", "z": "w3"}


@dataclass(frozen=True)
class Means:
    """What moves the traffic of a canary with pods of its own in one check; `router` None: there is no such canary.

    `isolated`: `traffic.isolation: Pod`; `preview`: attempts are blue-green.
    """

    router: Router | None = None
    isolated: bool = False
    preview: bool = False


SHARED = Means()
"""All canaries share stable's pods."""


@cache
def build_program(letter: str, workload: str = "") -> Program:
    """Revision `b` holds the bytes `bbb…`; `workload`: the pods that it was placed in."""
    return Program(letter, workload or _WORKLOADS.get(letter, "w1"), letter * 64, "triage:Triage")


@cache
def build_plan(means: Means = SHARED) -> Plan:
    """The same steps for every attempt; the judge is an oracle, so its numbers do not matter."""
    weights = WEIGHTS[-1:] if means.preview else WEIGHTS
    steps = tuple(StepConfig(weight, 60.0, 0, 3600.0, Approval.AUTO) for weight in weights)
    metric = MetricConfig("score", MetricType.SCORE, margin=0.05, min_samples=50)
    config = RolloutConfig(steps, (metric,), interval=10.0, bake=60.0)
    return Plan(
        weights,
        (False,) * len(weights),
        60.0,
        600.0,
        config,
        routing=Routing(means.router or Router.REPLICAS, approximation=Approximation.ALLOW),
        preview=Preview(60.0) if means.preview else None,
    )
