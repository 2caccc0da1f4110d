"""Rules that make the world follow the record, each looked at alone."""

from dataclasses import replace

import pytest
from tests.unit.operator.rollout.plans import build_program
from tests.unit.operator.rollout.telling import Teller, is_at

from dspy_operator.rollout.actions import Archive, FillSlot, RefreshPods, RepairChildren, Restamp, SetSplit
from dspy_operator.rollout.capacity import Load, LoadState
from dspy_operator.rollout.decide import decide
from dspy_operator.rollout.model import Confirmation, Observation, Phase
from dspy_operator.rollout.world import (
    a_program_is_missing,
    find_slot,
    find_stable,
    find_wanted_split,
    is_canary_ready,
    table_differs,
)

UNCONFIRMED = Confirmation(at=None)


def see(phase: Phase = Phase.STEPPING) -> Observation:
    """An open attempt to b, which is in slot 1, beside a in slot 0."""
    teller = Teller()
    teller.start()
    teller.apply("b")
    teller.wait_until(lambda world: is_at(world, phase) and world.slots[1] != "")
    return teller.world.observe()


def with_slots(seen: Observation, *slots: str, **more: object) -> Observation:
    capacity = replace(seen.capacity, slots=slots)
    return replace(seen, capacity=capacity, **more)  # type: ignore[arg-type]  # a test's shorthand


def test_a_free_slot_is_filled_only_when_no_older_table_is_in_use() -> None:
    seen = with_slots(see(Phase.PREPARING), "a" * 64, "", "")
    table = seen.table
    assert table is not None
    assert table.split.canary is None
    filled = a_program_is_missing(seen)
    assert filled is not None
    assert isinstance(filled.action, FillSlot)
    assert a_program_is_missing(replace(seen, confirmation=UNCONFIRMED)) is None
    presumed = replace(seen, confirmation=Confirmation(presumed=True))
    assert a_program_is_missing(presumed) == filled


def test_a_slot_that_the_table_names_is_filled_again_at_once() -> None:
    seen = with_slots(see(), "", "b" * 64, "", confirmation=UNCONFIRMED)
    decision = a_program_is_missing(seen)
    assert decision is not None
    assert decision.action == FillSlot(0, build_program("a"))


def test_a_copy_is_kept_before_a_slot_is_filled() -> None:
    seen = see()
    capacity = replace(seen.capacity, archived=frozenset({"a" * 64}), slots=("a" * 64, "", ""))
    decision = a_program_is_missing(
        replace(seen, capacity=replace(capacity, available=frozenset({"b" * 64})))
    )
    assert decision is not None
    assert decision.action == Archive(build_program("b"))


def test_bytes_that_are_nowhere_are_not_asked_for() -> None:
    seen = see()
    capacity = replace(seen.capacity, slots=("a" * 64, "", ""), available=frozenset({"a" * 64}))
    assert a_program_is_missing(replace(seen, capacity=capacity)) is None


def test_a_program_stays_in_its_slot_and_a_new_one_takes_an_unused_one() -> None:
    seen = see()
    assert find_slot(seen, build_program("a")) == 0
    assert find_slot(seen, build_program("b")) == 1
    assert find_slot(seen, build_program("c")) == 2
    assert find_slot(with_slots(seen, "a" * 64, "b" * 64, "c" * 64), build_program("c")) == 2


def test_the_last_promoted_program_is_overwritten_last() -> None:
    seen = see()
    assert seen.table is not None
    table = replace(seen.table, split=replace(seen.table.split, canary=None))
    revisions = {**seen.revisions, "z": build_program("z")}
    seen = with_slots(seen, "a" * 64, "z" * 64, "", table=table, previous=("z",), revisions=revisions)
    assert find_slot(seen, build_program("c")) == 2


def test_without_a_table_the_canary_does_not_take_the_slot_of_stable() -> None:
    seen = with_slots(see(), "", "", "", table=None)
    assert find_slot(seen, build_program("b"), avoid=build_program("a")) != find_slot(
        seen, build_program("a")
    )


