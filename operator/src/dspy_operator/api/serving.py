"""`spec.serving`: the knobs of the server.

Only env, volumes and service account of the pod template are part of a revision.
"""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from dspy_operator.api.fields import KeyRef, Model
from dspy_operator.api.quantities import SIZE_PATTERN, Duration, Percent

Size = Annotated[str, StringConstraints(max_length=12, pattern=SIZE_PATTERN)]
Origin = Annotated[str, StringConstraints(max_length=256, pattern=r"^https?://[^*\s/]+$")]
OpenObject = Annotated[
    dict[str, Any], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})
]


class CacheScope(StrEnum):
    """Who may get whose cached answer."""

    USER = "User"
    SHARED = "Shared"
    OFF = "Off"


class OnRedisError(StrEnum):
    """Whether a user's budget is enforced without Redis."""

    ALLOW = "Allow"
    DENY = "Deny"


class ArtifactLm(StrEnum):
    """What happens to LM settings inside an artifact."""

    DROP = "Drop"
    ALLOW = "Allow"


class Warmup(StrEnum):
    """How a program is tried before it serves."""

    STUB = "Stub"
    LIVE = "Live"


class LogText(StrEnum):
    """Whether logs hold text of requests."""

    OFF = "Off"
    REDACTED = "Redacted"


class DiskCache(Model):
    """The LM cache on the pod's own disk."""

    enabled: bool | None = Field(None, description="Keep LM answers on disk. Default: false.")
    size_limit: Size | None = Field(None, description="Size of the emptyDir and of the cache. Default: 1Gi.")
    max_age: Duration | None = Field(None, description="Entries older than this are removed. Default: 168h.")


class Cache(Model):
    """Answers that need no new LM call."""

    redis_secret: KeyRef | None = Field(
        None, description="Secret key with the Redis URL. Default: none, no business cache."
    )
    ttl: Duration | None = Field(None, description="Life of a cached answer. Default: 24h.")
    scope: CacheScope | None = Field(
        None, description="User: a user gets own answers only; Shared: anybody's; Off: none. Default: User."
    )
    stale_if_error: Duration | None = Field(
        None, description="How long an expired answer may stand in when no LM answers. Default: 0s."
    )
    lm_memory_entries: int | None = Field(
        None, ge=0, le=1_000_000, description="LM calls cached in memory. Default: 5000."
    )
    disk: DiskCache | None = Field(None, description="LM cache on disk. Default: off.")


class Limits(Model):
    """What a pod takes before it says 429 or 413."""

    concurrency: int | None = Field(None, ge=1, le=10_000, description="Requests at once. Default: 64.")
    queue: int | None = Field(None, ge=0, le=100_000, description="Requests that may wait. Default: 128.")
    per_user_tokens_per_day: int | None = Field(
        None, ge=0, le=1_000_000_000, description="Token budget of a user and UTC day; 0: none. Default: 0."
    )
    max_body_bytes: int | None = Field(
        None, ge=1, le=16_777_216, description="Largest request body. Default: 65536."
    )
    requests_per_second: int | None = Field(
        None, ge=0, le=100_000, description="Rate of a pod; 0: no limit. Default: 0."
    )
    per_user_requests_per_minute: int | None = Field(
        None, ge=0, le=100_000, description="Rate of a user; 0: no limit. Default: 0."
    )
    max_field_chars: int | None = Field(
        None, ge=1, le=16_777_216, description="Longest input field. Default: 32768."
    )
    budget_on_redis_error: OnRedisError | None = Field(
        None, description="Allow or Deny requests when budgets cannot be read. Default: Allow."
    )


class Breaker(Model):
    """The circuit breaker of each LM target."""

    failures: int | None = Field(
        None, ge=1, le=1000, description="Failures in a row that open it. Default: 5."
    )
    open_for: Duration | None = Field(None, description="Time until it probes again. Default: 30s.")


class Cors(Model):
    """Browsers of other origins."""

    allow_origins: list[Origin] | None = Field(
        None, max_length=32, description="Exact origins, no wildcard. Default: none."
    )


class Degraded(Model):
    """The answer of last resort."""

    outputs: OpenObject | None = Field(
        None, description="Output fields answered when no LM can. Default: none, 503."
    )


class Capture(Model):
    """Requests kept, redacted, for test sets."""

    sample: Percent | None = Field(None, description="Share of requests kept. Default: 0%.")
    max: int | None = Field(None, ge=0, le=100_000, description="Requests kept at most. Default: 500.")


class Logs(Model):
    """JSON lines on standard output."""

    level: Annotated[str, StringConstraints(max_length=8, pattern="^(DEBUG|INFO|WARNING|ERROR)$")] | None = (
        Field(None, description="DEBUG, INFO, WARNING or ERROR. Default: INFO.")
    )
    text: LogText | None = Field(None, description="Off: no text of requests; Redacted. Default: Off.")
    redact: list[Annotated[str, StringConstraints(max_length=256)]] | None = Field(
        None, max_length=32, description="More patterns to redact (RE2). Default: none."
    )


class Tracing(Model):
    """OpenTelemetry spans."""

    endpoint: Annotated[str, StringConstraints(max_length=1024, pattern=r"^https?://\S+$")] | None = Field(
        None, description="OTLP endpoint. Default: none, no spans."
    )
    sample: Percent | None = Field(None, description="Share of requests traced. Default: 10%.")


class Admin(Model):
    """The reload endpoint, for use without the operator."""

    token_secret: KeyRef | None = Field(
        None,
        description="Secret key with the bearer token of POST /admin/reload. Default: none, no endpoint.",
    )


class Serving(Model):
    """How the pods serve; every knob is optional."""

    cache: Cache | None = Field(None, description="Answers that need no new LM call.")
    limits: Limits | None = Field(None, description="What a pod takes before it says 429 or 413.")
    breaker: Breaker | None = Field(None, description="Circuit breaker of each LM target.")
    cors: Cors | None = Field(None, description="Browsers of other origins. Default: none allowed.")
    degraded: Degraded | None = Field(None, description="Answer of last resort. Default: none.")
    parse_retry: bool | None = Field(
        None, description="Ask the LM once more when its answer cannot be parsed. Default: true."
    )
    artifact_lm: ArtifactLm | None = Field(
        None, description="Drop LM settings found in an artifact, or Allow the harmless ones. Default: Drop."
    )
    warmup: Warmup | None = Field(
        None, description="Try a program with a Stub or a Live LM before it serves. Default: Stub."
    )
    capture: Capture | None = Field(
        None, description="Requests kept, redacted, for test sets. Default: none."
    )
    logs: Logs | None = Field(None, description="Log level and content.")
    tracing: Tracing | None = Field(None, description="OpenTelemetry spans. Default: none.")
    admin: Admin | None = Field(
        None, description="Reload endpoint, for use without the operator. Default: off."
    )
    pod_template: OpenObject | None = Field(
        None,
        description="A partial pod template merged over ours by the list keys of server-side apply: "
        "env, envFrom, volumes, resources, scheduling, imagePullSecrets, labels. What Pod Security "
        "`restricted` forbids is refused. Env, volumes, resources and service account are part of the revision. "
        "Default: {}.",
    )
