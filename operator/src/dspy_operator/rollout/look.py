"""The judge's part of a pass: what this look says, before the rules run."""

from dataclasses import replace

from dspy_operator.rollout.judging import Action
from dspy_operator.rollout.model import Judging, Observation, Phase, Unmeasured

_JUDGED = frozenset({Phase.STEPPING, Phase.BAKING})


def take_look(seen: Observation) -> Judging:
    """Judge the look of this pass; without one only a deadline's Promote or Rollback can speak.

    A step whose weight is not in effect yet is not judged, and neither is a fast attempt.
    """
    rollout, judging = seen.rollout, seen.judging
    if rollout is None or rollout.fast or not rollout.known or rollout.record.phase not in _JUDGED:
        return judging
    if rollout.record.effective_at is None or judging.analysis is None or judging.look is None:
        return judging
    if isinstance(judging.look, Unmeasured):
        verdict = judging.analysis.judge_blind(seen.now)
        return judging if verdict.action is Action.HOLD else replace(judging, verdict=verdict)
    analysis, verdict = judging.analysis.judge(judging.look)
    return replace(judging, analysis=analysis, verdict=verdict)