@pytest.mark.parametrize("state", [LoadState.UNKNOWN, LoadState.LOADING, LoadState.REFUSED])
def test_nothing_is_raised_while_a_pod_has_not_loaded_the_canary(state: LoadState) -> None:
    seen = see()
    assert seen.rollout is not None
    record = replace(seen.rollout.record, weight=50, step=2)
    seen = replace(seen, rollout=replace(seen.rollout, record=record))
    assert isinstance(getattr(table_differs(seen), "action", None), SetSplit)
    unready = replace(seen.capacity, loads={"b": Load(state)})
    assert table_differs(replace(seen, capacity=unready)) is None
    assert table_differs(replace(seen, capacity=replace(seen.capacity, ready_pods=0))) is None


def test_lowering_needs_nothing() -> None:
    seen = see()
    assert seen.rollout is not None
    record = replace(seen.rollout.record, phase=Phase.ROLLING_BACK, weight=0)
    blind = replace(seen.capacity, loads={}, ready_pods=0)
    decision = decide(
        replace(
            seen,
            rollout=replace(seen.rollout, record=record),
            capacity=blind,
            confirmation=UNCONFIRMED,
        )
    )
    assert isinstance(decision.action, SetSplit)
    assert decision.action.split.canary is None


def test_a_fast_attempt_may_presume_that_the_pods_have_loaded_it() -> None:
    seen = see()
    assert seen.rollout is not None
    unknown = replace(seen.capacity, loads={})
    presumed = Confirmation(presumed=True)
    slow = replace(seen, capacity=unknown, confirmation=presumed)
    fast = replace(slow, rollout=replace(seen.rollout, fast=True))
    assert not is_canary_ready(slow)
    assert is_canary_ready(fast)
    assert not is_canary_ready(replace(fast, confirmation=UNCONFIRMED))
    assert not is_canary_ready(replace(fast, capacity=replace(unknown, ready_pods=0)))


def test_stable_is_known_from_its_record_else_from_the_attempt_else_from_the_table() -> None:
    seen = replace(see(), revisions={})
    assert find_stable(seen) == build_program("a")
    assert find_stable(replace(seen, rollout=None)) == build_program("a")
    assert find_stable(replace(seen, rollout=None, table=None)) is None
    assert find_wanted_split(replace(seen, rollout=None, table=None)) is None


def test_an_edited_table_is_written_again_even_if_its_shares_are_right() -> None:
    seen = see()
    assert seen.table is not None
    assert table_differs(seen) is None
    decision = table_differs(replace(seen, table=replace(seen.table, intact=False)))
    assert decision is not None
    assert isinstance(decision.action, SetSplit)
    assert decision.action.split == seen.table.split


def test_pods_are_told_again_until_they_carry_the_generation() -> None:
    seen = see()
    decision = decide(replace(seen, confirmation=Confirmation(at=None, refreshed=False)))
    assert isinstance(decision.action, RefreshPods)
    assert decision.wait


def test_a_child_that_differs_is_repaired() -> None:
    seen = see()
    decision = decide(replace(seen, capacity=replace(seen.capacity, drifted=("Service", "Deployment"))))
    assert decision.action == RepairChildren()
    assert decision.message == "Applying Service, Deployment"


def test_a_new_operator_stamps_the_record_then_the_table_before_it_decides() -> None:
    seen = replace(see(), epoch=5)
    first = decide(seen)
    assert first.rollout is not None
    assert first.rollout.epoch == 5
    assert first.action is None
    assert seen.rollout is not None
    stamped = replace(seen, rollout=replace(seen.rollout, record=first.rollout))
    assert decide(stamped).action == Restamp()
    assert stamped.table is not None
    done = replace(stamped, table=replace(stamped.table, epoch=5))
    assert not isinstance(decide(done).action, Restamp)


@pytest.mark.parametrize(
    ("waited", "sentence"), [(10, "waiting for its ConfigMap"), (700, "not to be had within 10m")]
)
def test_a_program_whose_bytes_are_gone_is_told_as_that(waited: float, sentence: str) -> None:
    seen = with_slots(see(Phase.PREPARING), "a" * 64, "", "")
    capacity = replace(
        seen.capacity, archived=frozenset({"a" * 64}), available=frozenset({"a" * 64}), loads={}
    )
    assert seen.rollout is not None
    begun = replace(seen.rollout, record=replace(seen.rollout.record, started_at=seen.now))
    decision = decide(replace(seen, rollout=begun, capacity=capacity, now=seen.now + waited))
    assert decision.message.startswith("The bytes of program bbbbbbbbbbbb")
    assert sentence in decision.message
