"""How to break the core: patches of its lists of rules and functions, and wrong rules to put there.

`mutants.py` makes the list of mutants of these.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.model.observing import Answer, build_verdict
from tests.model.programs import WEIGHTS

from dspy_operator.api.reasons import Reason
from dspy_operator.rollout import attempt, decide, ending, idle, world
from dspy_operator.rollout.actions import CreateRevision, Decision, SetSplit
from dspy_operator.rollout.model import (
    DeploymentRecord,
    Judging,
    Observation,
    Phase,
    Pointer,
    Share,
    Split,
    Stable,
    Target,
    Unmeasured,
)

Patch = Callable[[pytest.MonkeyPatch], None]
Rule = Callable[[Observation], Decision | None]
FIRST = WEIGHTS[0]


# --- how to break things -----------------------------------------------------------------------------------


def without(*names: str) -> Patch:
    """The lists of rules without these."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        known = {rule.__name__ for rule in (*decide.OPEN, *decide.IDLE)}
        assert known >= set(names), f"no such rule: {set(names) - known}"
        for place in ("OPEN", "IDLE"):
            left = tuple(rule for rule in getattr(decide, place) if rule.__name__ not in names)
            monkeypatch.setattr(decide, place, left)

    return patch


def instead(name: str, other: Callable[[Rule], Rule]) -> Patch:
    """The lists of rules with another one in the place of this one, made from it."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        known = {rule.__name__ for rule in (*decide.OPEN, *decide.IDLE)}
        assert name in known, f"no such rule: {name}"
        for place in ("OPEN", "IDLE"):
            rules = tuple(other(r) if r.__name__ == name else r for r in getattr(decide, place))
            monkeypatch.setattr(decide, place, rules)

    return patch


def replaced(*places: tuple[Any, str], by: Any) -> Patch:
    """Functions of modules replaced."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        for module, name in places:
            monkeypatch.setattr(module, name, by)

    return patch


def all_of(*patches: Patch) -> Patch:
    """Several at once."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        for one in patches:
            one(monkeypatch)

    return patch


def nothing(_: pytest.MonkeyPatch) -> None:
    """The shipped core: only the order of writes is another."""


def yes(*_: object, **__: object) -> bool:
    """Always."""
    return True


def no(*_: object, **__: object) -> bool:
    """Never."""
    return False


# --- the mutants' own rules --------------------------------------------------------------------------------


def blind_is_good(seen: Observation) -> Judging:
    """No data counts as a pass."""
    if seen.rollout is None or not isinstance(seen.judging.look, Unmeasured):
        return seen.judging
    return replace(seen.judging, verdict=build_verdict(Answer.GOOD, seen.now))


def drop_stable_at_full(seen: Observation) -> Split | None:
    """At 100 % the table forgets the revision that it would go back to."""
    wanted = world.find_wanted_split(seen)
    if wanted is None or wanted.canary is None or wanted.canary.weight < attempt.FULL:
        return wanted
    return Split(replace(wanted.canary, weight=100))


def stable_moves_in_the_bake(rule: Rule) -> Rule:
    """Stable is recorded before the attempt is."""

    def changed(seen: Observation) -> Decision | None:
        rollout, stable = seen.rollout, seen.record.stable
        if rollout is None or stable is None or rollout.record.phase is not Phase.BAKING:
            return rule(seen)
        if stable.revision == rollout.to.revision:
            return rule(seen)
        moved = Stable(rollout.to.revision, rollout.to.sha256, stable.promoted_at, rollout.to.workload)
        return Decision("", "", deployment=replace(seen.record, stable=moved))

    return changed


def table_before_record(rule: Rule) -> Rule:
    """A rollback lowers the table first and records it in the next pass."""

    def changed(seen: Observation) -> Decision | None:
        decision = rule(seen)
        if decision is None or not isinstance(decision.action, SetSplit) or seen.table is None:
            return decision
        if seen.table.split == decision.action.split:
            return replace(decision, action=None)
        return replace(decision, rollout=None)

    return changed


def close_while_rolling_back(seen: Observation) -> Decision | None:
    """The deployment forgets the attempt before its end is recorded."""
    rollout = seen.rollout
    if rollout is None or rollout.record.phase is not Phase.ROLLING_BACK:
        return None
    return Decision("", "", deployment=replace(seen.record, pointer=None))


def pointer_first(seen: Observation) -> Decision | None:
    """The pointer is written before the attempt is there."""
    target = seen.target
    if seen.pending is not None or not isinstance(target, Target):
        return idle.an_attempt_opens(seen)
    letter = target.program.revision
    pointer = Pointer(letter, letter, 1, f"{letter}-1", f"{letter}-1#1")
    return Decision("", "", deployment=replace(seen.record, pointer=pointer))


def open_without_revision(seen: Observation) -> Decision | None:
    """Nobody writes down what the canary is."""
    decision = idle.an_attempt_opens(seen)
    if not isinstance(decision.action, CreateRevision) or seen.target is None:
        return decision
    program = decision.action.program
    return idle.an_attempt_opens(replace(seen, revisions={**seen.revisions, program.revision: program}))


def adopt_anything(seen: Observation) -> Decision | None:
    """A half-open attempt is taken, whatever it is about."""
    target, pending = seen.target, seen.pending
    if pending is None or not isinstance(target, Target) or pending.to == target.program:
        return idle.an_attempt_opens(seen)
    if target.program.revision not in seen.revisions:
        return Decision("", "", action=CreateRevision(target.program))
    letter = target.program.revision
    pointer = Pointer(letter, letter, 1, pending.name, pending.uid)
    return Decision("", "", deployment=replace(seen.record, pointer=pointer))


def clock_without_pods(rule: Rule) -> Rule:
    """A step's clock starts when the table is written."""

    def changed(seen: Observation) -> Decision | None:
        confirmed = replace(seen.confirmation, at=seen.now)
        return rule(replace(seen, confirmation=confirmed))

    return changed


