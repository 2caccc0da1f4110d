"""Plans that Hypothesis makes, shrinks when one fails, and keeps as a file."""

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.simulation.keeping import explain, get_invariant, read_plan, run_shrunk, write_plan
from tests.simulation.mutants import MUTANTS
from tests.simulation.plan import (
    CHILDREN,
    COMMANDS,
    POLICIES,
    Act,
    ActKind,
    Fault,
    FaultKind,
    Plan,
    build_plan,
)
from tests.simulation.run import run

TIMES = st.integers(9, 80).map(float)
ARGUMENTS = {
    ActKind.APPLY: tuple("abc"),
    ActKind.COMMAND: COMMANDS,
    ActKind.DELETE: CHILDREN,
    ActKind.SCALE: ("1", "2", "3"),
    ActKind.REMOVE: POLICIES,
}


@st.composite
def list_acts(draw: st.DrawFn) -> tuple[Act, ...]:
    drawn = [Act(ActKind.APPLY, 0.0, "a"), Act(ActKind.APPLY, 8.0, "b")]
    kinds = draw(st.lists(st.sampled_from(ActKind), max_size=4))
    drawn += [Act(kind, draw(TIMES), draw(st.sampled_from(ARGUMENTS.get(kind, ("",))))) for kind in kinds]
    return tuple(sorted(drawn, key=lambda act: act.at))


@st.composite
def list_faults(draw: st.DrawFn) -> tuple[Fault, ...]:
    begun = draw(st.lists(st.tuples(st.sampled_from(FaultKind), TIMES, st.integers(1, 20)), max_size=4))
    return tuple(sorted((Fault(kind, at, at + length) for kind, at, length in begun), key=lambda f: f.at))


PLANS = st.builds(
    Plan,
    seed=st.integers(0, 2**20),
    acts=list_acts(),
    faults=list_faults(),
    unfit=st.sampled_from(("", "b", "c")),
    replicas=st.integers(1, 3),
    standby=st.booleans(),
    queue=st.booleans(),
)


@settings(max_examples=100, deadline=None, database=None, derandomize=True)
@given(PLANS)
def test_no_plan_breaks_an_invariant(plan: Plan) -> None:
    outcome = run(plan)
    # The last failing example is the smallest: its file is the one that stays.
    assert not outcome.broken, explain(plan, outcome)


def test_a_failure_is_kept_small_and_can_be_repeated(tmp_path: Path) -> None:
    plan = build_plan(0)
    with MUTANTS["the effect comes before the record"][0]():
        small, outcome = run_shrunk(plan, run(plan))
        again = run(read_plan(write_plan(small, outcome, tmp_path)))
    assert (small.faults, len(small.acts)) == ((), 2)
    assert get_invariant(outcome) == "S4"
    assert (again.broken, again.digest) == (outcome.broken, outcome.digest)


def test_a_plan_is_read_back_as_it_was_written() -> None:
    plan = build_plan(11)
    assert Plan.from_json(plan.to_json()) == plan
