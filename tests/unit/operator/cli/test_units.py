"""Numbers in words."""

import pytest

from dspy_operator.cli.views.units import change


@pytest.mark.parametrize(
    ("drop", "words"),
    [
        ("1.2%", "worse by 1.2%"),
        ("-0.4%", "better by 0.4%"),
        ("10.0 points", "worse by 10.0 points"),
        ("-0.5 points", "better by 0.5 points"),
        ("0.0%", "no difference"),
        ("-0.0%", "no difference"),
        ("0.0 points", "no difference"),
        ("", ""),
    ],
)
def test_a_drop_is_told_in_words(drop: str, words: str) -> None:
    assert change(drop) == words
