"""The safety rules of the rollout protocol: over one decision, over one write, over one state.

Each returns the broken rule and a sentence, or None. The numbers are those of docs/reliability.md.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

from tests.model.cluster import Cluster, Given
from tests.model.effects import ChangeKept, Fill, Write, WriteD, WriteR, WriteT
from tests.model.programs import WEIGHTS

from dspy_operator.api.names import Command
from dspy_operator.rollout.judging import Reason
from dspy_operator.rollout.model import (
    DeploymentRecord,
    Handled,
    Phase,
    Split,
)

FORWARD = frozenset({Phase.STEPPING, Phase.PROMOTING, Phase.BAKING, Phase.PROMOTED})
JUDGED = frozenset({Phase.STEPPING, Phase.BAKING})
LOSING = frozenset({Phase.ROLLED_BACK, Phase.ABORTED, Phase.SUPERSEDED})
DEADLINES = frozenset({Reason.DEADLINE_PROMOTE, Reason.DEADLINE_ROLLBACK})
PROMOTING = frozenset({Command.PROMOTE, Command.PROMOTE_FULL})
ACTING = PROMOTING | {Command.ABORT, Command.UNDO}
FULL = 100

Broken = str | None


def find_weight(split: Split, revision: str) -> int:
    return next((share.weight for share in split.shares if share.program.revision == revision), 0)


# --- one write ---------------------------------------------------------------------------------------------


def the_table_is_whole(_: Cluster, write: Write, after: Cluster) -> Broken:
    """S1: at most two revisions, shares sum to 100, the weight is one of the plan's."""
    if not isinstance(write.change, WriteT) or after.table is None:
        return None
    split = after.table.split
    slots = {share.slot for share in split.shares}
    if sum(share.weight for share in split.shares) != FULL or len(slots) != len(split.shares):
        return "S1: the shares do not sum to 100, or two are in one slot"
    if split.weight not in {0, FULL, *WEIGHTS}:
        return f"S1: weight {split.weight} is no step"
    return None


def a_raise_follows_the_record(before: Cluster, write: Write, after: Cluster) -> Broken:
    """S4, S5, S7: share rises for the open attempt only, up to its record, never once it was lowered or rejected."""
    table = after.table
    canary = table.split.canary if table and isinstance(write.change, WriteT) else None
    old = before.table.split.canary if before.table else None
    if canary is None or canary.weight <= (old.weight if old and old.program == canary.program else 0):
        return None
    letter, pointer = canary.program.revision, before.record.pointer
    uid, weight = before.ghost.granted
    if pointer is None or pointer.revision != letter or pointer.rollout_uid != uid:
        return f"S4: share for {letter} without a record"
    if uid in before.ghost.lowered:
        return f"S7: share for {letter}, which was given up"
    if canary.weight > weight:
        return f"S4: {canary.weight} % although the record says {weight}"
    if before.record.is_rejected(letter) and uid not in before.ghost.undone:
        return f"S5: share for {letter}, which is rejected"
    return None


def a_lowered_attempt_stays_lowered(before: Cluster, write: Write, _: Cluster) -> Broken:
    """S7: what rolls back never goes on, and an end keeps its outcome."""
    given_up = before.ghost.lowered | before.ghost.lost
    if not isinstance(write.change, WriteR) or write.change.uid not in given_up:
        return None
    attempt, record = before.find_attempt(write.change.uid), write.change.record
    if attempt and attempt.record.phase.is_end and record.phase is not attempt.record.phase:
        return f"S7: the end {attempt.record.phase} becomes {record.phase}"
    if record.phase in FORWARD and (attempt is None or attempt.record.phase is not record.phase):
        return f"S7: an attempt that was given up is {record.phase} again"
    return None


