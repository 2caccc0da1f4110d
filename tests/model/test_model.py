"""Every interleaving within the bounds of `worlds.py`: the safety rules hold, and every state comes to rest."""

import pytest
from tests.model.checker import Checker, Result
from tests.model.convergence import measure
from tests.model.worlds import CHECKS, OWN_PODS, Check


@pytest.fixture(scope="module", params=(*CHECKS, *OWN_PODS), ids=str)
def result(request: pytest.FixtureRequest) -> Result:
    check: Check = request.param
    return Checker(check.start, check.bounds, check.rules).run()


def test_no_interleaving_breaks_a_rule(result: Result) -> None:
    assert not result.broken, str(result)
    assert result.states > 100


def test_every_state_comes_to_rest_and_a_bad_canary_loses_its_traffic_in_few_writes(result: Result) -> None:
    longest = measure(result.list_reached())
    assert not longest.broken, str(longest)
    assert longest.writes > 0
