"""How many pods a canary of its own and stable have, and which weights such numbers can come near."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspy_operator.api.choices import Approximation, Router
from dspy_operator.rollout.sizing import NEAR, describe_unreachable, get_canary_size, get_stable_size
from dspy_operator.rollout.strategy import Routing

GATEWAY, REPLICAS = Routing(Router.GATEWAY), Routing(Router.REPLICAS)
ALLOW = Routing(Router.REPLICAS, approximation=Approximation.ALLOW)
ROUTINGS = st.builds(
    Routing,
    st.sampled_from(Router),
    st.none() | st.integers(1, 1000),
    st.sampled_from(Approximation),
)


@pytest.mark.parametrize(
    ("replicas", "weight", "routing", "canary", "stable"),
    [
        (10, 10, GATEWAY, 1, 10),
        (10, 11, GATEWAY, 2, 10),
        (2, 10, GATEWAY, 1, 2),
        (10, 50, GATEWAY, 5, 10),
        (10, 100, GATEWAY, 10, 10),
        (0, 50, GATEWAY, 0, 0),
        (10, 10, REPLICAS, 1, 9),
        (10, 14, REPLICAS, 1, 9),
        (10, 50, REPLICAS, 5, 5),
        (10, 100, REPLICAS, 10, 10),
        (2, 10, REPLICAS, 1, 6),
        (2, 10, ALLOW, 1, 1),
        (1, 10, ALLOW, 1, 1),
        (0, 10, REPLICAS, 0, 0),
        (10, 10, Routing(Router.GATEWAY, 3), 3, 10),
        (10, 100, Routing(Router.GATEWAY, 3), 10, 10),
    ],
)
def test_the_numbers_follow_the_weight(
    replicas: int, weight: int, routing: Routing, canary: int, stable: int
) -> None:
    assert get_canary_size(replicas, routing, weight) == canary
    assert get_stable_size(replicas, routing, weight) == stable


@given(st.integers(1, 1000), st.integers(1, 99), ROUTINGS)
def test_stable_always_has_what_its_share_needs(replicas: int, weight: int, routing: Routing) -> None:
    canary, stable = (get(replicas, routing, weight) for get in (get_canary_size, get_stable_size))
    assert canary >= 1
    assert canary + stable >= replicas
    if routing.router is Router.GATEWAY:
        assert stable == replicas
    elif routing.approximation is Approximation.REFUSE:
        assert canary * 100 <= NEAR * weight * (canary + stable) + 1e-9


@given(st.integers(0, 1000), ROUTINGS)
def test_at_0_and_100_percent_stable_has_all_its_pods(replicas: int, routing: Routing) -> None:
    assert get_stable_size(replicas, routing, 0) == get_stable_size(replicas, routing, 100) == replicas


def test_the_number_that_is_said_to_suffice_does() -> None:
    told = describe_unreachable(2, (10, 50, 100), REPLICAS)
    assert told.startswith("10 % cannot be reached by the numbers of pods: 1 of 2 is 50 %. ")
    found = re.search(r"spec\.replicas to (\d+) or more", told)
    assert found is not None
    enough = int(found[1])
    assert describe_unreachable(enough, (10, 50, 100), REPLICAS) == ""
    assert describe_unreachable(enough - 1, (10, 50, 100), REPLICAS) != ""


@pytest.mark.parametrize("routing", [GATEWAY, ALLOW])
def test_a_gateway_reaches_every_weight_and_who_allows_takes_what_there_is(routing: Routing) -> None:
    assert describe_unreachable(1, (1, 100), routing) == ""


def test_no_number_is_named_that_the_spec_cannot_have() -> None:
    told = describe_unreachable(2, (1, 100), Routing(Router.REPLICAS, 1000))
    assert "spec.replicas" not in told
    assert "spec.traffic.gateway" in told
