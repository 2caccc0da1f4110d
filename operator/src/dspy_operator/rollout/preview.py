"""Blue-green: the whole canary can be tried at weight 0; then all traffic goes to it at once, and the bake watches."""

from dataclasses import replace

from dspy_operator.api.reasons import Reason
from dspy_operator.rollout.actions import Decision, Notice
from dspy_operator.rollout.attempt import build_advance, build_loading, is_in_effect
from dspy_operator.rollout.clock import format_time
from dspy_operator.rollout.ending import get_rollout
from dspy_operator.rollout.model import Observation
from dspy_operator.rollout.world import is_canary_ready


def the_preview_is_over(seen: Observation) -> Decision | None:
    """Blue-green: after its time, or a person's word, everything is sent at once. A pause begins the time anew."""
    rollout = get_rollout(seen)
    preview, record = rollout.plan.preview, rollout.record
    if preview is None or not rollout.is_previewed:
        return None
    if not is_in_effect(seen) or not is_canary_ready(seen):
        return build_loading(seen)
    over = (record.started_at or seen.now) + preview.duration
    if seen.now < over:
        message = f"The preview can be tried until {format_time(over)}; no user is sent there"
        return Decision(Reason.PREVIEWING, message, wait=min(30.0, over - seen.now))
    if preview.auto_promote:
        return build_advance(seen, 1, "The preview is over")
    message = "The preview is over and waits for `promote`"
    if record.awaiting:
        return Decision(Reason.AWAITING_PROMOTION, message)
    notice = Notice(Reason.AWAITING_PROMOTION, message)
    changed = replace(record, awaiting=True, reason=Reason.AWAITING_PROMOTION, message=message)
    return Decision(Reason.AWAITING_PROMOTION, message, rollout=changed, notices=(notice,), wait=0)
