"""Every string that the server shares with the operator, Prometheus or a client, once.

`tests/contract/` holds it equal to the operator's copy, `dspy_operator/api/names.py`; neither imports the other.
"""

from enum import StrEnum
from typing import Final

# --- inside the pod -------------------------------------------------------------------------------------------

PORT_HTTP: Final = 8080
PORT_METRICS: Final = 9090

PATH_ASK: Final = "/ask"
PATH_STREAM: Final = "/ask/stream"
PATH_FEEDBACK: Final = "/feedback"
PATH_HEALTH: Final = "/healthz"
PATH_READY: Final = "/ready"
PATH_VERSION: Final = "/version"
PATH_RELOAD: Final = "/admin/reload"
PATH_OPENAPI: Final = "/openapi.json"
PATH_V2_LIVE: Final = "/v2/health/live"
PATH_V2_READY: Final = "/v2/health/ready"
PATH_V2_MODEL: Final = "/v2/models/{model}"
PATH_V2_INFER: Final = "/v2/models/{model}/infer"
PATH_METRICS: Final = "/metrics"

ROUTES_DIR: Final = "/etc/dspy/routes"
ROUTES_KEY: Final = "routes.json"
PROGRAMS_DIR: Final = "/etc/dspy/programs"
PROGRAM_KEY: Final = "program.json"
REFERENCE_KEY: Final = "program.ref"
SOURCE_DIR: Final = "/etc/dspy/source"
ADMIN_DIR: Final = "/etc/dspy/admin"
ADMIN_KEY: Final = "token"
PULL_DIR: Final = "/etc/dspy/pull"
CACHE_DIR: Final = "/tmp/dspy-cache"  # noqa: S108 - in a pod

ENV_PROGRAM: Final = "DSPY_PROGRAM"
ENV_WORKLOAD: Final = "DSPY_WORKLOAD"
ENV_SERVER_CONFIG: Final = "DSPY_SERVER_CONFIG"
ENV_LM_KEY_PREFIX: Final = "DSPY_LM_KEY_"
ENV_FEEDBACK_KEY: Final = "DSPY_FEEDBACK_KEY"
ENV_REDIS_URL: Final = "DSPY_REDIS_URL"
ENV_JUDGE_KEY: Final = "DSPY_JUDGE_KEY"
ENV_ROUTES: Final = "DSPY_ROUTES"
ENV_PROGRAMS_ROOT: Final = "DSPY_PROGRAMS_ROOT"
ENV_SOURCE: Final = "DSPY_SOURCE"
ENV_PULL: Final = "DSPY_PULL"


TABLE_FIELDS: Final = frozenset({"generation", "program", "userHeader", "overrideHeader", "routes"})
ROUTE_FIELDS: Final = frozenset({"revision", "workload", "module", "sha256", "track", "weight", "path"})


class Track(StrEnum):
    """The two roles that a route can have."""

    STABLE = "stable"
    CANARY = "canary"


# --- metrics --------------------------------------------------------------------------------------------------


class Metric(StrEnum):
    """Metrics of the server."""

    HTTP_REQUESTS = "dspy_http_requests_total"
    REQUEST_DURATION = "dspy_request_duration_seconds"
    PROGRAM_ERRORS = "dspy_program_errors_total"
    SCORE_SAMPLES = "dspy_score_samples_total"
    SCORE_SUM = "dspy_score_sum_total"
    SCORE_SUMSQ = "dspy_score_sumsq_total"
    SCORE_DISTRIBUTION = "dspy_score_distribution"
    LM_REQUESTS = "dspy_requests_total"
    TOKENS = "dspy_tokens_total"
    LM_COST = "dspy_lm_cost_usd_total"
    LM_UNPRICED = "dspy_lm_unpriced_calls_total"
    LM_DURATION = "dspy_lm_duration_seconds"
    FALLBACKS = "dspy_fallbacks_total"
    BREAKER_STATE = "dspy_breaker_state"
    CACHE_REQUESTS = "dspy_cache_requests_total"
    REJECTED = "dspy_rejected_total"
    INFLIGHT = "dspy_inflight"
    CACHE_DISK_BYTES = "dspy_cache_disk_bytes"
    ROUTE_WEIGHT = "dspy_route_weight"
    ROUTES_GENERATION = "dspy_routes_generation"
    ROUTES_APPLIED = "dspy_routes_applied_timestamp_seconds"
    PROGRAM_LOADED = "dspy_program_loaded"
    PROGRAM_STATE = "dspy_program_state"
    ROUTE_FALLBACK = "dspy_route_fallback_total"
    ROUTE_ERRORS = "dspy_route_errors_total"
    PARSE_RETRIES = "dspy_parse_retries_total"
    SCORING_DROPPED = "dspy_scoring_dropped_total"
    DEGRADED = "dspy_degraded_total"
    BUILD_INFO = "dspy_build_info"
    ARTIFACT_INFO = "dspy_artifact_info"


class Label(StrEnum):
    """Labels of the server's metrics; `namespace` and `pod` come from the scrape."""

    PROGRAM = "program"
    REVISION = "revision"
    ROUTE = "route"
    CODE = "code"
    CACHE = "cache"
    CLASS = "class"
    SOURCE = "source"
    MODEL = "model"
    STATUS = "status"
    KIND = "kind"
    FROM = "from"
    TO = "to"
    REASON = "reason"
    TIER = "tier"
    RESULT = "result"
    TRACK = "track"
    STATE = "state"
    SHA256 = "sha256"
    DSPY_VERSION = "dspy_version"