def no_bake(rule: Rule) -> Rule:
    """100 % in effect is promoted at once."""

    def changed(seen: Observation) -> Decision | None:
        rollout = seen.rollout
        if rollout is None:
            return rule(seen)
        return rule(replace(seen, rollout=replace(rollout, plan=replace(rollout.plan, bake=0.0))))

    return changed


def look_whenever(seen: Observation) -> Judging:
    """Looks from before the weight was in effect count."""
    judging = seen.judging
    if judging.analysis is None or judging.look is None or isinstance(judging.look, Unmeasured):
        return judging
    analysis, verdict = judging.analysis.judge(judging.look)
    return replace(judging, analysis=analysis, verdict=verdict)


def bake_is_over(seen: Observation, rollout: Any) -> Decision:
    """A fast attempt's bake lasts no time."""
    assert rollout is not None
    return attempt._promote(seen, "at once")


def end_without_table(rule: Rule) -> Rule:
    """A rollback ends before the table is written."""

    def changed(seen: Observation) -> Decision | None:
        wanted = world.find_wanted_split(seen)
        if wanted is None or seen.table is None:
            return rule(seen)
        return rule(replace(seen, table=replace(seen.table, split=wanted)))

    return changed


def forget_to_reject(*given: object) -> DeploymentRecord:
    """The close rejects nothing."""
    return next(record for record in given if isinstance(record, DeploymentRecord))


def forget_undone(*given: object) -> DeploymentRecord:
    """The close of an undo does not reject what it went away from."""
    if Reason.UNDONE in given:
        return forget_to_reject(*given)
    return reject(*given)


reject: Callable[..., DeploymentRecord] = ending._reject


def forget_nonces(handled: Any, orders: Any) -> Any:
    """What was done is not noted."""
    del orders
    return handled


def keep_rejected(rule: Rule) -> Rule:
    """A promotion frees nobody."""

    def changed(seen: Observation) -> Decision | None:
        decision = rule(seen)
        if decision is None or decision.deployment is None:
            return decision
        record = decision.deployment
        return replace(decision, deployment=replace(record, rejected=record.rejected or seen.record.rejected))

    return changed


def supersede_a_queue(rule: Rule) -> Rule:
    """`Queue` is read as `Supersede`."""
    return lambda seen: rule(replace(seen, queue=False))


def blind_is_late(rule: Rule) -> Rule:
    """Not seeing the pods counts as their not being ready."""

    def changed(seen: Observation) -> Decision | None:
        capacity = replace(seen.capacity, slots=("", "", ""))
        return rule(replace(seen, capacity=capacity))

    return changed


def pick_a_used_slot(seen: Observation, slot: int) -> bool:
    """Only what the newest table names is in use."""
    shares = seen.table.split.shares if seen.table else ()
    return slot in {share.slot for share in shares}


def overshoot(rule: Rule) -> Rule:
    """The table gets the next step's weight with this step's record."""

    def changed(seen: Observation) -> Decision | None:
        decision = rule(seen)
        action = decision.action if decision else None
        if decision is None or not isinstance(action, SetSplit) or action.split.weight != FIRST:
            return decision
        assert action.split.canary is not None
        canary: Share = replace(action.split.canary, weight=50)
        split = replace(action.split, stable=replace(action.split.stable, weight=50), canary=canary)
        return replace(decision, action=replace(action, split=split))

    return changed
