"""Events about evidence that does not come: once in each step, and again in the next one."""

from typing import Any

import pytest
from tests.unit.operator.rollout.plans import build_plan
from tests.unit.operator.rollout.telling import Teller

from dspy_operator.api.names import Command
from dspy_operator.api.reasons import Reason
from dspy_operator.rollout.judging import OnDeadline
from dspy_operator.rollout.model import Phase

MISSING, NO_DATA = str(Reason.EVIDENCE_MISSING), str(Reason.DEADLINE_NO_DATA)
COVERAGE = str(Reason.SCORE_COVERAGE)


def open_attempt(**plan: Any) -> Teller:
    teller = Teller()
    teller.world.plan = build_plan(**plan)
    teller.start()
    teller.apply("b")
    teller.wait_for(Phase.STEPPING, 1, effective=True)
    return teller


def count(teller: Teller, reason: str) -> int:
    return sum(line.count(f" !{reason}") for line in teller.lines)


def test_the_first_empty_looks_of_a_step_are_no_news() -> None:
    teller = open_attempt()
    teller.world.requests = 0.0
    teller.wait(20)
    assert count(teller, MISSING) == 0
    teller.wait(20)
    assert count(teller, MISSING) == 1


def test_people_hear_once_in_a_step_that_evidence_is_missing_however_often_it_stops_and_comes() -> None:
    teller = open_attempt(manual=(True, False, False))
    teller.wait(40)
    for is_there in (False, True, False, True, False):
        teller.world.prometheus = is_there
        teller.wait(60)
    assert count(teller, MISSING) == 1
    assert count(teller, NO_DATA) == 0


def test_the_next_step_and_the_bake_tell_it_anew() -> None:
    teller = open_attempt()
    for phase, step in ((Phase.STEPPING, 2), (Phase.BAKING, 3)):
        teller.world.prometheus = False
        teller.wait(120)
        teller.world.prometheus = True
        teller.wait_for(phase, step, effective=True)
    teller.world.prometheus = False
    teller.wait(120)
    assert count(teller, MISSING) == 3


def test_a_restarted_operator_does_not_say_it_again() -> None:
    teller = open_attempt()
    teller.world.prometheus = False
    teller.wait(120)
    teller.world.forget()
    teller.wait(120)
    assert count(teller, MISSING) == 1


@pytest.mark.parametrize(("policy", "times"), [(OnDeadline.THRESHOLD, 1), (OnDeadline.ROLLBACK, 0)])
def test_a_deadline_that_finds_nothing_to_decide_on_is_told_once(policy: OnDeadline, times: int) -> None:
    teller = open_attempt(on_deadline=policy)
    teller.world.prometheus = False
    teller.wait(3590)
    assert count(teller, NO_DATA) == 0
    teller.wait(1200)
    assert count(teller, NO_DATA) == times


def test_no_deadline_is_told_of_while_a_person_holds_it() -> None:
    teller = open_attempt()
    teller.order(Command.PAUSE)
    teller.world.prometheus = False
    teller.wait(7200)
    assert count(teller, NO_DATA) == 0


def test_a_reference_that_cannot_be_read_is_missing_evidence_too() -> None:
    teller = Teller()
    teller.start()
    teller.world.has_reference = False
    teller.apply("b")
    teller.wait_for(Phase.STEPPING, 1)
    teller.wait(120)
    assert count(teller, MISSING) == 1


def test_a_canary_that_is_scored_half_as_often_is_told_once_in_a_step_and_promoted_all_the_same() -> None:
    teller = Teller()
    teller.world.coverage["b"] = 0.5
    teller.start()
    teller.apply("b")
    teller.wait_for(Phase.STEPPING, 2, effective=True)
    assert count(teller, COVERAGE) == 1
    teller.wait_for(Phase.BAKING, 3, effective=True)
    assert count(teller, COVERAGE) == 2


def test_answers_that_are_scored_alike_are_no_news_however_few() -> None:
    teller = open_attempt(manual=(True, False, False))
    teller.world.coverage |= {"a": 0.1, "b": 0.1}
    teller.wait(600)
    assert count(teller, COVERAGE) == 0


def test_an_hour_without_prometheus_is_neither_evidence_nor_dwell() -> None:
    teller = open_attempt(manual=(True, False, False))
    teller.wait(20)
    before = teller.world.test
    assert before is not None
    teller.world.prometheus = False
    teller.wait(3500)
    rollout = teller.world.find_rollout()
    assert rollout is not None
    assert (rollout.record.phase, rollout.record.step, rollout.record.weight) == (Phase.STEPPING, 1, 10)
    assert teller.world.test == before
    teller.world.prometheus = True
    teller.wait(10)
    after = teller.world.test
    assert after is not None
    assert after.state.clock.last - before.state.clock.last > 3500
    assert 3 * 10 <= after.state.clock.observed - before.state.clock.observed <= 4 * 10
