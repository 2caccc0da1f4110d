"""Every fault of `mutants.py` is found, by the rule that is named there."""

import pytest
from tests.model.checker import Checker, Result
from tests.model.convergence import find_unconvergent
from tests.model.mutants import MUTANTS, Mutant

MOST_STATES = 60_000


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_mutant_is_found(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant.patch(monkeypatch)
    result = find(mutant)
    assert result.rule == mutant.rule, str(result)
    assert len(result.trace) <= mutant.steps, str(result)


def test_the_core_without_a_fault_passes_every_check_of_the_mutants() -> None:
    for check in {str(mutant.check): mutant.check for mutant in MUTANTS}.values():
        result = Checker(check.start, check.bounds).run(most=MOST_STATES)
        assert not result.broken, str(result)


def find(mutant: Mutant) -> Result:
    """The first broken rule of safety, else the first state that does not come to rest."""
    result = Checker(mutant.check.start, mutant.check.bounds, mutant.rules).run(most=MOST_STATES)
    if not result.broken:
        result.broken = find_unconvergent(result.list_reached())
    return result
