"""What people must hear of once in a step, however long it lasts: no evidence, none at a deadline, lopsided scores.

Used by the rules of `attempt` while nothing else is decided; what was said is kept in the attempt's record.
"""

from dataclasses import replace

from dspy_operator.api.reasons import Reason
from dspy_operator.rollout.actions import Notice
from dspy_operator.rollout.judging import Action, Verdict
from dspy_operator.rollout.judging import Reason as Rule
from dspy_operator.rollout.model import Observation, Rollout, RolloutRecord, Unmeasured
from dspy_operator.rollout.world import get_measured_now

PATIENCE = 3
"""Intervals at the beginning of a step for which it is usual that there is nothing to see yet."""

_NO_DATA = frozenset({Rule.EVIDENCE_MISSING, Rule.MIN_SAMPLES, Rule.WEIGHT_NOT_EFFECTIVE, Rule.LM_OUTAGE})
"""Why a deadline finds nothing that it could decide on."""


def note_trouble(
    seen: Observation, rollout: Rollout, changed: RolloutRecord
) -> tuple[RolloutRecord, tuple[Notice, ...]]:
    """The record with what is said now, and the Events that say it: each reason once in a step."""
    said = {notice.reason: notice for notice in _list_troubles(seen, rollout, changed.message)}
    news = tuple(notice for reason, notice in said.items() if reason not in changed.noticed)
    return replace(changed, noticed=(*changed.noticed, *(str(notice.reason) for notice in news))), news


def _list_troubles(seen: Observation, rollout: Rollout, message: str) -> list[Notice]:
    troubles = []
    if _is_blind(seen, rollout):
        troubles.append(Notice(Reason.EVIDENCE_MISSING, message, warning=True))
    judged = seen.judging.verdict.metrics if seen.judging.verdict else ()
    lopsided = "; ".join(f"{metric.name}: {metric.coverage}" for metric in judged if metric.coverage)
    if lopsided:
        troubles.append(Notice(Reason.SCORE_COVERAGE, lopsided, warning=True))
    verdict = _find_verdict(seen)
    if verdict is not None and verdict.deadline_passed and _is_undecided(verdict):
        step = f"The deadline of step {rollout.record.step} passed without data to decide on"
        troubles.append(Notice(Reason.DEADLINE_NO_DATA, f"{step}: {message}", warning=True))
    return troubles


def _is_blind(seen: Observation, rollout: Rollout) -> bool:
    record, judging = rollout.record, seen.judging
    if record.effective_at is None:
        lasts = seen.now - (record.started_at or seen.now)
    else:
        lasts = get_measured_now(seen) - record.effective_at
    if lasts < PATIENCE * rollout.plan.config.interval:
        return False
    if record.effective_at is None:
        return judging.analysis is None
    if judging.verdict is not None:
        return judging.verdict.reason is Rule.EVIDENCE_MISSING
    return isinstance(judging.look, Unmeasured)


def _find_verdict(seen: Observation) -> Verdict | None:
    """Of the look; without one what the deadline's clock says."""
    judging = seen.judging
    if judging.verdict is None and judging.analysis is not None and isinstance(judging.look, Unmeasured):
        return judging.analysis.judge_blind(get_measured_now(seen))
    return judging.verdict


def _is_undecided(verdict: Verdict) -> bool:
    return verdict.action is Action.HOLD and verdict.reason in _NO_DATA