def stable_moves_by_a_promotion(  # noqa: PLR0911  one rule each
    before: Cluster, write: Write, after: Cluster
) -> Broken:
    """S8, S5: stable changes when a Promoted record closes, to its `to`, which has V and bytes."""
    if not isinstance(write.change, WriteD) or before.record.stable is None:
        return None
    old, new = before.record.stable, after.record.stable
    if new is None:
        return "S8: there is no stable revision any more"
    if new.revision == old.revision or not old.promoted_at:
        return None
    pointer = before.record.pointer
    if pointer is None and before.net is not None:
        return None  # nothing served when that was decided: a rule over decisions looks after it
    if before.end is not Phase.PROMOTED or pointer is None or pointer.revision != new.revision:
        return f"S8: stable becomes {new.revision} without a promotion"
    if new.revision not in before.revisions or new.revision not in before.archived:
        return f"S8: stable becomes {new.revision}, of which there is no record or no copy"
    if before.record.is_rejected(new.revision) and pointer.rollout_uid not in before.ghost.undone:
        return f"S5: {new.revision} is rejected and becomes stable"
    return None


def the_pointer_goes_with_an_end(before: Cluster, write: Write, after: Cluster) -> Broken:
    """S10: the pointer goes or changes only when its record is terminal or lost."""
    if not isinstance(write.change, WriteD) or before.record.pointer == after.record.pointer:
        return None
    attempt = before.attempt
    if attempt is not None and before.end is None:
        return f"S10: the pointer goes while the attempt is {attempt.record.phase}"
    pointer, opened = after.record.pointer, after.attempt
    if pointer is None:
        return None
    if opened is None or opened.to != pointer.revision:
        return f"S10: the pointer names no attempt of {pointer.revision}"
    return None if opened.to in after.revisions else f"S2: an attempt of {opened.to} opens without V"


def an_end_is_carried_out(before: Cluster, write: Write, _: Cluster) -> Broken:
    """S7: an attempt ends only when the table says what its end says."""
    if not isinstance(write.change, WriteR) or not write.change.record.phase.is_end or before.table is None:
        return None
    attempt, phase = before.find_attempt(write.change.uid), write.change.record.phase
    if attempt is None or attempt is not before.attempt or attempt.record.phase is phase:
        return None
    split = before.table.split
    wanted = FULL if phase is Phase.PROMOTED else 0
    given = find_weight(split, attempt.to)
    return None if given == wanted else f"S7: {phase} while the table gives {given} %"


def a_close_remembers(before: Cluster, write: Write, after: Cluster) -> Broken:
    """S5: a close rejects what was rolled back, aborted or undone; a promotion frees all else."""
    pointer = before.record.pointer
    if not isinstance(write.change, WriteD) or pointer is None or after.record.pointer is not None:
        return None
    if before.end in {Phase.ROLLED_BACK, Phase.ABORTED} and not after.record.is_rejected(pointer.revision):
        return f"S5: {pointer.revision} was {before.end} and is not rejected"
    stable = after.record.stable
    if before.end is not Phase.PROMOTED or stable is None or stable.revision != pointer.revision:
        return None
    wanted = {pointer.source} - {pointer.revision}
    rejected = {entry.revision for entry in after.record.rejected}
    return None if rejected == wanted else f"S5: after a promotion {rejected or 'nothing'} is rejected"


def nothing_in_use_is_freed(before: Cluster, write: Write, _: Cluster) -> Broken:
    """W6: no slot is overwritten and no V deleted to which a table since the last confirmed one gives weight."""
    match write.change:
        case Fill(slot, letter):
            used = {rev for rev, place, _ in before.ghost.uses if place == slot} - {letter}
            return (
                f"W6: slot {slot} is overwritten, {'/'.join(sorted(used))} is in use there" if used else None
            )
        case ChangeKept("V", letter, False):
            used = {rev for rev, _, _ in before.ghost.uses}
            return f"W6: V of {letter} goes, which is in use" if letter in used else None
        case _:
            return None


