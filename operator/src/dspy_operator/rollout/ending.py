"""The ends of an attempt: rolling back, closing, and what is left of one whose record was lost.

A rollback is recorded first and needs nothing: no metric, no readiness, no confirmation.
"""

from collections.abc import Iterable
from dataclasses import replace

from dspy_operator.api.names import Command
from dspy_operator.api.reasons import Reason
from dspy_operator.rollout.actions import Decision, Notice, SetSplit
from dspy_operator.rollout.clock import format_time
from dspy_operator.rollout.model import (
    ENDS,
    DeploymentRecord,
    Entry,
    Observation,
    Order,
    Phase,
    Rejected,
    Rollout,
    RolloutRecord,
    Stable,
)
from dspy_operator.rollout.orders import build_handled, merge_handled
from dspy_operator.rollout.world import LOWERED, REFRESH_WAIT, find_wanted_split

ENTRIES = 40
"""Lines of history kept in an attempt's record."""

_NOTICES = {
    Phase.PROMOTED: Reason.PROMOTED,
    Phase.ROLLED_BACK: Reason.ROLLED_BACK,
    Phase.ABORTED: Reason.ABORTED,
}


def get_rollout(seen: Observation) -> Rollout:
    """The open attempt.

    Raises:
        AssertionError: a rule for open attempts was asked without one.
    """
    if seen.rollout is None:
        raise AssertionError("this rule needs an open attempt")
    return seen.rollout


def build_next(seen: Observation, rollout: Rollout, changed: RolloutRecord) -> RolloutRecord:
    """The changed record as the next decision: numbered, and with a line in its history."""
    number = rollout.record.number + 1
    entry = Entry(
        seen.now,
        number,
        changed.phase,
        changed.step,
        changed.weight,
        str(changed.reason),
        changed.message[:300],
    )
    return replace(changed, number=number, entries=(*rollout.record.entries, entry)[-ENTRIES:])


def build_roll_back(
    seen: Observation, outcome: Phase, reason: Reason | str, message: str, orders: Iterable[Order] = ()
) -> Decision:
    """Record RollingBack with its outcome and send everything to stable in the same pass."""
    rollout = get_rollout(seen)
    changed = replace(
        rollout.record,
        phase=Phase.ROLLING_BACK,
        outcome=outcome,
        reason=reason,
        message=message,
        weight=0,
        awaiting=False,
        handled=build_handled(rollout.record.handled, orders),
        analysis=seen.judging.analysis or rollout.record.analysis,
    )
    record = build_next(seen, rollout, changed)
    split = find_wanted_split(replace(seen, rollout=replace(rollout, record=record)))
    action = SetSplit(split, rollout.name, record.number) if split else None
    return Decision(
        reason,
        message,
        rollout=record,
        action=action,
        wait=0,
        analysis=record.analysis,
        verdict=seen.judging.verdict,
    )


def the_record_is_lost(seen: Observation) -> Decision | None:
    """The pointer names an attempt that is gone, or whose record is older than the table that it caused."""
    pointer, rollout = seen.record.pointer, seen.rollout
    if pointer is None:
        return None
    message = f"The record of attempt {pointer.rollout} was lost: everything goes back to stable"
    if rollout is not None:
        if not rollout.known or not (_is_table_ahead(seen, rollout) or _is_forged(rollout.record)):
            return None
        return build_roll_back(seen, Phase.ABORTED, Reason.RECORD_LOST, message)
    split = find_wanted_split(seen)
    if split and seen.table and seen.table.split != split:
        return Decision(Reason.RECORD_LOST, message, action=SetSplit(split, "", 0), wait=REFRESH_WAIT)
    handled = build_handled(seen.record.handled, _list_spent(seen, Phase.ABORTED))
    record = replace(seen.record, pointer=None, handled=handled)
    record = _reject(seen, record, pointer.revision, Reason.RECORD_LOST, message)
    return Decision(
        Reason.RECORD_LOST,
        message,
        deployment=record,
        wait=0,
        notices=(Notice(Reason.RECORD_LOST, message, warning=True),),
    )


def _is_table_ahead(seen: Observation, rollout: Rollout) -> bool:
    """Whether the table carries out a decision that the record does not know: it was wiped or restored."""
    table, record = seen.table, rollout.record
    if table is None or record.phase in LOWERED:
        return False
    return table.rollout == rollout.name and table.number > record.number


