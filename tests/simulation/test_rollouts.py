"""The real operator in a simulated world: some whole rollouts by name, and thousands by seed."""

from dataclasses import replace

import pytest
from tests.simulation.keeping import explain, run_shrunk
from tests.simulation.plan import POLICIES, Act, ActKind, Fault, FaultKind, Plan, build_plan
from tests.simulation.run import Outcome, run

BEGINNING = (Act(ActKind.APPLY, 0.0, "a"), Act(ActKind.APPLY, 8.0, "b"))
GOOD = Plan(1, BEGINNING, scores=(("a", 0.8), ("b", 0.95), ("c", 0.95)))
BAD = replace(GOOD, scores=(("a", 0.8), ("b", 0.4), ("c", 0.95)))

SEEDS, AT_ONCE, GATED = 5000, 100, 60
"""As many as three minutes of two cores give; `make bench` and the command line run more."""


def list_phases(outcome: Outcome) -> list[str]:
    """The phases of attempts in their order, each with its weight."""
    told = [
        line.split("dspyrollouts/")[1].split() for line in outcome.trace if "changes dspyrollouts/" in line
    ]
    return list(dict.fromkeys(f"{words[1]} {words[3]}" for words in told))


def find_last_stable(outcome: Outcome) -> str:
    """The revision of the newest table."""
    tables = [line for line in outcome.trace if "configmaps/triage-routes generation" in line]
    return tables[-1].partition("generation ")[2].split()[1]


def test_a_good_program_goes_through_all_steps() -> None:
    outcome = run(GOOD)
    assert outcome.broken == []
    assert list_phases(outcome) == [
        "Preparing 0", "Stepping 10", "Stepping 50", "Promoting 100", "Baking 100", "Promoted 100",
    ]  # fmt: skip


def test_a_bad_program_gets_no_more_than_the_first_step() -> None:
    outcome = run(BAD)
    assert outcome.broken == []
    assert list_phases(outcome) == ["Preparing 0", "Stepping 10", "RollingBack 0", "RolledBack 0"]


def test_a_program_that_pods_refuse_gets_nothing() -> None:
    outcome = run(replace(GOOD, unfit="b"))
    assert outcome.broken == []
    assert list_phases(outcome) == ["Preparing 0", "RollingBack 0", "RolledBack 0"]


@pytest.mark.parametrize(("plan", "end"), [(GOOD, "Promoted 100"), (BAD, "RolledBack 0")])
def test_a_program_in_a_bucket_goes_the_same_way(plan: Plan, end: str) -> None:
    outcome = run(replace(plan, remote=True))
    assert outcome.broken == []
    assert list_phases(outcome) == list_phases(run(plan))
    assert list_phases(outcome)[-1] == end


def test_a_newer_program_supersedes_the_one_on_trial() -> None:
    outcome = run(replace(GOOD, acts=(*BEGINNING, Act(ActKind.APPLY, 20.0, "c"))))
    assert outcome.broken == []
    assert "Superseded 0" in list_phases(outcome)


@pytest.mark.parametrize("at", [20.0, 40.0])
@pytest.mark.parametrize("seed", range(3))
def test_what_says_what_a_revision_is_comes_back_whichever_is_deleted_and_when(seed: int, at: float) -> None:
    outcome = run(replace(BAD, seed=seed, acts=(*BEGINNING, Act(ActKind.DELETE, at, "revision"))))
    assert outcome.broken == []
    assert "people deletes controllerrevisions/" in "\n".join(outcome.trace)
    assert list_phases(outcome)[-1] == "RolledBack 0"


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("at", [9.0, 20.0, 35.0, 44.0])
def test_a_resource_that_is_deleted_in_any_phase_leaves_nothing_or_all_of_it_serving(
    policy: str, at: float
) -> None:
    outcome = run(replace(GOOD, seed=20, acts=(*BEGINNING, Act(ActKind.REMOVE, at, policy))))
    assert outcome.broken == []
    ends = [index for index, line in enumerate(outcome.trace) if "deletes dspydeployments/triage" in line]
    assert len(ends) == 1
    assert not any(" operator-" in line for line in outcome.trace[ends[0] + 1 :])


