"""Sentences for people: what each metric shows, and why the rollout moves or waits.

ASCII signs only: the text ends up in terminals, conditions and events.
"""

import math

from dspy_operator.api.choices import MetricType
from dspy_operator.rollout.judging.estimates import get_level
from dspy_operator.rollout.judging.readings import Reading, list_deciding
from dspy_operator.rollout.judging.rules import Finding
from dspy_operator.rollout.judging.sample_ratio import is_coverage_alarm
from dspy_operator.rollout.judging.state import State
from dspy_operator.rollout.judging.verdicts import Reason

CLUSTERED = 1.5
"""Over-dispersion that people must hear of."""

MINUTE = 60
HOUR = 3600


def get_drop_text(reading: Reading) -> str:
    """The estimate as status shows it: positive is worse; empty where there is none."""
    if reading.drop is None:
        return ""
    text = f"{_strip_zero(100 * reading.drop):.1f}"
    return (
        f"{text}%"
        if reading.metric.type in {MetricType.SCORE, MetricType.COST_PER_REQUEST}
        else f"{text} points"
    )


def get_metric_message(reading: Reading) -> str:
    """One clause, such as `score -0.4 % on 214 of 100 samples`."""
    name, step = reading.metric.name, reading.memory.step
    if reading.drop is None:
        return f"{name}: {_get_unmeasured(reading)}"
    samples = f"{_get_count(step.canary_n)} of {reading.required}"
    match reading.metric.type:
        case MetricType.SCORE:
            return f"{name} {_strip_zero(-100 * reading.drop):+.1f} % on {samples} samples"
        case MetricType.COST_PER_REQUEST:
            return f"{name} {_strip_zero(100 * reading.drop):+.1f} % on {samples} requests"
        case MetricType.ERROR_RATE | MetricType.RATIO:
            level = 100 * get_level(reading.metric, step)
            return (
                f"{name} {_strip_zero(100 * reading.drop):+.1f} points to {level:.1f} % on {samples} requests"
            )
        case MetricType.LATENCY_P95:
            return f"{name} {_get_latency(reading)} on {samples} requests"


def get_coverage_warning(state: State, reading: Reading) -> str:
    """That one arm's answers are scored more often than the other's, which stops nothing; empty if they are not."""
    scored, successes = reading.memory.scored, state.successes
    if not is_coverage_alarm(scored, successes, is_sticky=state.config.is_sticky):
        return ""
    return (
        f"{_get_share(scored)} of {_get_count(sum(scored))} scores are the canary's, but "
        f"{_get_share(successes)} of {_get_count(sum(successes))} answers: "
        "one revision's answers are scored more often than the other's"
    )


def get_dispersion_warning(reading: Reading) -> str:
    """That samples which come together are alike, as a user's are; empty if they are not."""
    factor = reading.memory.dispersion.factor
    if factor <= CLUSTERED:
        return ""
    return f"samples that come together are alike ({factor:.1f} times the variance): one score a session is safer"


def get_message(state: State, finding: Finding, readings: list[Reading], elapsed: float) -> str:
    """The whole sentence: what was measured; why that leads to the action.

    A bake speaks only of what can be judged without stable's arm.
    """
    judged = [r for r in list_deciding(readings) if not state.is_baking or r.memory.frozen_mean is not None]
    measured = "; ".join(get_metric_message(reading) for reading in judged)
    why = get_explanation(state, finding, readings, elapsed)
    return f"{measured}; {why}" if measured else why


def get_explanation(state: State, finding: Finding, readings: list[Reading], elapsed: float) -> str:
    """Why this finding, without the measurements."""
    names = " and ".join(finding.metrics)
    text = _get_moving(finding.reason, names) or _get_holding(state, finding, names, readings)
    if finding.deadline_passed and finding.reason not in _SAYS_DEADLINE:
        return f"{text}; the deadline passed {get_duration(max(0.0, elapsed - _get_deadline(state)))} ago"
    return text


_SAYS_DEADLINE = {
    Reason.DEADLINE_THRESHOLD_VIOLATED,
    Reason.DEADLINE_ROLLBACK,
    Reason.DEADLINE_THRESHOLD_PASSED,
    Reason.DEADLINE_PROMOTE,
    Reason.DEADLINE_HOLD,
}