def _is_forged(record: RolloutRecord) -> bool:
    """Whether the record is not what its own last line of history says: somebody edited the status."""
    if not record.entries:
        return (record.phase, record.step, record.weight, record.number) != (Phase.PREPARING, 0, 0, 0)
    last = record.entries[-1]
    said = (last.number, last.phase, last.step, last.weight)
    return said != (record.number, record.phase, record.step, record.weight)


def the_phase_is_unknown(seen: Observation) -> Decision | None:
    """Another version of the operator wrote this record: hold, touch nothing."""
    rollout = get_rollout(seen)
    if rollout.known:
        return None
    return Decision(
        Reason.ROLLOUT_IN_PROGRESS,
        f"Attempt {rollout.name} was written by another version of the operator: holding until that one runs again",
    )


def it_is_rolling_back(seen: Observation) -> Decision | None:
    """Once the table gives the canary nothing, the attempt ends; confirmation is not waited for."""
    rollout = get_rollout(seen)
    record = rollout.record
    if record.phase is not Phase.ROLLING_BACK:
        return None
    split = find_wanted_split(seen)
    if split and not (seen.table and seen.table.intact and seen.table.split == split):
        action = SetSplit(split, rollout.name, record.number)
        return Decision(record.reason, record.message, action=action, wait=0)
    outcome = record.outcome if record.outcome in LOWERED & ENDS else None
    ended = build_next(seen, rollout, replace(record, phase=outcome or Phase.ABORTED))
    return Decision(record.reason, record.message, rollout=ended, wait=0)


def the_attempt_is_over(seen: Observation) -> Decision | None:
    """Close: the deployment's record takes over the outcome, in one write."""
    rollout = get_rollout(seen)
    if not rollout.record.phase.is_end:
        return None
    record = _close(seen, rollout)
    superseded = rollout.record.phase is Phase.SUPERSEDED
    notice = Notice(
        rollout.record.reason if superseded else _NOTICES[rollout.record.phase],
        rollout.record.message,
        warning=rollout.record.phase is Phase.ROLLED_BACK,
    )
    return Decision(
        rollout.record.reason, rollout.record.message, deployment=record, notices=(notice,), wait=0
    )


def _close(seen: Observation, rollout: Rollout) -> DeploymentRecord:
    source = seen.record.pointer.source if seen.record.pointer else rollout.to.revision
    handled = merge_handled(seen.record.handled, rollout.record.handled)
    spent = _list_spent(seen, rollout.record.phase)
    record = replace(seen.record, pointer=None, handled=build_handled(handled, spent))
    match rollout.record.phase:
        case Phase.PROMOTED:
            to = rollout.to
            stable = Stable(to.revision, to.sha256, format_time(seen.now), to.workload)
            record = replace(record, stable=stable, rejected=())
            if source != rollout.to.revision:
                message = f"Undone by a person: back to revision {rollout.to.revision}"
                return _reject(seen, record, source, Reason.UNDONE, message)
            return record
        case Phase.ROLLED_BACK | Phase.ABORTED:
            return _reject(seen, record, rollout.to.revision, rollout.record.reason, rollout.record.message)
        case _:
            return record


def _list_spent(seen: Observation, phase: Phase) -> list[Order]:
    """Orders that were given to the attempt and came too late; an `undo` after a promotion is for what follows."""
    spent = {Command.PROMOTE, Command.PROMOTE_FULL, Command.ABORT}
    if phase is not Phase.PROMOTED:
        spent.add(Command.UNDO)
    return [order for order in seen.orders if order.command in spent]


def _reject(
    seen: Observation, record: DeploymentRecord, revision: str, reason: Reason | str, message: str
) -> DeploymentRecord:
    """The record with the revision among the rejected ones, the newest last."""
    others = tuple(entry for entry in record.rejected if entry.revision != revision)
    entry = build_rejected(seen, revision, reason, message, seen.now)
    return replace(record, rejected=(*others, entry)[-_REJECTED:])


def build_rejected(
    seen: Observation, revision: str, reason: Reason | str, message: str, at: float
) -> Rejected:
    """One rejected revision; its digest where it is still known."""
    known = seen.revisions.get(revision) or (seen.rollout.to if seen.rollout else None)
    sha256 = known.sha256 if known and known.revision == revision else ""
    return Rejected(revision, str(reason), format_time(at), sha256, message[:_LONGEST_MESSAGE])


_REJECTED = 20
_LONGEST_MESSAGE = 300
