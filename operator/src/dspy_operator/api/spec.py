"""DSPyDeployment: what users write.

The parts with a page of their own are in `serving.py`, `strategy.py` and `status.py`.
"""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, StringConstraints, ValidationError

from dspy_operator import errors
from dspy_operator.api import names
from dspy_operator.api.choices import Approximation
from dspy_operator.api.fields import (
    Attribute,
    Header,
    KeyRef,
    Model,
    Namespace,
    ObjectName,
    ObjectRef,
    Sha256,
    Time,
    rules,
)
from dspy_operator.api.quantities import Duration, Percent
from dspy_operator.api.serving import Serving
from dspy_operator.api.status import DeploymentStatus
from dspy_operator.api.strategy import Regression, Strategy

DEFAULT_REPLICAS = 2
Hostname = Annotated[
    str, StringConstraints(max_length=253, pattern=r"^(\*\.)?[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
]


class Isolation(StrEnum):
    """Whether a canary of stable's workload may share its pods."""

    AUTO = "Auto"
    POD = "Pod"


class Source(Model):
    """Where the program's code comes from, if not from the image."""

    config_map: ObjectRef = Field(description="ConfigMap whose *.py keys are mounted read-only on sys.path.")


class Artifact(Model):
    """The compiled program: the unit of release."""

    model_config = Model.model_config | {
        "json_schema_extra": rules(
            (
                "[has(self.configMap), has(self.uri)].exists_one(x, x)",
                "artifact takes exactly one of configMap and uri",
            ),
            (
                (
                    "!has(self.uri) || !self.uri.startsWith('oci://') || "
                    "self.uri.matches('@sha256:[a-f0-9]{64}$')"
                ),
                "an oci uri must end in @sha256:<64 hex>",
            ),
            (
                "!has(self.uri) || !self.uri.matches('^[a-z0-9]+://[^/]*@')",
                "a uri holds no user or password: use pullSecret",
            ),
            ("!has(self.pullSecret) || has(self.uri)", "pullSecret is for uri only"),
        )
    }

    sha256: Sha256 = Field(description="Digest of the artifact's bytes, 64 hex, whatever the source.")
    config_map: KeyRef | None = Field(None, description="ConfigMap key with the artifact.")
    uri: (
        Annotated[str, StringConstraints(max_length=1024, pattern=r"^(s3|gs|https|oci|file)://\S+$")] | None
    ) = Field(
        None, description="s3://, gs://, https://, oci://registry/repo@sha256:… or file:///mounted/path."
    )
    pull_secret: ObjectRef | None = Field(
        None, description="Secret with credentials for oci, https or s3. Default: none."
    )


class Program(Model):
    """What is served."""

    module: Attribute = Field(description="package.module:Attribute, a dspy.Module class or a factory.")
    source: Source | None = Field(None, description="Code of the program. Default: the image has it.")
    artifact: Artifact = Field(description="The compiled program.")


class LmTarget(Model):
    """One language model."""

    model: Annotated[str, StringConstraints(max_length=256, pattern=r"^[^/\s]+/\S+$")] = Field(
        description="Provider and model, such as openai/gpt-4o-mini."
    )
    api_base: Annotated[str, StringConstraints(max_length=1024, pattern=r"^(https?://\S+)?$")] | None = Field(
        None, description="Base URL of the provider. Default: the provider's own."
    )
    api_key_secret: KeyRef | None = Field(None, description="Secret key with the API key. Default: none.")
    max_tokens: int | None = Field(
        None, ge=1, le=10_000_000, description="Completion tokens of one call. Default: 1024."
    )


class Lm(Model):
    """Who answers."""

    primary: LmTarget = Field(description="The model that is asked first.")
    fallbacks: list[LmTarget] | None = Field(
        None,
        max_length=8,
        description="Models that are asked in this order when the ones before fail. Default: none.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    timeout: Duration | None = Field(
        None,
        description="Deadline of a whole request, retries and fallbacks included. Default: 30s.",
        json_schema_extra=rules(("duration(self) >= duration('100ms')", "timeout must be at least 100ms")),
    )


class Judge(Model):
    """An LM that scores answers."""

    module: Attribute | None = Field(
        None,
        description="package.module:Attribute of the judge's program: (inputs, outputs) to a prediction with score. "
        "Default: a rubric of five grades.",
    )
    lm: LmTarget | None = Field(None, description="The judge's own model. Default: the primary's.")
    tokens_per_day: int | None = Field(
        None, ge=0, le=10_000_000_000, description="Tokens of one pod and UTC day; 0: no limit. Default: 0."
    )


class Scoring(Model):
    """The ruler: both arms are measured with the same one, so it is no part of a revision."""

    function: Attribute | None = Field(
        None,
        description="package.module:function of (inputs, prediction), a float in [0,1] or "
        "dspy.Prediction(score=…). Default: none.",
    )
    judge: Judge | None = Field(
        None, description="An LM judge; on as soon as its module or lm is given. Default: none."
    )
    sample: Percent | None = Field(None, description="Share of the answers that are scored. Default: 100%.")
    per_user_interval: Duration | None = Field(
        None, description="At most one score of a user in this time. Default: 0s."
    )
    feedback_key_secret: KeyRef | None = Field(
        None,
        description="Secret key that signs feedback tokens. Default: derived from the primary's API key.",
    )


class ParentRef(Model):
    """A Gateway."""

    name: ObjectName = Field(description="Name of the Gateway.")
    namespace: Namespace | None = Field(
        None,
        description="Its namespace; the Gateway itself says whose routes it takes. Default: that of this resource.",
    )
    section_name: Annotated[str, StringConstraints(max_length=253)] | None = Field(
        None, description="Listener of the Gateway. Default: all."
    )


class Gateway(Model):
    """Traffic through the Gateway API."""

    parent_refs: list[ParentRef] = Field(
        min_length=1,
        max_length=8,
        description="Gateways.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    hostnames: list[Hostname] | None = Field(
        None,
        max_length=16,
        description="Host names of the route. Default: all.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )


class Traffic(Model):
    """Who gets which revision."""

    isolation: Isolation | None = Field(
        None,
        description="Auto: a canary that differs only in the artifact shares stable's pods; Pod: its own. "
        "Default: Auto.",
    )
    user_header: Header | None = Field(
        None,
        description="Trusted request header with the user's id: same user, same revision. "
        "Default: none, the request id decides.",
    )
    override_header: Header | None = Field(
        None,
        description="Request header that chooses `canary` or a revision; strip it at the edge. Default: off.",
    )
    gateway: Gateway | None = Field(None, description="Split through an HTTPRoute. Default: none.")
    canary_replicas: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="Own pods: their number; null: what the weight asks for. Default: null.",
        json_schema_extra={"nullable": True},
    )
    approximation: Approximation | None = Field(
        None,
        description="Own pods without a gateway, when replica counts cannot come within 1.5 x the weight: "
        "Refuse or Allow. Default: Refuse.",
    )


class DeploymentSpec(Model):
    """What the user wants."""

    model_config = Model.model_config | {
        "json_schema_extra": rules(
            (
                "has(self.image) || has(self.program.source)",
                "image is required unless program.source brings the code",
            ),
            (
                (
                    "(has(self.revisionHistoryLimit) ? self.revisionHistoryLimit : 10) > "
                    "(has(self.strategy) && has(self.strategy.rollbackWindow) && "
                    "has(self.strategy.rollbackWindow.revisions) ? "
                    "self.strategy.rollbackWindow.revisions : 3)"
                ),
                "revisionHistoryLimit (or 10) must be above strategy.rollbackWindow.revisions (or 3)",
            ),
        )
    }

    replicas: int = Field(
        DEFAULT_REPLICAS, ge=0, le=1000, description="Serving pods; an autoscaler may own it. Default: 2."
    )
    image: Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=r"^\S+$")] | None = Field(
        None, description="Serving image. Default: the operator's, when program.source brings the code."
    )
    program: Program = Field(description="What is served.")
    lm: Lm = Field(description="Who answers.")
    serving: Serving | None = Field(None, description="How the pods serve.")
    scoring: Scoring | None = Field(None, description="How answers are scored.")
    traffic: Traffic | None = Field(None, description="Who gets which revision.")
    strategy: Strategy | None = Field(None, description="How a new revision takes over.")
    regression: Regression | None = Field(None, description="Gate before any traffic. Default: none.")
    paused: bool | None = Field(None, description="Hold where the rollout is. Default: false.")
    revision_history_limit: int | None = Field(
        None, ge=1, le=100, description="Attempts and archived programs that are kept. Default: 10."
    )


