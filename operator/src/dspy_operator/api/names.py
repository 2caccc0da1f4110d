"""Every string that more than one place must agree on, once.

Read by all layers above; `tests/contract/` holds it equal to the server's copy, `dspy_server/contract.py`.
The reasons of conditions and events are in `reasons.py`.
"""

from enum import StrEnum
from typing import Final

GROUP: Final = "dspy-operator.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
FIELD_MANAGER: Final = "dspy-operator"
CATEGORY: Final = "dspy"

DEPLOYMENT_KIND: Final = "DSPyDeployment"
DEPLOYMENT_PLURAL: Final = "dspydeployments"
DEPLOYMENT_SINGULAR: Final = "dspydeployment"
DEPLOYMENT_SHORT: Final = "dspyd"

ROLLOUT_KIND: Final = "DSPyRollout"
ROLLOUT_PLURAL: Final = "dspyrollouts"
ROLLOUT_SINGULAR: Final = "dspyrollout"
ROLLOUT_SHORT: Final = "dspyr"


# --- labels and annotations -------------------------------------------------------------------------------

LABEL_NAME: Final = "app.kubernetes.io/name"
LABEL_INSTANCE: Final = "app.kubernetes.io/instance"
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
LABEL_COMPONENT: Final = "app.kubernetes.io/component"
LABEL_WORKLOAD: Final = f"{GROUP}/workload"

APP_NAME: Final = "dspy-server"
MANAGED_BY: Final = "dspy-operator"
COMPONENT_SERVER: Final = "server"
MANAGED_SELECTOR: Final = f"{LABEL_MANAGED_BY}={MANAGED_BY}"

ANNOTATION_RECORD: Final = f"{GROUP}/record"
"""On the routing table: `<rollout>/<decision number>` of the record that it carries out."""
ANNOTATION_EPOCH: Final = f"{GROUP}/epoch"
"""On the routing table, the route, the slots and the Lease: the epoch of the operator that wrote last."""
ANNOTATION_ROUTES_GENERATION: Final = f"{GROUP}/routes-generation"
"""On serving pods: changing it makes the kubelet refresh the mounted routing table at once."""
ANNOTATION_REVISION: Final = f"{GROUP}/revision"
"""On a slot: the revision whose program it holds. On the routing table: that of the canary, if there is one."""
ANNOTATION_SHA256: Final = f"{GROUP}/sha256"
"""On a slot, a program copy, a source copy: the digest of what it holds."""
ANNOTATION_APPLIED: Final = f"{GROUP}/applied"
"""On a Deployment: the digest of what was applied, so that a change of the spec is told from an edit by hand."""


class Command(StrEnum):
    """What a person asks for by an annotation `dspy-operator.io/<command>: <RFC 3339 time>`."""

    PROMOTE = "promote"
    PROMOTE_FULL = "promote-full"
    ABORT = "abort"
    RETRY = "retry"
    UNDO = "undo"
    PAUSE = "pause"
    RESUME = "resume"

    @property
    def annotation(self) -> str:
        """The annotation's whole key."""
        return f"{GROUP}/{self.value}"


# --- children ---------------------------------------------------------------------------------------------

SLOTS: Final = 3
DIGEST_PREFIX: Final = 12
MAX_NAME: Final = 40


def short_digest(sha256: str) -> str:
    """The first 12 hex of a digest: what people call the version."""
    return sha256[:DIGEST_PREFIX]


def deployment_name(name: str, workload: str) -> str:
    """The Deployment of the serving pods of one workload (8 hex; with `isolation: Pod` a revision)."""
    return f"{name}-{workload}"


def service_name(name: str) -> str:
    """The Service that clients call."""
    return name


def stable_service_name(name: str) -> str:
    """Behind a gateway: the Service of stable's pods."""
    return f"{name}-stable"


def canary_service_name(name: str) -> str:
    """Behind a gateway: the Service of the canary's own pods; of stable's while it has none."""
    return f"{name}-canary"


def preview_service_name(name: str) -> str:
    """Blue-green with own pods: the Service of the pods on preview."""
    return f"{name}-preview"


def route_name(name: str) -> str:
    """The HTTPRoute."""
    return name


def budget_name(name: str) -> str:
    """The PodDisruptionBudget."""
    return name


def routes_name(name: str) -> str:
    """The ConfigMap with the routing table."""
    return f"{name}-routes"


def slot_name(name: str, slot: int) -> str:
    """The ConfigMap of program slot 0, 1 or 2."""
    return f"{name}-slot-{slot}"


def source_name(name: str, sha256: str) -> str:
    """The immutable copy of `program.source`, by the digest of its files."""
    return f"{name}-source-{short_digest(sha256)}"


def program_name(name: str, sha256: str) -> str:
    """The immutable copy of an artifact, by its digest."""
    return f"{name}-program-{short_digest(sha256)}"


def revision_name(name: str, revision: str) -> str:
    """The ControllerRevision that records what a revision is."""
    return f"{name}-{revision}"


def rollout_name(name: str, revision: str, attempt: int) -> str:
    """The DSPyRollout of one attempt, numbered from 1."""
    return f"{name}-{revision}-{attempt}"


