"""Which part of the requests a canary should get: what splits requests gives its weight, numbers of pods do not."""

import pytest
from tests.unit.operator.reconcile.objects import KEY, NOW
from tests.unit.operator.rollout.plans import build_plan

from dspy_operator.api.choices import Router
from dspy_operator.metrics.readings import Reading
from dspy_operator.reconcile.looks import build_look_plan
from dspy_operator.reconcile.memory import Memory
from dspy_operator.rollout.analysis import Analysis
from dspy_operator.rollout.model import Program, Rollout, RolloutRecord, Share, Split, Table
from dspy_operator.rollout.strategy import Routing

STABLE = Program("a", "w1", "a" * 64, "m:M")


@pytest.mark.parametrize(
    ("workload", "routing", "expected"),
    [
        ("w1", None, 0.1),
        ("w2", Routing(Router.GATEWAY), 0.1),
        ("w2", Routing(Router.REPLICAS), 0.0),
    ],
)
def test_numbers_of_pods_promise_no_part_of_the_requests(
    workload: str, routing: Routing | None, expected: float
) -> None:
    canary = Program("b", workload, "b" * 64, "m:M")
    plan = build_plan(routing=routing)
    rollout = Rollout(
        "r", "uid", STABLE, canary, fast=False, plan=plan, record=RolloutRecord(), created_at=NOW
    )
    table = Table(Split(Share(STABLE, 0, 90), Share(canary, 1, 10)), 12, "r", 1, 1)
    analysis = Analysis.start(plan.config, {}, NOW)
    built = build_look_plan(rollout, analysis, table, Reading(NOW, {}), KEY, Memory())
    assert built.share == expected
