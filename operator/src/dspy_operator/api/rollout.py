"""DSPyRollout: one attempt. Its spec is frozen at the opening, its status is the record and the evidence."""

from typing import Annotated, Any

from pydantic import Field, StringConstraints, ValidationError

from dspy_operator.api.choices import Approval, Approximation, Mode, OnDeadline, OnMissing, Router
from dspy_operator.api.fields import (
    Attribute,
    Model,
    RevisionHash,
    Sha256,
    Text,
    Time,
    Weight,
    Word,
    rules,
)
from dspy_operator.api.metric import MetricSpec
from dspy_operator.api.quantities import Confidence, Duration, Percent
from dspy_operator.api.spec import ObjectMeta, build_invalid
from dspy_operator.api.status import ChildName, HandledCommands, Version
from dspy_operator.api.strategy import Regression

MAX_RECORD = 65_536
JsonText = Annotated[str, StringConstraints(max_length=MAX_RECORD)]


class RevisionRef(Model):
    """One of the two revisions of an attempt."""

    revision: RevisionHash = Field(description="Hash of workload and artifact.")
    workload: RevisionHash = Field(description="Hash of what its pods run.")
    module: Attribute = Field(description="package.module:Attribute of the program.")
    sha256: Sha256 = Field(description="Digest of its artifact.")
    version: Version = Field(description="First 12 hex of the digest.")


class FilledStep(Model):
    """A step with every default in place. Weight 100 is no judged step: its times are 0."""

    weight: int = Field(ge=1, le=100, description="Percent of the traffic for the canary.")
    min_duration: Duration = Field(description="Observed time before the gate opens.")
    min_samples: int = Field(ge=0, description="Samples of the canary, per metric, before the gate opens.")
    deadline: Duration = Field(description="When onDeadline decides.")
    approval: Approval = Field(description="Whether a person must open the gate.")


class FilledMetric(MetricSpec):
    """A metric with every default in place: margin and tolerance are never None where its type has them."""

    min_samples: int = Field(ge=1, description="Samples of the canary before the gate opens.")
    on_missing: OnMissing = Field(description="What happens while there is no sample.")
    dry_run: bool = Field(description="Measure and report, never decide.")