class ObjectMeta(Model):
    """The part of metadata that the operator reads."""

    name: Annotated[str, StringConstraints(max_length=253)]
    namespace: Annotated[str, StringConstraints(max_length=63)] = "default"
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    annotations: dict[str, str] = Field(default_factory=dict)
    creation_timestamp: Time | None = None
    deletion_timestamp: Time | None = None


class DSPyDeployment(Model):
    """One live resource."""

    model_config = Model.model_config | {
        "json_schema_extra": rules(
            (
                (
                    f"size(self.metadata.name) <= {names.MAX_NAME} && "
                    "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')"
                ),
                (
                    f"metadata.name must have at most {names.MAX_NAME} characters: a-z, 0-9 and '-', "
                    "beginning with a letter and not ending with '-'"
                ),
            )
        )
    }

    metadata: ObjectMeta
    spec: DeploymentSpec = Field(description="What the user wants.")
    status: DeploymentStatus = Field(default_factory=DeploymentStatus, description="What the operator sees.")


def parse_deployment(obj: dict[str, Any]) -> DSPyDeployment:
    """Read a DSPyDeployment as the API server (or a file) gives it.

    Raises:
        errors.InvalidSpec: naming the first bad field and what is wrong with it.
    """
    return _parse(DSPyDeployment, obj)


def _parse(model: type[DSPyDeployment], obj: dict[str, Any]) -> DSPyDeployment:
    try:
        return model.model_validate(obj)
    except ValidationError as error:
        raise build_invalid(error) from None


def build_invalid(error: ValidationError) -> errors.InvalidSpec:
    """The first complaint as a field path and a sentence; never with a value of another field."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    path = ""
    for part in first["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    sentence = first["msg"].removeprefix("Value error, ")
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return errors.InvalidSpec(path.removeprefix(".") or "the resource", sentence + more)