def gate_name(name: str, revision: str, attempt: int) -> str:
    """The Job of the regression gate of one attempt."""
    return f"{name}-gate-{revision}-{attempt}"


# --- inside a serving pod ---------------------------------------------------------------------------------

CONTAINER: Final = "server"
PORT_HTTP: Final = 8080
PORT_METRICS: Final = 9090
PORT_SERVICE: Final = 80
PORT_NAME_HTTP: Final = "http"
PORT_NAME_METRICS: Final = "metrics"
PATH_HEALTH: Final = "/healthz"
PATH_READY: Final = "/ready"
PATH_METRICS: Final = "/metrics"

ROUTES_DIR: Final = "/etc/dspy/routes"
ROUTES_KEY: Final = "routes.json"
PROGRAMS_DIR: Final = "/etc/dspy/programs"
PROGRAM_KEY: Final = "program.json"
REFERENCE_KEY: Final = "program.ref"
"""In a slot or an archive, instead of the program: where its bytes lie and their digest."""
SOURCE_DIR: Final = "/etc/dspy/source"
ADMIN_DIR: Final = "/etc/dspy/admin"
ADMIN_KEY: Final = "token"
PULL_DIR: Final = "/etc/dspy/pull"
CACHE_DIR: Final = "/tmp/dspy-cache"  # noqa: S108 - in a pod
RUN_AS_USER: Final = 65532

ENV_PROGRAM: Final = "DSPY_PROGRAM"
ENV_WORKLOAD: Final = "DSPY_WORKLOAD"
ENV_SERVER_CONFIG: Final = "DSPY_SERVER_CONFIG"
ENV_LM_KEY_PREFIX: Final = "DSPY_LM_KEY_"
ENV_FEEDBACK_KEY: Final = "DSPY_FEEDBACK_KEY"
ENV_REDIS_URL: Final = "DSPY_REDIS_URL"
ENV_JUDGE_KEY: Final = "DSPY_JUDGE_KEY"
RESERVED_ENV: Final = frozenset(
    {ENV_PROGRAM, ENV_WORKLOAD, ENV_SERVER_CONFIG, ENV_FEEDBACK_KEY, ENV_REDIS_URL, ENV_JUDGE_KEY}
)
"""Variables (and all that begin with `DSPY_LM_KEY_`) that only the operator sets."""


def lm_key_env(index: int) -> str:
    """The variable with the API key of the primary (0) or of a fallback (1, 2, …)."""
    return f"{ENV_LM_KEY_PREFIX}{index}"


def slot_path(slot: int) -> str:
    """Where a pod reads the program of a slot."""
    return f"{PROGRAMS_DIR}/{slot}/{PROGRAM_KEY}"


class Track(StrEnum):
    """The two roles that a route can have."""

    STABLE = "stable"
    CANARY = "canary"


# --- metrics ----------------------------------------------------------------------------------------------


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


class OperatorMetric(StrEnum):
    """Metrics of the operator itself."""

    ROLLOUT_INFO = "dspy_operator_rollout_info"
    ROLLOUT_WEIGHT = "dspy_operator_rollout_weight"
    ROLLOUTS = "dspy_operator_rollouts_total"
    ROLLOUT_DURATION = "dspy_operator_rollout_duration_seconds"
    METRIC_DELTA = "dspy_operator_metric_delta"
    EVIDENCE = "dspy_operator_evidence"
    RECONCILE_SECONDS = "dspy_operator_reconcile_seconds"
    RECONCILE_ERRORS = "dspy_operator_reconcile_errors_total"
    QUERIES = "dspy_operator_queries_total"
    ROLLBACK_SECONDS = "dspy_operator_rollback_seconds"


class Label(StrEnum):
    """Labels of the server's metrics; `namespace` and `pod` come from the scrape."""

    NAMESPACE = "namespace"
    POD = "pod"
    PROGRAM = "program"
    REVISION = "revision"
    ROUTE = "route"
    CODE = "code"
    CACHE = "cache"
    CLASS = "class"
    SOURCE = "source"
    LE = "le"
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


PROVIDER_CLASSES: Final = frozenset(
    {
        ErrorClass.RATE_LIMIT,
        ErrorClass.TIMEOUT,
        ErrorClass.TRANSPORT,
        ErrorClass.SERVER,
        ErrorClass.AUTH,
        ErrorClass.BREAKER_OPEN,
    }
)
"""Classes that speak of the LM provider and not of the program."""


class ProgramState(StrEnum):
    """Values of `state`: what a pod makes of a program now."""

    WAITING = "waiting"
    LOADING = "loading"
    LOADED = "loaded"
    DIGEST = "digest"
    REFUSED = "refused"
    SIGNATURE = "signature"
    MODULE = "module"


# --- conditions -------------------------------------------------------------------------------------------


class ConditionType(StrEnum):
    """The conditions of a DSPyDeployment, in the order of its status: the kstatus trio comes first."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    AVAILABLE = "Available"
    PROGRESSING = "Progressing"
    PAUSED = "Paused"
    ANALYSIS_PASSED = "AnalysisPassed"
    TELEMETRY_READY = "TelemetryReady"