class FilledAnalysis(Model):
    """What is measured and what decides, with every default in place."""

    interval: Duration = Field(description="Time between looks.")
    mode: Mode = Field(description="Evidence or Threshold.")
    confidence: Confidence = Field(description="1 minus the chance of a wrong decision by evidence.")
    on_deadline: OnDeadline = Field(description="What ends an undecided step.")
    metrics: list[FilledMetric] = Field(
        max_length=10,
        description="What judges.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )


class FilledPreview(Model):
    """The preview of a blue-green attempt: at weight 0, before 100 % at once."""

    duration: Duration = Field(description="Its length.")
    auto_promote: bool = Field(description="false: then wait for the promote command.")


class FilledTraffic(Model):
    """How own pods of the canary get their share, with every default in place."""

    router: Router = Field(description="Gateway: an HTTPRoute; Replicas: the numbers of pods.")
    canary_replicas: int | None = Field(
        None, ge=1, le=1000, description="Pods of the canary below 100 %. Default: what the weight asks for."
    )
    approximation: Approximation = Field(description="Refuse or Allow, where replica counts miss the weight.")


class FilledStrategy(Model):
    """The strategy of one attempt with every default in place."""

    steps: list[FilledStep] = Field(
        min_length=1,
        max_length=10,
        description="Strictly increasing weights up to 100.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    analysis: FilledAnalysis = Field(description="What is measured and what decides.")
    bake: Duration = Field(description="Observed time at 100 %.")
    ready_deadline: Duration = Field(description="Time for the canary to become ready.")
    preview: FilledPreview | None = Field(None, description="Blue-green: the preview. Default: none.")


class FilledRegression(Regression):
    """The regression gate of one attempt with every default in place."""

    max_drop: Percent = Field(description="Relative drop, paired by example, that is too much.")
    deadline: Duration = Field(description="Time for a verdict.")


class RolloutSpec(Model):
    """What the attempt is; never changes."""

    deployment: ChildName = Field(description="Name of the DSPyDeployment.")
    attempt: int = Field(ge=1, description="Number of the attempt at this revision.")
    from_: RevisionRef = Field(alias="from", description="The revision that was stable at the opening.")
    to: RevisionRef = Field(description="The revision on trial.")
    fast: bool = Field(
        description="Skips steps and analysis: the revision was promoted before, or a person asked for it."
    )
    user_header: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        None, description="Users, not requests, are split by this header."
    )
    strategy: FilledStrategy = Field(description="The strategy with every default in place.")
    traffic: FilledTraffic | None = Field(
        None, description="How own pods of the canary get their share. Default: it shares stable's pods."
    )
    regression: FilledRegression | None = Field(
        None, description="The gate before any traffic with every default in place. Default: none."
    )


class Summary(Model):
    """Two numbers for the columns."""

    score: Word | None = Field(None, description="Score against stable, such as -0.4%.")
    p95: Word | None = Field(None, description="95th percentile of latency against stable, such as +3%.")


class Samples(Model):
    """How much was measured in this step."""

    canary: int = Field(ge=0, description="Samples of the canary.", json_schema_extra={"format": "int64"})
    stable: int = Field(ge=0, description="Samples of stable.", json_schema_extra={"format": "int64"})


class Evidence(Model):
    """The sequential test; 1.0 fires."""

    rollback: Word = Field(description="Evidence for rolling back.")
    promote: Word = Field(description="Evidence for promoting.")


class MetricStatus(Model):
    """What one metric says now."""

    name: Word = Field(description="Name of the metric.")
    type: Word | None = Field(None, description="Its type.")
    verdict: Word = Field(description="RollBack, Promote, Wait or Unmeasured.")
    reason: Word | None = Field(None, description="Why, one word.")
    drop: Word | None = Field(None, description="Estimated change against stable.")
    samples: Samples | None = Field(None, description="How much was measured in this step.")
    evidence: Evidence | None = Field(None, description="The sequential test; 1.0 fires.")
    samples_needed: int | None = Field(
        None,
        ge=0,
        description="Samples of the canary until a decision is likely.",
        json_schema_extra={"format": "int64"},
    )
    dry_run: bool | None = Field(None, description="Reported only.")
    message: Text | None = Field(None, description="A sentence for people.")


class DecisionStatus(Model):
    """What the rollout does now."""

    action: Word = Field(description="Hold, Advance, Promote or RollBack.")
    reason: Word = Field(description="Why, one word.")
    message: Annotated[str, StringConstraints(max_length=2048)] = Field(description="Why, for people.")
    at: Time = Field(description="When.")


class Entry(Model):
    """One change of phase, step or weight, with the numbers behind it."""

    at: Time = Field(description="When.")
    number: int = Field(ge=0, description="Number of the decision.")
    phase: Word = Field(description="Phase entered.")
    step: int = Field(ge=0, description="Step, from 1; 0 before the first.")
    weight: Weight = Field(description="Percent of the traffic for the canary.")
    reason: Word = Field(description="Why, one word.")
    message: Text = Field(description="Why, for people, with the numbers.")


class RolloutStatus(Model):
    """The durable record of the attempt."""

    phase: Word | None = Field(
        None,
        description="Preparing, Regression, Stepping, Promoting, Baking, RollingBack; "
        "ends: Promoted, RolledBack, Aborted, Superseded.",
    )
    step: int | None = Field(None, ge=0, description="Position in steps, from 1; 0 before the first.")
    weight: Weight | None = Field(None, description="Percent of the traffic for the canary.")
    started_at: Time | None = Field(None, description="When the attempt was opened.")
    step_started_at: Time | None = Field(None, description="When the phase or step was entered.")
    weight_effective_at: Time | None = Field(None, description="When every ready pod used the weight.")
    finished_at: Time | None = Field(None, description="When the attempt ended.")
    outcome: Word | None = Field(None, description="The end that was decided.")
    reason: Word | None = Field(None, description="Why it is where it is, one word.")
    message: Annotated[str, StringConstraints(max_length=2048)] | None = Field(
        None, description="Why it is where it is, for people."
    )
    verdict: Word | None = Field(None, description="RollBack, Promote, Wait or Unmeasured.")
    decision_number: int | None = Field(
        None, ge=0, description="Decisions so far.", json_schema_extra={"format": "int64"}
    )
    epoch: int | None = Field(
        None,
        ge=0,
        description="Epoch of the operator that wrote last.",
        json_schema_extra={"format": "int64"},
    )
    awaiting_promotion: bool | None = Field(
        None, description="The gate is open and waits for the promote command."
    )
    held: bool | None = Field(None, description="Paused by the user.")
    noticed: list[Word] | None = Field(
        None,
        max_length=8,
        description="Reasons of events that are given once in a step and were given in this one.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    handled_commands: HandledCommands | None = Field(
        None, description="The last 16 nonces of each command that were acted upon."
    )
    summary: Summary | None = Field(None, description="Two numbers for the columns.")
    metrics: list[MetricStatus] | None = Field(
        None,
        max_length=10,
        description="What each metric says now.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    decision: DecisionStatus | None = Field(None, description="What the rollout does now.")
    decisions: list[Entry] | None = Field(
        None,
        max_length=64,
        description="Every change of phase, step or weight, the newest last.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    looks: JsonText | None = Field(
        None, description="Checkpoint and looks since, JSON: replaying them gives the same verdicts."
    )


class DSPyRollout(Model):
    """One live attempt."""

    metadata: ObjectMeta
    spec: RolloutSpec = Field(
        description="What the attempt is; never changes.",
        json_schema_extra=rules(("self == oldSelf", "spec never changes: it is the record of one attempt")),
    )
    status: RolloutStatus = Field(
        default_factory=RolloutStatus, description="The durable record of the attempt."
    )


def parse_rollout(obj: dict[str, Any]) -> DSPyRollout:
    """Read a DSPyRollout as the API server gives it.

    Raises:
        errors.InvalidSpec: written by another version: naming the first field that this one does not know.
    """
    try:
        return DSPyRollout.model_validate(obj)
    except ValidationError as error:
        raise build_invalid(error) from None
