"""The test of the attempt that is open in a `World`, and the looks that it takes at the scores of its pods.

Used by `World.observe`, as `reconcile/looks.py` is by the real one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.unit.operator.rollout.plans import INTERVAL

from dspy_operator.rollout.analysis import Analysis
from dspy_operator.rollout.judging import Counts, Look, Reference
from dspy_operator.rollout.look import JUDGED
from dspy_operator.rollout.model import Judging, Program, Rollout, Unmeasured

if TYPE_CHECKING:
    from tests.unit.operator.rollout.world import World

REFERENCE = {"score": Reference(mean=0.8, variance=0.16)}


def prepare_test(world: World, rollout: Rollout | None) -> None:
    uid = rollout.uid if rollout else ""
    if uid != world.test_of:
        world.test, world.test_of = None, uid
    if rollout is None or rollout.fast or not rollout.known:
        return
    world.test = world.test or rollout.record.analysis
    if world.test is None and world.prometheus and world.has_reference:
        world.test = Analysis.start(rollout.plan.config, REFERENCE, world.now + world.skew)


def build_judging(world: World, rollout: Rollout | None) -> Judging:
    test = world.test
    if rollout is None or test is None or rollout.fast or rollout.record.phase not in JUDGED:
        return Judging(test if rollout else None)
    if rollout.record.effective_at is None:
        return Judging(test)
    if not world.prometheus:
        return Judging(test, Unmeasured("PrometheusUnreachable", "Prometheus does not answer"))
    passed = world.now + world.skew - test.state.clock.last
    return Judging(test, _build_look(world, rollout, passed)) if passed >= INTERVAL else Judging(test)


def _build_look(world: World, rollout: Rollout, seconds: float) -> Look:
    weight = world.table.split.weight / 100 if world.table else 0.0
    count = world.requests * seconds
    answers = (count * weight, count * (1 - weight))
    arms = (
        _count_scores(world, rollout.to, answers[0]),
        _count_scores(world, rollout.origin, answers[1]),
    )
    settled, metrics = world.build_confirmation().at is not None, {"score": arms}
    return Look(world.now + world.skew, settled, metrics, successes=answers, share=weight % 1)


def _count_scores(world: World, program: Program, n: float) -> Counts:
    mean = world.scores.get(program.revision, 0.8)
    n *= world.coverage.get(program.revision, 1.0)
    return Counts(n, n * mean, n * mean)
