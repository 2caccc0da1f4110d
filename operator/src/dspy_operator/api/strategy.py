"""`spec.strategy` and `spec.regression` as the user writes them: how a canary takes traffic, what judges it.

Nothing is filled in here; `defaults.py` does that.
"""

from enum import StrEnum
from typing import Final

from pydantic import Field

from dspy_operator.api.choices import Approval, Mode, OnDeadline
from dspy_operator.api.fields import Attribute, KeyRef, Model, rules
from dspy_operator.api.metric import MetricSpec
from dspy_operator.api.quantities import (
    Confidence,
    Duration,
    Percent,
    Score,
)


class OnNewRevision(StrEnum):
    """What a new revision does to the attempt that is open."""

    SUPERSEDE = "Supersede"
    QUEUE = "Queue"


class ReadyWhen(StrEnum):
    """What Ready=True means while a canary is in progress."""

    PROMOTED = "Promoted"
    SERVING = "Serving"


class Step(Model):
    """One position of the rollout."""

    model_config = Model.model_config | {
        "json_schema_extra": rules(
            (
                (
                    "!has(self.deadline) || !has(self.minDuration) || "
                    "duration(self.deadline) >= duration(self.minDuration)"
                ),
                "deadline must not be shorter than minDuration",
            )
        )
    }

    weight: int = Field(ge=1, le=100, description="Percent of the traffic for the canary.")
    min_duration: Duration | None = Field(
        None, description="Observed time before the gate opens. Default: 0s."
    )
    min_samples: int | None = Field(
        None,
        ge=0,
        le=100_000_000,
        description="Samples of the canary, per metric, before the gate opens. Default: the metric's own.",
    )
    deadline: Duration | None = Field(
        None,
        description="When onDeadline decides; restarts at resume. Default: max(24h, 2 x minDuration).",
    )
    approval: Approval | None = Field(
        None, description="Manual: when the gate is open, wait for the promote command. Default: Auto."
    )


_STEPS_RULES: Final = rules(
    ("self[size(self)-1].weight == 100", "the last step must have weight 100"),
    (
        "self.map(s, s.weight).isSorted() && self.all(x, self.exists_one(y, y.weight == x.weight))",
        "weights must strictly increase",
    ),
    (
        (
            "!has(self[size(self)-1].minDuration) && !has(self[size(self)-1].deadline) && "
            "!has(self[size(self)-1].minSamples) && !has(self[size(self)-1].approval)"
        ),
        "the last step takes nothing but its weight: no minDuration, minSamples, deadline or approval",
    ),
) | {"x-kubernetes-list-type": "atomic"}


class Analysis(Model):
    """What is measured and what decides."""

    interval: Duration | None = Field(
        None,
        description="Time between looks, at least 1s. Default: 30s.",
        json_schema_extra=rules(("duration(self) >= duration('1s')", "interval must be at least 1s")),
    )
    mode: Mode | None = Field(
        None,
        description="Evidence: a sequential test; Threshold: the literal rule at a look. Default: Evidence.",
    )
    confidence: Confidence | None = Field(
        None, description="1 minus the chance of a wrong decision by evidence. Default: 0.95."
    )
    on_deadline: OnDeadline | None = Field(
        None,
        description="What ends an undecided step: Threshold, Hold, Promote or Rollback. Default: Threshold.",
    )
    metrics: list[MetricSpec] | None = Field(
        None,
        min_length=1,
        max_length=10,
        description="What judges. Default: score if there is a source of scores, latency and errors.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )


class Canary(Model):
    """A rollout in steps."""

    steps: list[Step] | None = Field(
        None,
        min_length=1,
        max_length=10,
        description="Strictly increasing weights up to 100. "
        "Default: 10 (minDuration 1h, minSamples 100, deadline 72h), 50 (1h, deadline 24h), 100.",
        json_schema_extra=_STEPS_RULES,
    )
    analysis: Analysis | None = Field(None, description="What is measured and what decides.")
    bake: Duration | None = Field(
        None,
        description="Observed time at 100 % during which the previous revision stays ready. Default: 30m.",
    )
    ready_deadline: Duration | None = Field(
        None,
        description="Time for the canary to become ready before it is rolled back. Default: 10m.",
        json_schema_extra=rules(("duration(self) >= duration('1s')", "readyDeadline must be at least 1s")),
    )


class BlueGreen(Model):
    """A preview at weight 0, then 100 at once."""

    preview_duration: Duration | None = Field(None, description="Length of the preview. Default: 5m.")
    auto_promote: bool | None = Field(
        None, description="false: wait for the promote command after the preview. Default: true."
    )
    analysis: Analysis | None = Field(None, description="What is measured and what decides in the bake.")
    bake: Duration | None = Field(
        None,
        description="Observed time at 100 % during which the previous revision stays ready. Default: 30m.",
    )
    ready_deadline: Duration | None = Field(
        None,
        description="Time for the preview to become ready before it is given up. Default: 10m.",
        json_schema_extra=rules(("duration(self) >= duration('1s')", "readyDeadline must be at least 1s")),
    )


class RollbackWindow(Model):
    """Going back quickly."""

    revisions: int | None = Field(
        None,
        ge=0,
        le=100,
        description="Going back to one of so many promoted revisions skips steps and analysis. Default: 3.",
    )


class Strategy(Model):
    """How a new revision takes over."""

    model_config = Model.model_config | {
        "json_schema_extra": rules(
            (
                "!(has(self.canary) && has(self.blueGreen))",
                "strategy takes canary or blueGreen, not both",
            )
        )
    }

    canary: Canary | None = Field(None, description="A rollout in steps. Default: canary with all defaults.")
    blue_green: BlueGreen | None = Field(None, description="A preview, then 100 at once.")
    rollback_window: RollbackWindow | None = Field(None, description="Going back quickly.")
    on_new_revision: OnNewRevision | None = Field(
        None,
        description="Supersede the open attempt, or Queue until it ends. Default: Supersede.",
    )
    ready_when: ReadyWhen | None = Field(
        None,
        description="Promoted: Ready is Unknown while a canary is in progress; Serving: it stays True. "
        "Default: Promoted.",
    )


class Dataset(Model):
    """Examples with gold labels."""

    config_map: KeyRef = Field(description="ConfigMap key with one JSON example a line.")


class Regression(Model):
    """A gate before any traffic: both programs on the same examples."""

    dataset: Dataset = Field(description="The examples.")
    metric: Attribute = Field(description="package.module:function of (example, prediction, trace=None).")
    max_drop: Percent | None = Field(
        None, description="Relative drop, paired by example, that is too much. Default: 2%."
    )
    min_score: Score | None = Field(
        None, description="Floor of the mean; gates the first revision too. Default: none."
    )
    deadline: Duration | None = Field(None, description="Time for a verdict. Default: 30m.")
