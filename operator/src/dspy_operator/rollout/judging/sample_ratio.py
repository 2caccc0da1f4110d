"""Sample-ratio mismatch: does the split that arrived contradict the routing table, do the scores that of the answers?

A split that is wrong means that the arms are no random halves of one traffic: then no comparison is trusted. Scores
that come for one arm more often than for the other are told, and nothing else.
"""

import math

from dspy_operator.rollout.judging.engine import get_ln_mean_exp

ODDS = (1 / 2, 1 / 1.3, 1 / 1.1, 1.1, 1.3, 2.0)
LN_ALARM = math.log(1000.0)
REQUESTS_PER_USER = 10.0

NO_RATIO_EVIDENCE = (0.0,) * len(ODDS)


def build_ratio_evidence(
    old: tuple[float, ...], canary: float, stable: float, share: float, *, is_sticky: bool
) -> tuple[float, ...]:
    """Ln of each component after a look of `canary` and `stable` requests with the expected share."""
    if not 0 < share < 1:
        return old
    per_unit = REQUESTS_PER_USER if is_sticky else 1.0
    return tuple(
        ln_e + (canary * math.log(odds) - (canary + stable) * math.log1p(share * (odds - 1))) / per_unit
        for ln_e, odds in zip(old, ODDS, strict=True)
    )


def get_ratio_ln_e(evidence: tuple[float, ...]) -> float:
    """Ln E of the check; it is in alarm at ln 1000."""
    return get_ln_mean_exp((evidence,))


def is_coverage_alarm(
    scored: tuple[float, float], successes: tuple[float, float], *, is_sticky: bool
) -> bool:
    """Whether one arm's answers are scored more often than the other's; both pairs are (canary, stable) of the step.

    Of sums and not look by look: a score may come long after its request, when the looks' own shares are chance.
    """
    if not successes[0] > 0 or not successes[1] > 0:
        return False
    share = successes[0] / sum(successes)
    evidence = build_ratio_evidence(NO_RATIO_EVIDENCE, *scored, share, is_sticky=is_sticky)
    return get_ratio_ln_e(evidence) >= LN_ALARM
