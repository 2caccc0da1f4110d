"""Durations, percentages and probabilities: strings for people and Kubernetes, exact values for Python.

The specification has no floats (Kubernetes API conventions); here the strings get their types.
"""

import re
from datetime import timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

DURATION_PATTERN: Final = r"^([0-9]{1,6}(\.[0-9]{1,3})?(ms|s|m|h))+$"
PERCENT_PATTERN: Final = r"^(100(\.0{1,4})?|[0-9]{1,2}(\.[0-9]{1,4})?)%$"
INCREASE_PATTERN: Final = r"^[0-9]{1,4}(\.[0-9]{1,4})?%$"
POINTS_PATTERN: Final = r"^(100(\.0{1,4})?|[0-9]{1,2}(\.[0-9]{1,4})?)$"
CONFIDENCE_PATTERN: Final = r"^0\.[5-9][0-9]{0,5}$"
SCORE_PATTERN: Final = r"^(0(\.[0-9]{1,6})?|1(\.0{1,6})?)$"
AMOUNT_PATTERN: Final = r"^[0-9]{1,9}(\.[0-9]{1,9})?$"
SIZE_PATTERN: Final = r"^[0-9]{1,9}(Ki|Mi|Gi)?$"

_UNIT_MICROSECONDS: Final = {"h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000, "ms": 1_000}
_DURATION_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_ZERO: Final = Decimal(0)
_HUNDRED: Final = Decimal(100)


@lru_cache(256)
def parse_duration(text: str) -> timedelta:
    """Read a duration such as `90s`, `1h30m` or `250ms`.

    Raises:
        ValueError: the text is no duration; the message says what one looks like.
    """
    if len(text) > 16 or not re.fullmatch(DURATION_PATTERN, text):  # noqa: PLR2004  the schema's own maxLength
        raise ValueError(f"{text!r} is not a duration such as 30s, 5m or 24h")
    parts = _DURATION_PART.findall(text)
    total = sum((Decimal(number) * _UNIT_MICROSECONDS[unit] for number, unit in parts), _ZERO)
    return timedelta(microseconds=int(total))


def format_duration(value: timedelta) -> str:
    """Write a duration in the largest units that are exact: 5400 s is `1h30m`, 0 is `0s`."""
    rest = value // timedelta(microseconds=1)
    text = ""
    for unit, size in _UNIT_MICROSECONDS.items():
        count, rest = divmod(rest, size)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def parse_percent(text: str) -> Decimal:
    """Read `5%` as the fraction 0.05.

    Raises:
        ValueError: the text is no percentage from 0% to 9999%.
    """
    if not re.fullmatch(INCREASE_PATTERN, text):
        raise ValueError(f"{text!r} is not a percentage such as 5% or 12.5%")
    return Decimal(text.removesuffix("%")) / _HUNDRED


def format_percent(value: Decimal) -> str:
    """Write the fraction 0.05 as `5%`."""
    return f"{_plain(value * _HUNDRED)}%"


def parse_points(text: str) -> Decimal:
    """Read percentage points: `1` (one point) as the fraction 0.01.

    Raises:
        ValueError: the text is no number from 0 to 100.
    """
    if not re.fullmatch(POINTS_PATTERN, text):
        raise ValueError(f"{text!r} is not a number of percentage points such as 1 or 0.5")
    return Decimal(text) / _HUNDRED


def format_points(value: Decimal) -> str:
    """Write the fraction 0.01 as `1` (one percentage point)."""
    return _plain(value * _HUNDRED)


def parse_confidence(text: str) -> Decimal:
    """Read a confidence such as `0.95`.

    Raises:
        ValueError: the text is no probability from 0.5 to 0.999999.
    """
    if not re.fullmatch(CONFIDENCE_PATTERN, text):
        raise ValueError(f"{text!r} is not a confidence such as 0.95 (at least 0.5, below 1)")
    return Decimal(text)


def parse_score(text: str) -> Decimal:
    """Read a score from 0 to 1, such as `0.70`.

    Raises:
        ValueError: the text is no such number.
    """
    if not re.fullmatch(SCORE_PATTERN, text):
        raise ValueError(f"{text!r} is not a score from 0 to 1, such as 0.70")
    return Decimal(text)


def parse_amount(text: str) -> Decimal:
    """Read an amount of money such as `0.002`.

    Raises:
        ValueError: the text is no such number.
    """
    if not re.fullmatch(AMOUNT_PATTERN, text):
        raise ValueError(f"{text!r} is not an amount such as 0.002")
    return Decimal(text)


def _plain(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _quantity(parse: Any, kind: type) -> BeforeValidator:
    """Take the string of the wire, or the value itself; anything else is refused with a sentence."""

    def read(value: object) -> object:
        if isinstance(value, kind):
            return value
        if not isinstance(value, str):
            raise ValueError(f"{value!r} must be a string")  # noqa: TRY004  pydantic reports ValueError
        return parse(value)

    return BeforeValidator(read)


def _schema(pattern: str, length: int) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "maxLength": length, "pattern": pattern})


Duration = Annotated[
    timedelta,
    _quantity(parse_duration, timedelta),
    PlainSerializer(format_duration),
    _schema(DURATION_PATTERN, 16),
]
Percent = Annotated[
    Decimal, _quantity(parse_percent, Decimal), PlainSerializer(format_percent), _schema(PERCENT_PATTERN, 10)
]
"""A share from 0% to 100%, as a fraction."""
Increase = Annotated[
    Decimal, _quantity(parse_percent, Decimal), PlainSerializer(format_percent), _schema(INCREASE_PATTERN, 10)
]
"""A relative increase, as a fraction; may be above 100%."""
Points = Annotated[
    Decimal, _quantity(parse_points, Decimal), PlainSerializer(format_points), _schema(POINTS_PATTERN, 8)
]
"""Percentage points, as a fraction."""
Confidence = Annotated[
    Decimal, _quantity(parse_confidence, Decimal), PlainSerializer(_plain), _schema(CONFIDENCE_PATTERN, 8)
]
Score = Annotated[
    Decimal, _quantity(parse_score, Decimal), PlainSerializer(_plain), _schema(SCORE_PATTERN, 8)
]
