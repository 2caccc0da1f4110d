"""The codec: every float comes back bit for bit, and what has another shape is refused."""

import json
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspy_operator.rollout.judging import Counts, MetricConfig, MetricType, StepConfig
from dspy_operator.rollout.judging.codec import Json, decode, encode
from dspy_operator.rollout.judging.moments import Moments

finite = st.floats(allow_nan=False, allow_infinity=False)


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


@given(finite)
def test_a_float_comes_back_bit_for_bit(value: float) -> None:
    again = decode(Moments, json.loads(json.dumps(encode(Moments(value, 0.0, -0.0)))))
    assert bits(again.n) == bits(value)
    assert bits(again.squares) == bits(-0.0)


@given(finite, st.none() | finite, st.lists(st.tuples(finite, finite), max_size=3))
def test_counts_come_back_as_they_were(
    n: float, squares: float | None, histogram: list[tuple[float, float]]
) -> None:
    counts = Counts(n, sumsq=squares, histogram=tuple(histogram))
    assert decode(Counts, json.loads(json.dumps(encode(counts)))) == counts


def test_enums_and_flags_come_back_as_they_were() -> None:
    metric = MetricConfig("score", MetricType.SCORE, 0.05, min_samples=7, dry_run=True)
    again = decode(MetricConfig, json.loads(json.dumps(encode(metric))))
    assert again == metric
    assert isinstance(again.type, MetricType)
    assert type(again.min_samples) is int


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_has_not_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="has no JSON"):
        encode(Moments(value))


def test_another_kind_of_value_is_refused() -> None:
    with pytest.raises(TypeError, match="set"):
        encode({1, 2})


@pytest.mark.parametrize(
    "value",
    [
        [1, 2],
        [1, 2, 3, 4],
        {"n": 1},
        [True, 2, 3],
        ["1", 2, 3],
        [None, 2, 3],
        None,
    ],
)
def test_what_has_another_shape_is_refused(value: Json) -> None:
    with pytest.raises(ValueError, match="Moments"):
        decode(Moments, value)


@pytest.mark.parametrize("samples", [1.5, True, "7", None])
def test_an_integer_is_no_other_kind_of_number(samples: Json) -> None:
    fields = encode(StepConfig(10))
    assert isinstance(fields, list)
    assert decode(StepConfig, fields) == StepConfig(10)
    fields[2] = samples
    with pytest.raises(ValueError, match="StepConfig"):
        decode(StepConfig, fields)