def commands_act_once(before: Cluster, write: Write, _: Cluster) -> Broken:
    """S14: a nonce acts at most once, and only on the attempt that was open when it was given."""
    for given in list_acting(before, write):
        if given.nonce in before.ghost.acted:
            return f"S14: {given.command} acts again"
        uid = write.change.uid if isinstance(write.change, WriteR) else ""
        if uid and given.attempt != uid:
            return f"S14: {given.command} was given to {given.attempt or 'nobody'} and acts on {uid}"
    return None


def list_acting(before: Cluster, write: Write) -> list[Given]:
    """The commands that this write carries out, not those that it only remembers."""
    return [given for given in before.given if _acts(before, write, given)]


def _acts(before: Cluster, write: Write, given: Given) -> bool:
    match write.change:
        case WriteR(uid, record):
            attempt = before.find_attempt(uid)
            was = attempt.record.handled if attempt else {}
            return given.command in ACTING and _is_new(given, was, record.handled)
        case WriteD(record):
            return _is_new(given, before.record.handled, record.handled) and _acts_on_d(before, record, given)
        case _:
            return False


def _acts_on_d(before: Cluster, record: DeploymentRecord, given: Given) -> bool:
    if given.command is Command.RETRY:
        return before.record.pointer is None and len(record.rejected) < len(before.record.rejected)
    opens = before.record.pointer is None and record.pointer is not None
    return given.command is Command.UNDO and opens


def _is_new(given: Given, was: Handled, now: Handled) -> bool:
    nonce, command = given.nonce, given.command
    return nonce in now.get(command, ()) and nonce not in was.get(command, ())


def note_acting(before: Cluster, write: Write, after: Cluster) -> Cluster:
    """The cluster that remembers which nonces have acted."""
    acting = list_acting(before, write)
    if not acting:
        return after
    ghost, pointer = after.ghost, after.record.pointer
    if pointer and before.record.pointer is None:
        ghost = replace(ghost, undone=ghost.undone | {pointer.rollout_uid})
    return replace(after, ghost=replace(ghost, acted=ghost.acted | {given.nonce for given in acting}))


WRITES: tuple[Callable[[Cluster, Write, Cluster], Broken], ...] = (
    the_table_is_whole,
    a_raise_follows_the_record,
    a_lowered_attempt_stays_lowered,
    stable_moves_by_a_promotion,
    the_pointer_goes_with_an_end,
    an_end_is_carried_out,
    a_close_remembers,
    nothing_in_use_is_freed,
    commands_act_once,
)


# --- one state ---------------------------------------------------------------------------------------------


def who_has_traffic_has_capacity(cluster: Cluster) -> Broken:
    """S2: a revision with weight in any table since the last confirmed one has V and its bytes."""
    for letter, slot, workload in cluster.ghost.uses:
        if cluster.net is not None and not cluster.net.count_ready(workload):
            continue  # nobody there could answer
        if letter not in cluster.revisions:
            return f"S2: {letter} has traffic and no ControllerRevision"
        if cluster.slots[slot] != letter:
            return (
                f"S2: {letter} has traffic from slot {slot}, which holds {cluster.slots[slot] or 'nothing'}"
            )
    return None


def stable_is_kept(cluster: Cluster) -> Broken:
    """S3: until a Promoted record closes, a rollback needs nothing but one write of the table."""
    attempt = cluster.attempt
    if attempt is None or attempt.record.phase not in FORWARD or cluster.table is None:
        return None
    slot = cluster.table.split.find_slot(attempt.origin)
    if slot is None or cluster.slots[slot] != attempt.origin or attempt.origin not in cluster.revisions:
        return f"S3: {attempt.origin} cannot take over at once"
    return None


STATES: tuple[Callable[[Cluster], Broken], ...] = (who_has_traffic_has_capacity, stable_is_kept)


def find_first(answers: Iterable[Broken]) -> Broken:
    """The first broken rule."""
    return next((broken for broken in answers if broken), None)
