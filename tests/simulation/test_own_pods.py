"""Canaries with pods of their own, behind a gateway and without one: some whole rollouts by name."""

from dataclasses import replace

import pytest
from tests.simulation.plan import COMMON, OWN, Act, ActKind, Fault, FaultKind, Plan
from tests.simulation.run import Outcome, run
from tests.simulation.test_rollouts import find_last_stable, list_phases

BEGINNING = (Act(ActKind.APPLY, 0.0, "a"), Act(ActKind.APPLY, 8.0, "b1"))
SCORES = (("a", 0.8), ("b", 0.95), ("c", 0.95))
BY_PODS = Plan(1, BEGINNING, scores=SCORES, replicas=4)
BY_ROUTE = replace(BY_PODS, gateway=True, replicas=2)
BOTH = pytest.mark.parametrize("plan", [BY_PODS, BY_ROUTE], ids=["replica counts", "gateway"])
STEPS = ["Preparing 0", "Stepping 10", "Stepping 50", "Promoting 100", "Baking 100", "Promoted 100"]
KILLS = (FaultKind.CANARY_CRASH,)
"""What ends an attempt for good, however short it is."""


def find_ends(outcome: Outcome) -> list[str]:
    """How attempts ended, and why."""
    ends = ("Promoted", "RolledBack", "Aborted", "Superseded")
    told = [
        line.split("dspyrollouts/")[1].split() for line in outcome.trace if "changes dspyrollouts/" in line
    ]
    return [f"{words[1]} {words[5]}" for words in told if words[1] in ends]


@BOTH
def test_good_pods_go_through_all_steps(plan: Plan) -> None:
    outcome = run(plan)
    assert outcome.broken == []
    assert list_phases(outcome) == STEPS


@BOTH
def test_bad_pods_get_no_more_than_the_first_step(plan: Plan) -> None:
    outcome = run(replace(plan, scores=(("a", 0.8), ("b", 0.4))))
    assert outcome.broken == []
    assert list_phases(outcome) == ["Preparing 0", "Stepping 10", "RollingBack 0", "RolledBack 0"]


@BOTH
def test_an_artifact_alone_shares_the_pods_of_stable_after_that(plan: Plan) -> None:
    outcome = run(replace(plan, acts=(*BEGINNING, Act(ActKind.APPLY, 100.0, "c1"))))
    assert outcome.broken == []
    assert list_phases(outcome)[-1] == "Promoted 100"
    assert sum("operator-1 creates deployments/" in line for line in outcome.trace) == 2


@BOTH
def test_with_isolation_every_artifact_has_pods_of_its_own(plan: Plan) -> None:
    outcome = run(replace(plan, isolated=True, acts=(BEGINNING[0], Act(ActKind.APPLY, 8.0, "b"))))
    assert outcome.broken == []
    assert list_phases(outcome) == STEPS
    assert sum("operator-1 creates deployments/" in line for line in outcome.trace) == 2


@BOTH
def test_a_preview_gets_nothing_and_then_everything(plan: Plan) -> None:
    outcome = run(replace(plan, preview=True))
    assert outcome.broken == []
    assert list_phases(outcome) == ["Preparing 0", "Stepping 0", *STEPS[-3:]]
    assert any("creates services/triage-preview" in line for line in outcome.trace)


@BOTH
def test_an_undo_brings_back_the_pods_before(plan: Plan) -> None:
    outcome = run(replace(plan, acts=(*BEGINNING, Act(ActKind.COMMAND, 110.0, "undo"))))
    assert outcome.broken == []
    assert find_last_stable(outcome) == "ebf99800f6"


@BOTH
@pytest.mark.parametrize("size", ["0", "1", "6"])
@pytest.mark.parametrize("at", [18.0, 30.0, 48.0])
def test_replicas_may_change_in_any_step(plan: Plan, size: str, at: float) -> None:
    outcome = run(replace(plan, acts=(*BEGINNING, Act(ActKind.SCALE, at, size))))
    assert outcome.broken == []


@BOTH
def test_pods_that_never_get_ready_get_nothing(plan: Plan) -> None:
    outcome = run(replace(plan, stuck="1"))
    assert outcome.broken == []
    assert find_ends(outcome) == ["RolledBack NotReady"]


def test_a_weight_that_so_few_pods_cannot_come_near_is_refused() -> None:
    outcome = run(replace(BY_PODS, approximate=False))
    assert outcome.broken == []
    assert list_phases(outcome) == []
    assert "cannot be reached by the numbers of pods" in outcome.ended


@BOTH
@pytest.mark.parametrize("kind", [kind for kind in (*COMMON, *OWN) if kind not in KILLS])
def test_a_fault_in_mid_rollout_changes_nothing_in_the_end(plan: Plan, kind: FaultKind) -> None:
    outcome = run(replace(plan, faults=(Fault(kind, 20.0, 35.0),)))
    assert outcome.broken == []
    assert list_phases(outcome)[-1] == "Promoted 100"


@BOTH
def test_a_canary_whose_pods_all_die_is_rolled_back(plan: Plan) -> None:
    outcome = run(replace(plan, faults=(Fault(FaultKind.CANARY_CRASH, 30.0, 31.0),)))
    assert outcome.broken == []
    assert find_ends(outcome) == ["RolledBack CanaryDead"]


@BOTH
def test_a_quota_that_denies_the_canary_ends_the_attempt(plan: Plan) -> None:
    outcome = run(replace(plan, faults=(Fault(FaultKind.QUOTA, 10.0, 20.0),)))
    assert outcome.broken == []
    assert find_ends(outcome) == ["RolledBack QuotaExceeded"]


@pytest.mark.parametrize("at", [10.5, 11.5, 17.0, 25.0, 40.0, 55.0, 75.0])
def test_a_route_that_is_deleted_comes_back_at_once(at: float) -> None:
    outcome = run(replace(BY_ROUTE, faults=(Fault(FaultKind.ROUTE_DELETED, at, at + 1.0),)))
    assert outcome.broken == []
    back = [float(line.split()[0]) for line in outcome.trace if "operator-1 creates httproutes/" in line]
    assert back[1] - at < 8.0  # a role may have to take over the pods that are stable now first
    assert list_phases(outcome)[-1] == "Promoted 100"
