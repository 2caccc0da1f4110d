"""DSPyDeployment.status: the operator's durable record, beside it what people, kstatus and kubectl read."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from dspy_operator.api.fields import Model, RevisionHash, Sha256, Text, Time, Weight, Word

Version = Annotated[str, StringConstraints(max_length=12, pattern=r"^[a-f0-9]{12}$")]
Nonce = Annotated[str, StringConstraints(max_length=128)]
Nonces = Annotated[list[Nonce], Field(max_length=16)]
HandledCommands = Annotated[dict[str, Nonces], Field(max_length=16)]
ChildName = Annotated[str, StringConstraints(max_length=63)]
Uid = Annotated[str, StringConstraints(max_length=64)]


class DeploymentPhase(StrEnum):
    """One word for people, derived from the conditions; nothing decides by it."""

    INITIALIZING = "Initializing"
    HEALTHY = "Healthy"
    PROGRESSING = "Progressing"
    PAUSED = "Paused"
    DEGRADED = "Degraded"


class ConditionStatus(StrEnum):
    """What a condition says."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(Model):
    """metav1.Condition."""

    type: Annotated[str, StringConstraints(max_length=64, pattern=r"^[A-Z][A-Za-z]*$")] = Field(
        description="Ready, Reconciling, Stalled, Available, Progressing, Paused, AnalysisPassed or "
        "TelemetryReady."
    )
    status: ConditionStatus = Field(description="True, False or Unknown.")
    observed_generation: int | None = Field(
        None,
        ge=0,
        description="Generation of the resource that it speaks of.",
        json_schema_extra={"format": "int64"},
    )
    last_transition_time: Time = Field(description="When the status changed last.")
    reason: Annotated[
        str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z][A-Za-z0-9]*$")
    ] = Field(description="One CamelCase word.")
    message: Annotated[str, StringConstraints(max_length=2048)] = Field(description="A sentence for people.")


class StableStatus(Model):
    """The revision that users trust."""

    revision: RevisionHash = Field(description="Hash of workload and artifact.")
    workload: RevisionHash | None = Field(None, description="Hash of what its pods run.")
    sha256: Sha256 = Field(description="Digest of its artifact.")
    version: Version | None = Field(None, description="First 12 hex of the digest.")
    promoted_at: Time | None = Field(None, description="When it became stable and was first ready.")


class CanaryStatus(Model):
    """The revision on trial, and the pointer to the DSPyRollout that is its record."""

    revision: RevisionHash = Field(description="Hash of workload and artifact.")
    workload: RevisionHash | None = Field(None, description="Hash of what its pods run.")
    sha256: Sha256 | None = Field(None, description="Digest of its artifact.")
    version: Version | None = Field(None, description="First 12 hex of the digest.")
    source: RevisionHash = Field(description="The spec's revision when the attempt was opened.")
    attempt: int = Field(ge=1, description="Number of the attempt at this revision.")
    rollout: ChildName = Field(description="Name of the DSPyRollout.")
    rollout_uid: Uid = Field(alias="rolloutUID", description="Its uid.")
    step: int | None = Field(None, ge=0, description="Position in steps, from 1.")
    steps: int | None = Field(None, ge=0, description="Number of steps.")
    weight: Weight | None = Field(None, description="Percent of the traffic.")
    score: Word | None = Field(None, description="Score against stable, such as -0.4%.")
    p95: Word | None = Field(None, description="95th percentile of latency against stable, such as +3%.")


class RejectedStatus(Model):
    """A revision that gets no traffic until `retry`, or until another one was promoted."""

    revision: RevisionHash = Field(description="Its hash.")
    sha256: Sha256 | None = Field(None, description="Digest of its artifact.")
    version: Version | None = Field(None, description="First 12 hex of the digest.")
    reason: Word = Field(description="Why it was rejected, one word.")
    message: Text | None = Field(None, description="Why it was rejected, for people.")
    at: Time = Field(description="When.")


class DeploymentStatus(Model):
    """What the operator sees and has decided."""

    observed_generation: int | None = Field(
        None,
        ge=0,
        description="Generation that this status speaks of.",
        json_schema_extra={"format": "int64"},
    )
    phase: DeploymentPhase | None = Field(None, description="One word for people.")
    stable: StableStatus | None = Field(None, description="The revision that users trust.")
    canary: CanaryStatus | None = Field(None, description="The revision on trial.")
    weight: Weight | None = Field(None, description="Percent of the traffic for the canary.")
    actual_weight: Weight | None = Field(
        None, description="Percent that replica counts really give, where they only approximate the weight."
    )
    routes_generation: int | None = Field(
        None,
        ge=0,
        description="Highest generation of the routing table known.",
        json_schema_extra={"format": "int64"},
    )
    paused: bool | None = Field(None, description="Paused by command while no attempt was open.")
    replicas: int | None = Field(None, ge=0, description="Serving pods.")
    ready_replicas: int | None = Field(None, ge=0, description="Serving pods that are ready.")
    selector: Annotated[str, StringConstraints(max_length=1024)] | None = Field(
        None, description="Label selector of the serving pods, for the scale subresource."
    )
    message: Annotated[str, StringConstraints(max_length=2048)] | None = Field(
        None, description="What is going on, for people."
    )
    rejected: list[RejectedStatus] | None = Field(
        None,
        max_length=32,
        description="Revisions that get no traffic.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    handled_commands: HandledCommands | None = Field(
        None, description="The last 16 nonces of each command that were acted upon."
    )
    conditions: list[Condition] | None = Field(
        None,
        max_length=16,
        description="Ready, Reconciling, Stalled, Available, Progressing, Paused, AnalysisPassed or "
        "TelemetryReady.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
