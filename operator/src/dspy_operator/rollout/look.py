"""The judge's part of a pass: what this look says, before the rules run."""

from dataclasses import replace

from dspy_operator.rollout.judging import Action
from dspy_operator.rollout.model import Judging, Observation, Phase, Unmeasured
from dspy_operator.rollout.world import get_measured_now

JUDGED = frozenset({Phase.STEPPING, Phase.PROMOTING, Phase.BAKING})
"""Phases whose looks count once the weight is in effect in every pod.

Promoting has such a time only while a person holds it at 100 %; else that instant begins the bake. Before it there is
nothing to judge: the table changes in the pass that records Promoting, or waits for a pod that has not loaded the
canary, and either way the split is not the same in every pod, so that the look is unsettled.
"""


def take_look(seen: Observation) -> Judging:
    """Judge the look of this pass; without one only a deadline's Promote or Rollback can speak.

    A step whose weight is not in effect yet is not judged, and neither is a fast attempt.
    """
    rollout, judging = seen.rollout, seen.judging
    if rollout is None or rollout.fast or not rollout.known or rollout.record.phase not in JUDGED:
        return judging
    if rollout.record.effective_at is None or judging.analysis is None or judging.look is None:
        return judging
    if isinstance(judging.look, Unmeasured):
        verdict = judging.analysis.judge_blind(get_measured_now(seen))
        return judging if verdict.action is Action.HOLD else replace(judging, verdict=verdict)
    analysis, verdict = judging.analysis.judge(judging.look)
    return replace(judging, analysis=analysis, verdict=verdict)
