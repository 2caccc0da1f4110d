"""Every interleaving within the bounds of `worlds.py`: the safety rules hold, and every state comes to rest."""

import pytest
from tests.model.checker import Checker, Result
from tests.model.convergence import (
    MOST_AFTER_TAKEOVER,
    MOST_UNTIL_SAFE,
    MOST_WRITES,
    Convergence,
    count_until_safe,
    is_judged,
    is_stamped,
)
from tests.model.worlds import CHECKS, Check


@pytest.fixture(scope="module", params=CHECKS, ids=str)
def result(request: pytest.FixtureRequest) -> Result:
    check: Check = request.param
    return Checker(check.start, check.bounds).run()


def test_no_interleaving_breaks_a_rule(result: Result) -> None:
    assert not result.broken, str(result)
    assert result.states > 200


def test_every_state_comes_to_rest_in_thirty_writes(result: Result) -> None:
    longest = Convergence().find_longest(result.list_reached())
    assert not longest.stuck, "\n".join(longest.stuck)
    assert longest.writes <= MOST_WRITES, "\n".join(longest.path)


def test_a_judge_who_is_against_it_takes_the_traffic_away_in_five_writes(result: Result) -> None:
    judged = [(cluster, epoch) for cluster, epoch in result.list_reached() if is_judged(cluster)]
    assert judged
    for cluster, epoch in judged:
        most = MOST_UNTIL_SAFE if is_stamped(cluster, epoch) else MOST_AFTER_TAKEOVER
        count = count_until_safe(cluster, epoch)
        assert count is not None, cluster
        assert count <= most, cluster
