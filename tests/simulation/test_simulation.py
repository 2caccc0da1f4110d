"""Whole rollouts of the real operator in a simulated world."""

from tests.simulation.plan import Act, ActKind, Plan
from tests.simulation.run import run

HAPPY = Plan(1, (Act(ActKind.APPLY, 0.0, "a"), Act(ActKind.APPLY, 8.0, "b")))


def test_a_good_program_is_promoted() -> None:
    assert "Revision 928f373796" in run(HAPPY).ended


def test_the_same_plan_gives_the_same_trace() -> None:
    assert run(HAPPY).digest == run(HAPPY).digest
