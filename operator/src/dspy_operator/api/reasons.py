"""Every CamelCase reason of a condition, a record or an event, once; the sentence beside it is for people."""

from enum import StrEnum


class Reason(StrEnum):
    """Why something is as it is: read by people, by alerts and by tests, so never renamed."""

    # the life of a resource
    INITIALIZING = "Initializing"
    HEALTHY = "Healthy"
    NOTHING_SERVES = "NothingServes"
    PODS_READY = "PodsReady"
    PODS_NOT_READY = "PodsNotReady"
    UPDATING_PODS = "UpdatingPods"
    DELETING = "Deleting"

    # the input
    INVALID_SPEC = "InvalidSpec"
    WAITING_FOR_ARTIFACT = "WaitingForArtifact"
    WAITING_FOR_SOURCE = "WaitingForSource"
    ARTIFACT_NOT_FOUND = "ArtifactNotFound"
    SOURCE_NOT_FOUND = "SourceNotFound"
    DIGEST_MISMATCH = "DigestMismatch"
    ARTIFACT_REFUSED = "ArtifactRefused"
    SIGNATURE_MISMATCH = "SignatureMismatch"
    MODULE_NOT_LOADABLE = "ModuleNotLoadable"
    NAME_TAKEN = "NameTaken"
    QUOTA_EXCEEDED = "QuotaExceeded"
    WEIGHT_NOT_REACHABLE = "WeightNotReachable"
    REVISION_NOT_FOUND = "RevisionNotFound"
    COMMAND_REFUSED = "CommandRefused"
    NOT_CANARIED = "NotCanaried"

    # a rollout
    ROLLOUT_STARTED = "RolloutStarted"
    ROLLOUT_IN_PROGRESS = "RolloutInProgress"
    PREPARING = "Preparing"
    STEP_ADVANCED = "StepAdvanced"
    PROMOTING = "Promoting"
    BAKING = "Baking"
    ROLLING_BACK = "RollingBack"
    PROMOTED = "Promoted"
    ROLLED_BACK = "RolledBack"
    ABORTED = "Aborted"
    SUPERSEDED = "Superseded"
    SUPERSEDED_UNDECIDED = "SupersededUndecided"
    NOT_READY = "NotReady"
    RECORD_LOST = "RecordLost"
    CANARY_DEAD = "CanaryDead"
    GATEWAY_NOT_READY = "GatewayNotReady"
    PREVIEWING = "Previewing"
    REGRESSION_FAILED = "RegressionFailed"
    REGRESSION_NO_VERDICT = "RegressionNoVerdict"
    REJECTED = "Rejected"
    RETRIED = "Retried"
    UNDONE = "Undone"
    PAUSED = "Paused"
    RESUMED = "Resumed"
    NOT_PAUSED = "NotPaused"
    AWAITING_PROMOTION = "AwaitingPromotion"

    # the analysis
    COLLECTING_EVIDENCE = "CollectingEvidence"
    NO_ROLLOUT = "NoRollout"
    NO_SCORE_SOURCE = "NoScoreSource"
    EVIDENCE_MISSING = "EvidenceMissing"
    DEADLINE_NO_DATA = "DeadlineNoData"
    SCORE_COVERAGE = "ScoreCoverage"
    WEIGHT_NOT_EFFECTIVE = "WeightNotEffective"

    # the telemetry
    SCRAPED = "Scraped"
    NOT_SCRAPED = "NotScraped"
    PODS_MISSING = "PodsMissing"
    NO_NAMESPACE_LABEL = "NoNamespaceLabel"
    NO_SCORES = "NoScores"
    PROMETHEUS_UNREACHABLE = "PrometheusUnreachable"