def _get_moving(reason: Reason, names: str) -> str | None:
    texts = {
        Reason.EVIDENCE_OF_REGRESSION: f"the evidence against {names} suffices: roll back",
        Reason.THRESHOLD_VIOLATED: f"{names} beyond the margin: roll back",
        Reason.DEADLINE_THRESHOLD_VIOLATED: f"the deadline passed with {names} beyond the margin: roll back",
        Reason.DEADLINE_ROLLBACK: "the deadline passed undecided, onDeadline is Rollback: roll back",
        Reason.EVIDENCE_OF_QUALITY: "every metric is proven good enough: promote",
        Reason.THRESHOLD_PASSED: "every metric is within its margin: go on",
        Reason.DEADLINE_THRESHOLD_PASSED: "the deadline passed with every metric within its margin: go on",
        Reason.DEADLINE_PROMOTE: "the deadline passed undecided, onDeadline is Promote: go on",
        Reason.BAKE_COMPLETE: "the bake is over: promoted for good",
        Reason.GATE_OPEN: "samples and time are complete and every metric is within its margin: next step",
    }
    return texts.get(reason)


def _get_holding(state: State, finding: Finding, names: str, readings: list[Reading]) -> str:
    observed = get_duration(state.clock.observed)
    texts = {
        Reason.MIN_SAMPLES: f"waiting for more samples of {names}",
        Reason.DROP_ABOVE_MARGIN: f"{names} beyond the margin, not proven: holding",
        Reason.LM_OUTAGE: "the LM provider fails for stable too: not judged until it recovers",
        Reason.AWAITING_PROMOTION: "everything passed: waiting for a person's promote",
        Reason.WEIGHT_NOT_EFFECTIVE: "the weight is not in effect in every pod yet",
        Reason.SAMPLE_RATIO_MISMATCH: _get_ratio(state),
        Reason.EVIDENCE_MISSING: f"no evidence for {names}" if names else "no evidence could be read",
        Reason.DEADLINE_HOLD: "the deadline passed, onDeadline is Hold: going on by evidence",
        Reason.BAKING: f"baking for {observed} of {get_duration(state.config.bake)}",
        Reason.NOT_JUDGED: "nothing is judged at this weight",
    }
    if finding.reason is Reason.MIN_DURATION:
        return f"observed for {observed} of {get_duration(_get_min_duration(state))}"
    if finding.reason is Reason.COLLECTING_EVIDENCE:
        least = min((r.ln_e_promote for r in list_deciding(readings)), default=0.0)
        share = 100 * max(0.0, least) / -math.log(state.config.alpha)
        return f"collecting evidence for {names} ({share:.0f} % of what a promotion needs)"
    return texts[finding.reason]


def _get_unmeasured(reading: Reading) -> str:
    memory = reading.memory
    if memory.reference is None:
        return "stable's past is not known yet, collecting it"
    if memory.limits is not None and not memory.limits.is_measurable:
        limit = (1 + reading.metric.margin) * memory.limits.p95
        return f"the histogram has no bounds around the limit of {limit:.3g} s"
    if memory.step.canary_n > 0 and reading.metric.type is MetricType.SCORE:
        return "stable's mean is 0, a relative drop has no meaning"
    return "no samples of both revisions yet" if memory.frozen_mean is None else "no samples yet"


def _get_latency(reading: Reading) -> str:
    step, limits = reading.memory.step, reading.memory.limits
    stable = 1 - step.stable_sum / step.stable_n if step.stable_n > 0 else 0.0
    limit = "too slow" if limits is None or limits.canary is None else f"slower than {limits.canary:.3g} s"
    return f"{100 * get_level(reading.metric, step):.1f} % {limit} (stable {100 * stable:.1f} %)"


def _get_ratio(state: State) -> str:
    canary, total = state.ratio_counts[0], sum(state.ratio_counts)
    seen = 100 * canary / total if total > 0 else 0.0
    fallbacks = _get_count(state.fallbacks) if state.fallbacks > 0 else "none"
    return (
        f"the canary got {seen:.1f} % of {_get_count(total)} requests instead of {100 * state.share:.0f} %: "
        f"the arms cannot be compared (dspy_route_fallback_total: {fallbacks} of its requests went to stable, "
        "in pods that have not loaded it)"
    )


def get_duration(seconds: float) -> str:
    """`45s`, `12m`, `3h20m`."""
    whole = int(seconds)
    if whole < MINUTE:
        return f"{whole}s"
    if whole < HOUR:
        return f"{whole // MINUTE}m"
    minutes = whole % HOUR // MINUTE
    return f"{whole // HOUR}h{minutes}m" if minutes else f"{whole // HOUR}h"


def _get_min_duration(state: State) -> float:
    return state.config.judged_steps[state.step - 1].min_duration


def _get_deadline(state: State) -> float:
    return state.config.judged_steps[state.step - 1].deadline_or_default


def _get_share(arms: tuple[float, float]) -> str:
    return f"{100 * arms[0] / max(1.0, sum(arms)):.1f} %"


def _get_count(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ")


def _strip_zero(value: float) -> float:
    """No "-0.0" in a sentence."""
    return 0.0 if abs(value) < 0.05 else value  # noqa: PLR2004  half of the last decimal shown