class CacheLabel(StrEnum):
    """Values of `cache`."""

    HIT = "hit"
    MISS = "miss"
    BYPASS = "bypass"


class CacheTier(StrEnum):
    """Values of `tier`: which cache was asked."""

    BUSINESS = "business"
    MEMORY = "memory"
    DISK = "disk"


class CacheResult(StrEnum):
    """Values of `result`: what a cache said."""

    HIT = "hit"
    MISS = "miss"
    ERROR = "error"


class ScoreSource(StrEnum):
    """Values of `source`: where a score came from."""

    METRIC = "metric"
    JUDGE = "judge"
    FEEDBACK = "feedback"


class ErrorClass(StrEnum):
    """Values of `class`: why a program failed."""

    PARSE = "parse"
    RATE_LIMIT = "rate_limit"
    TIMEOUT = "timeout"
    TRANSPORT = "transport"
    SERVER = "server"
    AUTH = "auth"
    CONTEXT_WINDOW = "context_window"
    DEADLINE = "deadline"
    BREAKER_OPEN = "breaker_open"
    INTERNAL = "internal"


class ProgramState(StrEnum):
    """Values of `state`: what a pod makes of a program now."""

    WAITING = "waiting"
    LOADING = "loading"
    LOADED = "loaded"
    DIGEST = "digest"
    REFUSED = "refused"
    SIGNATURE = "signature"
    MODULE = "module"


class RouteError(StrEnum):
    """Values of `reason` of `dspy_route_errors_total`: history, where `ProgramState` is now."""

    TABLE = "table"
    FETCH = "fetch"
    DIGEST = "digest"
    REFUSED = "refused"
    MODULE = "module"
    WARMUP = "warmup"


class TokenKind(StrEnum):
    """Values of `kind` of `dspy_tokens_total`."""

    PROMPT = "prompt"
    COMPLETION = "completion"
    CACHED = "cached"
    REASONING = "reasoning"


class Drop(StrEnum):
    """Values of `reason` of `dspy_scoring_dropped_total`."""

    QUEUE = "queue"
    ERROR = "error"
    NOT_FINITE = "not_finite"
    BUDGET = "budget"
    PROVIDER = "provider"
    USER_LIMIT = "user_limit"


class Degradation(StrEnum):
    """Values of `kind` of `dspy_degraded_total`: what a client got when no LM could answer."""

    STALE = "stale"
    OUTPUTS = "outputs"
    REFUSED = "refused"


class Rejection(StrEnum):
    """Values of `reason` of `dspy_rejected_total`."""

    QUEUE = "queue"
    USER_RATE = "user_rate"
    USER_BUDGET = "user_budget"
    SIZE = "size"


# --- answers --------------------------------------------------------------------------------------------------


class ProblemCode(StrEnum):
    """`code` of an `application/problem+json` answer: stable, so clients may branch on it."""

    BODY = "body"
    SIZE = "size"
    SLOW_BODY = "slow_body"
    INPUTS = "inputs"
    NOT_READY = "not_ready"
    NO_ROUTE = "no_route"
    QUEUE = "queue"
    USER_RATE = "user_rate"
    USER_BUDGET = "user_budget"
    PARSE = "parse"
    RATE_LIMIT = "rate_limit"
    TIMEOUT = "timeout"
    TRANSPORT = "transport"
    SERVER = "server"
    AUTH = "auth"
    CONTEXT_WINDOW = "context_window"
    DEADLINE = "deadline"
    DEGRADED = "degraded"
    INTERNAL = "internal"
    NOT_FOUND = "not_found"
    METHOD = "method"
    ADMIN_TOKEN = "admin_token"  # noqa: S105 - a code, not a secret
    TABLE = "table"
    FEEDBACK_KEY_MISSING = "feedback_key_missing"
    FEEDBACK_TOKEN = "feedback_token"  # noqa: S105 - a code, not a secret
    FEEDBACK_USED = "feedback_used"


# --- the regression gate --------------------------------------------------------------------------------------

TERMINATION_LOG: Final = "/dev/termination-log"
"""Where the kubelet reads the message of a container that has ended."""
TERMINATION_BYTES: Final = 4096


class GateVerdict(StrEnum):
    """`verdict` of the result of `dspy-server eval`."""

    PASS = "Pass"  # noqa: S105 - a verdict, not a password
    FAIL = "Fail"
    INVALID = "Invalid"
    NO_VERDICT = "NoVerdict"


class GateReason(StrEnum):
    """`reason` of the same."""

    PASSED = "Passed"
    DROP = "DropExceeded"
    MIN_SCORE = "BelowMinScore"
    PROVIDER = "ProviderErrors"
    SOURCE = "SourceUnavailable"
    SET = "SetRefused"
    PROGRAM = "ProgramRefused"
    METRIC = "MetricFailed"
    SETTINGS = "SettingsRefused"


GATE_EXIT_CODES: Final = {
    GateVerdict.PASS: 0,
    GateVerdict.FAIL: 1,
    GateVerdict.INVALID: 2,
    GateVerdict.NO_VERDICT: 3,
}
