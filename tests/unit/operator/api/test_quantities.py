"""Strings of the wire and their exact values, both ways."""

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspy_operator.api import quantities as q


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("5m", 300),
        ("24h", 86_400),
        ("1h30m", 5_400),
        ("250ms", 0.25),
        ("1.5h", 5_400),
        ("0s", 0),
    ],
)
def test_a_duration_is_read_exactly(text: str, seconds: float) -> None:
    assert q.parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["", "5", "5 m", "-5m", "m", "1d", "5m ", "1234567s", "1h1h1h1h1h1h1h1h1h", "٣s"]
)
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration such as 30s, 5m or 24h"):
        q.parse_duration(text)


@given(st.integers(min_value=0, max_value=10**9).map(lambda ms: timedelta(milliseconds=ms)))
def test_a_written_duration_reads_as_itself(value: timedelta) -> None:
    assert q.parse_duration(q.format_duration(value)) == value


def test_equal_durations_are_written_alike() -> None:
    assert q.format_duration(q.parse_duration("60s")) == q.format_duration(q.parse_duration("1m")) == "1m"


@given(st.decimals(min_value=0, max_value=99, places=4))
def test_a_written_percentage_reads_as_itself(value: Decimal) -> None:
    fraction = value / 100
    assert q.parse_percent(q.format_percent(fraction)) == fraction


def test_percentages_and_points_are_fractions() -> None:
    assert q.parse_percent("12.5%") == Decimal("0.125")
    assert q.parse_points("1") == Decimal("0.01")
    assert q.format_points(Decimal("0.006")) == "0.6"
    assert q.format_percent(Decimal("0.2")) == "20%"
    assert q.format_percent(Decimal(0)) == "0%"


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (q.parse_percent, "5"),
        (q.parse_percent, "-1%"),
        (q.parse_points, "1%"),
        (q.parse_points, "101"),
        (q.parse_confidence, "1.0"),
        (q.parse_confidence, "0.4"),
        (q.parse_score, "1.1"),
        (q.parse_amount, "1e3"),
    ],
)
def test_what_is_out_of_range_is_refused_by_its_text(parse: object, text: str) -> None:
    assert callable(parse)
    with pytest.raises(ValueError, match=f"'{text}' is not"):
        parse(text)
