"""The text of queries: whatever the names are, there are as many matchers and they mean those names."""

import re

from hypothesis import given
from hypothesis import strategies as st

from dspy_operator.api.names import PROVIDER_CLASSES, Metric
from dspy_operator.metrics.queries import (
    any_of,
    bound_forms,
    buckets_query,
    counters_query,
    history_query,
    quote,
    state_query,
)

LITERAL = re.compile(r'"(?:[^"\\\n]|\\.)*"')
names = st.text(st.characters(codec="utf-8"), max_size=20)
several = st.lists(names, min_size=1, max_size=4)


def unquote(literal: str) -> str:
    """What PromQL reads in a literal of ours."""
    assert LITERAL.fullmatch(literal), literal
    simple = {"n": "\n", '"': '"', "\\": "\\"}

    def replace(match: re.Match[str]) -> str:
        return chr(int(match[1], 16)) if match[1] else simple[match[2]]

    return re.sub(r"\\(?:U([0-9a-f]{8})|(.))", replace, literal[1:-1])


def skeleton(query: str) -> str:
    """The query without what its literals say."""
    return LITERAL.sub('""', query)


@given(names)
def test_a_quoted_value_reads_back_as_itself(value: str) -> None:
    assert unquote(quote(value)) == value


@given(several, names)
def test_an_alternative_matches_exactly_its_values(values: list[str], other: str) -> None:
    pattern = re.compile(unquote(any_of(values)))
    assert all(pattern.fullmatch(value) for value in values)
    assert bool(pattern.fullmatch(other)) == (other in values)


@given(several, several, several)
def test_no_name_changes_the_shape_of_a_query(
    namespaces: list[str], programs: list[str], more: list[str]
) -> None:
    plain = ["a"]
    assert skeleton(state_query(namespaces, programs)) == skeleton(state_query(plain, plain))
    assert skeleton(counters_query(namespaces, programs, more)) == skeleton(
        counters_query(plain, plain, plain)
    )
    assert skeleton(buckets_query(namespaces, programs, more)) == skeleton(buckets_query(plain, plain, plain))
    history = history_query(more[0], (namespaces[0], programs[0]), more[-1], "le")
    assert skeleton(history) == skeleton(history_query("a", ("a", "a"), "a", "le"))


def test_a_bound_is_asked_for_in_both_ways_of_writing_it() -> None:
    assert bound_forms("1.0") == bound_forms("1") == {"1", "1.0"}
    assert bound_forms("0.25") == {"0.25"}
    assert bound_forms("+Inf") == {"+Inf"}


def test_without_bounds_every_bound_is_asked_for() -> None:
    assert 'le=~".+"' in buckets_query(["ml"], ["triage"], [])
    assert 'le=~"\\\\+Inf|1|1\\\\.0"' in buckets_query(["ml"], ["triage"], ["1.0"])


def test_of_the_errors_only_those_of_the_provider_are_asked_for_and_a_users_labels_are_left_alone() -> None:
    counters, errors = counters_query(["ml"], ["triage"], ["refusals_total"]).split(" or ")
    assert Metric.PROGRAM_ERRORS not in counters
    assert "refusals_total" in counters
    assert "class" not in counters
    asked = re.search(r'class=~("[^"]*")', errors)
    assert asked is not None
    assert set(unquote(asked[1]).split("|")) == PROVIDER_CLASSES


def test_of_a_programs_states_only_the_present_one_is_asked_for() -> None:
    _, gauges, state, clock = state_query(["ml"], ["triage"]).split(" or ")
    assert Metric.PROGRAM_LOADED in gauges
    assert Metric.PROGRAM_STATE not in gauges
    assert (state.startswith(f"({Metric.PROGRAM_STATE}{{"), state[-6:]) == (True, " == 1)")
    assert clock == "vector(time())"
