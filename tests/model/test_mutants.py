"""Every fault of `mutants.py` is found, by the rule that is named there."""

import pytest
from tests.model.checker import Checker
from tests.model.mutant import Mutant
from tests.model.mutants import MOST_STATES, MUTANTS, find


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
