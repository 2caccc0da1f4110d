"""The parts of the stories' harness that judge: a harness that cannot fail proves nothing."""

from __future__ import annotations

from collections import Counter

import pytest
from tests.e2e.harness.traffic import Split
from tests.e2e.harness.views import read_deployment
from tests.e2e.harness.waiting import NotSeenError, wait_for, watch_for


@pytest.mark.parametrize(("canary", "weight"), [(100, 10), (82, 10), (512, 50)])
def test_a_split_near_its_weight_is_accepted(canary: int, weight: int) -> None:
    Split(Counter({"c": canary, "s": 1000 - canary}), 30).assert_share("c", weight)


@pytest.mark.parametrize(("canary", "weight"), [(0, 10), (160, 10), (100, 50), (0, 50)])
def test_a_split_far_from_its_weight_is_refused(canary: int, weight: int) -> None:
    with pytest.raises(AssertionError, match=f"{weight} % is due"):
        Split(Counter({"c": canary, "s": 1000 - canary}), 30).assert_share("c", weight)


def test_too_few_answers_prove_no_split() -> None:
    with pytest.raises(AssertionError, match="only 40 answers"):
        Split(Counter({"c": 4, "s": 36}), 2).assert_share("c", 10)


def test_a_wait_that_ends_in_vain_says_for_what_and_what_was_there() -> None:
    with pytest.raises(NotSeenError, match=r"(?s)waited 0 s for a miracle.*nothing yet"):
        wait_for("a miracle", lambda: None, 0, tell=lambda: "nothing yet", poll=0)


def test_a_watch_fails_at_the_first_look_that_is_otherwise() -> None:
    answers = iter([True, True, False])
    with pytest.raises(NotSeenError, match="the weight should have stayed"):
        watch_for("the weight", lambda: next(answers), 10, poll=0)


def test_a_resource_without_a_status_is_not_healthy() -> None:
    found = read_deployment({"metadata": {"generation": 1}, "spec": {}})
    assert not found.is_healthy
    assert found.get("Ready").status == ""
