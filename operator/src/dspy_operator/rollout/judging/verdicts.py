"""What the judge answers: one verdict a metric and one for the rollout.

`rules` builds them, `decide` reads `Verdict.action`, status and people read the rest.
"""

from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    """What the rollout may do now."""

    ROLL_BACK = "RollBack"
    PROMOTE = "Promote"
    ADVANCE = "Advance"
    HOLD = "Hold"


class MetricAnswer(StrEnum):
    """One metric's own answer."""

    ROLL_BACK = "RollBack"
    PROMOTE = "Promote"
    WAIT = "Wait"
    UNMEASURED = "Unmeasured"


class Reason(StrEnum):
    """Which rule spoke, CamelCase as in conditions and events."""

    EVIDENCE_OF_REGRESSION = "EvidenceOfRegression"
    THRESHOLD_VIOLATED = "ThresholdViolated"
    DEADLINE_THRESHOLD_VIOLATED = "DeadlineThresholdViolated"
    DEADLINE_ROLLBACK = "DeadlineRollback"

    EVIDENCE_OF_QUALITY = "EvidenceOfQuality"
    THRESHOLD_PASSED = "ThresholdPassed"
    DEADLINE_THRESHOLD_PASSED = "DeadlineThresholdPassed"
    DEADLINE_PROMOTE = "DeadlinePromote"
    BAKE_COMPLETE = "BakeComplete"
    GATE_OPEN = "GateOpen"

    COLLECTING_EVIDENCE = "CollectingEvidence"
    MIN_SAMPLES = "MinSamples"
    MIN_DURATION = "MinDuration"
    DROP_ABOVE_MARGIN = "DropAboveMargin"
    LM_OUTAGE = "LMOutage"
    AWAITING_PROMOTION = "AwaitingPromotion"
    WEIGHT_NOT_EFFECTIVE = "WeightNotEffective"
    SAMPLE_RATIO_MISMATCH = "SampleRatioMismatch"
    EVIDENCE_MISSING = "EvidenceMissing"
    DEADLINE_HOLD = "DeadlineHold"
    BAKING = "Baking"
    NOT_JUDGED = "NotJudged"


@dataclass(frozen=True, slots=True)
class MetricVerdict:
    """One metric after a look.

    `drop` is the step's estimate, positive is worse: a fraction (Score, CostPerRequest) or points / 100 (None:
    unmeasured), `drop_text` the same for people ("1.2%"). `evidence_*` fire at 1.0; `ln_e_*` are natural
    logarithms of the e-values. `samples_needed` is a forecast of canary samples in this step, None where none
    can be made. `coverage` warns of scores that come for one arm more often than for the other (empty: they do not).
    """

    name: str
    verdict: MetricAnswer
    reason: Reason
    message: str
    drop: float | None
    drop_text: str
    canary_samples: float
    stable_samples: float
    required_samples: int
    ln_e_rollback: float
    ln_e_promote: float
    evidence_rollback: float
    evidence_promote: float
    samples_needed: int | None
    dispersion: float
    dry_run: bool
    coverage: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to one look.

    `gate_open` with Hold and AwaitingPromotion: only a person's `promote` is missing. `skipped` names the
    metrics that `onMissing: Skip` left out. `observed` seconds of dwell in this step. `ln_e_rollback` is of
    the mean over the deciding metrics, `ln_e_ratio` of the sample-ratio check. `deadline_passed`: the step's
    deadline is over, whatever it led to.
    """

    action: Action
    answer: MetricAnswer
    reason: Reason
    message: str
    metrics: tuple[MetricVerdict, ...]
    step: int
    t: float
    gate_open: bool = False
    skipped: tuple[str, ...] = ()
    observed: float = 0.0
    ln_e_rollback: float = 0.0
    ln_e_ratio: float = 0.0
    deadline_passed: bool = False