def test_a_resource_that_comes_again_under_the_same_name_starts_anew() -> None:
    acts = (*BEGINNING, Act(ActKind.REMOVE, 20.0, "Background"), Act(ActKind.APPLY, 21.0, "c"))
    outcome = run(replace(GOOD, acts=acts))
    assert outcome.broken == []
    assert outcome.ended.startswith(f"{find_last_stable(outcome)} is stable: Revision")
    assert "Promoted 100" not in list_phases(outcome)


def test_what_is_asked_for_while_the_watches_are_compacted_is_seen_when_they_list_again() -> None:
    acts = (*BEGINNING, Act(ActKind.REPEAT, 30.0))  # people touch nothing when the fault ends
    outcome = run(replace(GOOD, acts=acts, faults=(Fault(FaultKind.COMPACTED, 6.0, 14.0),)))
    assert outcome.broken == []
    opened = next(line for line in outcome.trace if " creates dspyrollouts/" in line)
    assert 14.0 <= float(opened.split()[0]) <= 16.0


@pytest.mark.parametrize("kind", list(FaultKind))
def test_each_fault_alone_changes_nothing_in_the_end(kind: FaultKind) -> None:
    for remote in (False, True):
        outcome = run(replace(GOOD, faults=(Fault(kind, 13.0, 28.0),), remote=remote))
        assert outcome.broken == []
        assert list_phases(outcome)[-1] == "Promoted 100"


def test_a_gate_comes_before_any_traffic() -> None:
    outcome = run(replace(GOOD, gate="v"))
    assert outcome.broken == []
    assert list_phases(outcome)[:3] == ["Preparing 0", "Regression 0", "Stepping 10"]
    assert list_phases(outcome)[-1] == "Promoted 100"


def test_a_program_that_fails_its_examples_gets_nothing() -> None:
    outcome = run(replace(BAD, gate="v"))
    assert outcome.broken == []
    assert list_phases(outcome) == ["Preparing 0", "Regression 0", "RollingBack 0", "RolledBack 0"]
    assert any("RolledBack 0 0 % RegressionFailed" in line for line in outcome.trace)


@pytest.mark.parametrize(("gate", "runs", "end"), [("nv", 4, "Promoted 100"), ("knv", 5, "RolledBack 0")])
def test_runs_that_say_nothing_are_repeated_until_the_deadline(gate: str, runs: int, end: str) -> None:
    acts = (Act(ActKind.APPLY, 0.0, "a"), Act(ActKind.APPLY, 90.0, "b"))
    outcome = run(replace(GOOD, acts=acts, gate=gate))
    assert outcome.broken == []
    assert list_phases(outcome)[-1] == end
    assert sum("creates jobs/" in line for line in outcome.trace) == runs


@pytest.mark.parametrize("kind", list(FaultKind))
def test_each_fault_during_a_gate_changes_nothing_in_the_end(kind: FaultKind) -> None:
    outcome = run(replace(GOOD, gate="v", faults=(Fault(kind, 13.0, 28.0),)))
    assert outcome.broken == []
    assert list_phases(outcome)[-1] == "Promoted 100"


@pytest.mark.parametrize("gate", ["v", "nv", "kv"])
def test_no_seed_with_a_gate_breaks_an_invariant(gate: str) -> None:
    for seed in range(9_000_000, 9_000_000 + GATED):
        plan = replace(build_plan(seed), gate=gate)
        outcome = run(plan)
        assert not outcome.broken, explain(*run_shrunk(plan, outcome))


def test_the_same_plan_gives_the_same_trace_and_another_seed_another() -> None:
    assert run(build_plan(7)).digest == run(build_plan(7)).digest
    assert run(build_plan(7)).digest != run(replace(build_plan(7), seed=8)).digest


@pytest.mark.parametrize("seed", range(10))
def test_what_makes_it_faster_changes_nothing(seed: int) -> None:
    assert run(build_plan(seed)).digest == run(build_plan(seed), memos=False).digest


@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_no_seed_breaks_an_invariant(first: int) -> None:
    for seed in range(first, first + AT_ONCE):
        plan = build_plan(seed)
        outcome = run(plan)
        assert not outcome.broken, explain(*run_shrunk(plan, outcome))
