"""The simulator notices when the operator is broken: see `mutants.py`."""

from dataclasses import replace

import pytest
from tests.simulation.keeping import get_invariant
from tests.simulation.mutants import MUTANTS
from tests.simulation.plan import Act, ActKind, Plan, build_plan
from tests.simulation.run import run

EDITED = Plan(1, (Act(ActKind.APPLY, 0.0, "a"), Act(ActKind.APPLY, 8.0, "b"), Act(ActKind.APPLY, 20.0, "c")))
REMOVED = replace(EDITED, acts=(*EDITED.acts[:2], Act(ActKind.REMOVE, 20.0, "Foreground")))
LOST = replace(
    EDITED,
    acts=(*EDITED.acts[:2], *(Act(ActKind.DELETE, at, "revision") for at in (40.0, 41.0))),
    scores=(("a", 0.8), ("b", 0.4)),
)
BY_PODS = replace(
    EDITED,
    acts=(EDITED.acts[0], Act(ActKind.APPLY, 8.0, "b1")),
    scores=(("a", 0.8), ("b", 0.95)),
    replicas=4,
)
BY_ROUTE = replace(BY_PODS, gateway=True, replicas=2)
WORSE = replace(BY_ROUTE, scores=(("a", 0.8), ("b", 0.4)))
PLANS = (EDITED, REMOVED, LOST, BY_PODS, BY_ROUTE, WORSE, *(build_plan(seed) for seed in range(40)))


@pytest.mark.parametrize("name", list(MUTANTS))
def test_a_broken_operator_is_noticed(name: str) -> None:
    mutant, expected = MUTANTS[name]
    with mutant():
        assert any(get_invariant(run(plan)) in expected for plan in PLANS)
