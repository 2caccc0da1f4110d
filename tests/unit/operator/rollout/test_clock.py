"""Times as text."""

import pytest

from dspy_operator.rollout.clock import format_exact, format_time, parse_time

DAWN = 1_800_000_000.0


def test_times_are_written_as_kubernetes_writes_them() -> None:
    assert format_time(DAWN + 0.9) == "2027-01-15T08:00:00Z"
    assert format_exact(DAWN + 0.25) == "2027-01-15T08:00:00.250Z"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2027-01-15T08:00:00Z", DAWN),
        ("2027-01-15T10:00:00+02:00", DAWN),
        ("2027-01-15T08:00:00.5Z", DAWN + 0.5),
        ("2027-01-15T08:00:00", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_only_a_time_with_a_zone_is_a_time(text: str, seconds: float | None) -> None:
    assert parse_time(text) == seconds


def test_what_was_written_exactly_is_read_back() -> None:
    assert parse_time(format_exact(DAWN + 0.125)) == DAWN + 0.125
