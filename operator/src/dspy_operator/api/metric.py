"""One entry of `analysis.metrics`: a measurement that judges the canary against stable."""

from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field, StringConstraints

from dspy_operator.api.choices import MetricType, OnMissing
from dspy_operator.api.fields import Model, rules
from dspy_operator.api.quantities import (
    AMOUNT_PATTERN,
    DURATION_PATTERN,
    PERCENT_PATTERN,
    SCORE_PATTERN,
    Increase,
    Percent,
    Points,
    parse_amount,
    parse_duration,
    parse_percent,
    parse_points,
    parse_score,
)

LimitText = Annotated[str, StringConstraints(max_length=16, pattern=r"^[0-9.]+(%|[0-9.hms]*)$")]
MetricName = Annotated[str, StringConstraints(max_length=40, pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$")]
SeriesName = Annotated[str, StringConstraints(max_length=128, pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*_total$")]


class ScoreChoice(StrEnum):
    """Which scores are read."""

    AUTO = "Auto"
    FUNCTION = "Function"
    JUDGE = "Judge"
    FEEDBACK = "Feedback"


_METRIC_RULES: Final = rules(
    ("self.type == 'Score' || !has(self.maxDrop)", "maxDrop is for type Score only"),
    (
        "self.type in ['LatencyP95', 'CostPerRequest'] || !has(self.maxIncrease)",
        "maxIncrease is for types LatencyP95 and CostPerRequest only",
    ),
    (
        "self.type in ['ErrorRate', 'Ratio'] || !has(self.maxIncreasePoints)",
        "maxIncreasePoints is for types ErrorRate and Ratio only",
    ),
    (
        "(self.type == 'Ratio') == has(self.series)",
        "series is required for type Ratio and is for no other type",
    ),
    (
        "self.type != 'CostPerRequest' || (has(self.dryRun) && self.dryRun)",
        "type CostPerRequest needs dryRun: true, it never decides",
    ),
    ("self.type == 'Score' || !has(self.source)", "source is for type Score only"),
    (
        (
            "!has(self.tolerance) || (self.type == 'Score' && self.tolerance.endsWith('%')) || "
            "(self.type in ['ErrorRate', 'Ratio'] && !self.tolerance.endsWith('%'))"
        ),
        "tolerance is a percentage for type Score, points for ErrorRate and Ratio, and for no other type",
    ),
    (
        (
            "!has(self.tolerance) || double(self.tolerance.replace('%', '')) <= "
            "(self.type == 'Score' ? (has(self.maxDrop) ? double(self.maxDrop.replace('%', '')) : 5.0) : "
            "(has(self.maxIncreasePoints) ? double(self.maxIncreasePoints) : 1.0))"
        ),
        "tolerance must not exceed the allowed change, maxDrop or maxIncreasePoints",
    ),
    (
        f"!has(self.min) || (self.type == 'Score' && self.min.matches(r'{SCORE_PATTERN}'))",
        "min is for type Score only, a number from 0 to 1",
    ),
    (
        (
            "!has(self.max) || "
            f"(self.type == 'LatencyP95' && self.max.matches(r'{DURATION_PATTERN}')) || "
            f"(self.type in ['ErrorRate', 'Ratio'] && self.max.matches(r'{PERCENT_PATTERN}')) || "
            f"(self.type == 'CostPerRequest' && self.max.matches(r'{AMOUNT_PATTERN}'))"
        ),
        (
            "max is a duration for type LatencyP95, a percentage for ErrorRate and Ratio, US dollars for "
            "CostPerRequest, and for no other type"
        ),
    ),
)


class MetricSpec(Model):
    """One measurement that judges the canary against stable."""

    model_config = Model.model_config | {"json_schema_extra": _METRIC_RULES}

    name: MetricName = Field(description="Name in status and messages, unique in the list.")
    type: MetricType = Field(description="Score, LatencyP95, ErrorRate, Ratio or CostPerRequest.")
    max_drop: Percent | None = Field(
        None, description="Score: relative drop below stable that is too much. Default: 5%."
    )
    max_increase: Increase | None = Field(
        None,
        description="LatencyP95, CostPerRequest: relative increase that is too much. Default: 20% and 30%.",
    )
    max_increase_points: Points | None = Field(
        None, description="ErrorRate, Ratio: increase in percentage points that is too much. Default: 1."
    )
    tolerance: LimitText | None = Field(
        None,
        description="Half the width of the zone around the allowed change in which either answer is right; "
        "0 is strict and slow. Percent for Score, points for others. Default: 0.6 x the allowed change.",
    )
    min_samples: int | None = Field(
        None, ge=1, le=100_000_000, description="Samples of the canary before the gate opens. Default: 50."
    )
    source: ScoreChoice | None = Field(
        None, description="Score: Function, Judge, Feedback, or Auto, the first that has data. Default: Auto."
    )
    series: SeriesName | None = Field(None, description="Ratio: a counter registered by the user's program.")
    on_missing: OnMissing | None = Field(
        None,
        description="Without samples: Hold the rollout, or Skip the metric with an event. Default: Hold.",
    )
    min: LimitText | None = Field(
        None, description="Score: absolute floor, checked at each gate. Default: none."
    )
    max: LimitText | None = Field(
        None,
        description="Absolute ceiling, checked at each gate: duration, percentage or dollars. Default: none.",
    )
    dry_run: bool | None = Field(None, description="Measure and report, never decide. Default: false.")

    @property
    def margin(self) -> Decimal | None:
        """The allowed change as a fraction: 0.05 for `5%`, 0.01 for one point; None if not given."""
        match self.type:
            case MetricType.SCORE:
                return self.max_drop
            case MetricType.LATENCY_P95 | MetricType.COST_PER_REQUEST:
                return self.max_increase
            case MetricType.ERROR_RATE | MetricType.RATIO:
                return self.max_increase_points

    @property
    def tolerance_fraction(self) -> Decimal | None:
        """The tolerance as a fraction, like `margin`; None if not given or not for this type."""
        if self.tolerance is None:
            return None
        return (
            parse_percent(self.tolerance) if self.type is MetricType.SCORE else parse_points(self.tolerance)
        )

    @property
    def floor(self) -> Decimal | None:
        """`min` as a number from 0 to 1, None if not given."""
        return None if self.min is None else parse_score(self.min)

    @property
    def ceiling(self) -> Decimal | None:
        """`max` in seconds (LatencyP95), as a fraction (rates) or in dollars; None if not given."""
        if self.max is None:
            return None
        match self.type:
            case MetricType.LATENCY_P95:
                return Decimal(parse_duration(self.max) // timedelta(microseconds=1)) / 1_000_000
            case MetricType.ERROR_RATE | MetricType.RATIO:
                return parse_percent(self.max)
            case MetricType.COST_PER_REQUEST:
                return parse_amount(self.max)
            case MetricType.SCORE:
                return parse_score(self.max)
