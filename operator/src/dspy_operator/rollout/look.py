"""The judge's part of a pass: what this look says, before the rules run."""

from dataclasses import replace

from dspy_operator.rollout.judging import Action
from dspy_operator.rollout.model import Judging, Observation, Phase, Rollout, Unmeasured
from dspy_operator.rollout.world import get_measured_now

JUDGED = frozenset({Phase.STEPPING, Phase.PROMOTING, Phase.BAKING})
"""Phases whose looks count once the weight is in effect in every pod.

Promoting has such a time only while a person holds it at 100 %; else that instant begins the bake. Before it there is
nothing to judge: the table changes in the pass that records Promoting, or waits for a pod that has not loaded the
canary, and either way the split is not the same in every pod, so that the look is unsettled.
"""


def is_judged(rollout: Rollout) -> bool:
    """Whether looks at this attempt count now: its weight is in effect, and it is not a fast one."""
    record = rollout.record
    return not rollout.fast and record.phase in JUDGED and record.effective_at is not None


def take_look(seen: Observation) -> Judging:
    """Judge the look of this pass; without one only a deadline's Promote or Rollback can speak.

    A step whose weight is not in effect yet is not judged, and neither is a fast attempt.
    """
    rollout, judging = seen.rollout, seen.judging
    if rollout is None or not rollout.known or not is_judged(rollout):
        return judging
    if judging.analysis is None or judging.look is None:
        return judging
    if isinstance(judging.look, Unmeasured):
        verdict = judging.analysis.judge_blind(get_measured_now(seen))
        return judging if verdict.action is Action.HOLD else replace(judging, verdict=verdict)
    analysis, verdict = judging.analysis.judge(judging.look)
    return replace(judging, analysis=analysis, verdict=verdict)
