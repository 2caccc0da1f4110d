"""May the canary get traffic: scores of both programs on one set -> pass, fail or no verdict, and the result as JSON.

Pure. `evaluate.py` measures; the operator believes this JSON and nothing else.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from dspy_server import paired
from dspy_server.contract import TERMINATION_BYTES, GateReason, GateVerdict

MAX_LOST: Final = 0.1
"""Share of the pairs that a provider may fail: with fewer answers nothing is said of the program."""
_WORST: Final = 20
_DIGITS: Final = 6
_TOLERANCE: Final = 1e-9
"""1 - 0.95 is not quite 0.05."""
_MAX_MESSAGE: Final = 1000


@dataclass(frozen=True)
class Rule:
    """What the gate asks for.

    Attributes:
        max_drop: relative drop that is too much, a fraction; unused without a stable program.
        min_score: floor of the canary's mean.
        confidence: of the sign-flip test; None for the literal rule (mode Threshold).
    """

    max_drop: float = 0.02
    min_score: float | None = None
    confidence: float | None = 0.95


@dataclass(frozen=True)
class Outcome:
    """One program on one example.

    Attributes:
        score: 0 for an example that the program failed.
        lost: whether no model could answer, which says nothing of the program.
    """

    score: float
    lost: bool = False
    failed: bool = False


@dataclass(frozen=True)
class Pair:
    """Both programs on the example of one line of the set; no stable program: the first revision."""

    line: int
    canary: Outcome
    stable: Outcome | None

    @property
    def is_lost(self) -> bool:
        """Whether the pair says nothing."""
        return self.canary.lost or (self.stable is not None and self.stable.lost)


@dataclass(frozen=True)
class Subject:
    """What was compared: sha256 of the set and of both artifacts, and how many examples the set has."""

    examples: int
    set_sha256: str
    canary: str
    stable: str | None


@dataclass(frozen=True)
class Result:
    """The gate's answer; `numbers` are those behind it."""

    verdict: GateVerdict
    reason: GateReason
    message: str
    numbers: dict[str, Any] = field(default_factory=dict)


def is_hopeless(lost: int, examples: int) -> bool:
    """Whether more than a tenth of the pairs is lost."""
    return lost > MAX_LOST * examples


def judge(rule: Rule, subject: Subject, pairs: Sequence[Pair]) -> Result:
    """The verdict over all pairs that were measured; the set's digest seeds the test."""
    kept = [pair for pair in pairs if not pair.is_lost]
    lost = len(pairs) - len(kept)
    numbers = _count(rule, subject, pairs, kept)
    if is_hopeless(lost, subject.examples) or not kept:
        message = (
            f"no model answered for {lost} of {len(pairs)} examples of {subject.examples}: nothing is known"
        )
        return Result(GateVerdict.NO_VERDICT, GateReason.PROVIDER, message, numbers)
    canary = [pair.canary.score for pair in kept]
    stable = [pair.stable.score for pair in kept if pair.stable is not None]
    mean = math.fsum(canary) / len(canary)
    numbers["mean"] = {"canary": round(mean, _DIGITS)}
    if stable:
        found = paired.compare(canary, stable, seed=subject.set_sha256)
        numbers |= {"drop": round(found.drop, _DIGITS), "p": found.p}
        numbers["mean"]["stable"] = round(found.stable, _DIGITS)
        message, has_dropped = _weigh(rule, found, len(kept))
        if has_dropped:
            return Result(GateVerdict.FAIL, GateReason.DROP, message, numbers)
    else:
        message = f"mean {mean:.3f} on {len(kept)} examples, nothing to compare with"
    if rule.min_score is not None and mean < rule.min_score - _TOLERANCE:
        message = f"mean {mean:.3f} is below {rule.min_score} on {len(kept)} examples"
        return Result(GateVerdict.FAIL, GateReason.MIN_SCORE, message, numbers)
    return Result(GateVerdict.PASS, GateReason.PASSED, message, numbers)


def _weigh(rule: Rule, found: paired.Comparison, count: int) -> tuple[str, bool]:
    """A sentence, and whether the drop is too much."""
    drop = f"drop {found.drop:.1%} of at most {rule.max_drop:.1%}, p {found.p:.4f}, on {count} examples"
    if found.drop <= rule.max_drop + _TOLERANCE:
        return drop, False
    if rule.confidence is None:
        return f"{drop}; the estimate alone decides", True
    if found.p <= 1 - rule.confidence + _TOLERANCE:
        return drop, True
    return f"{drop}: so few examples cannot tell this drop from chance", False


def _count(rule: Rule, subject: Subject, pairs: Sequence[Pair], kept: Sequence[Pair]) -> dict[str, Any]:
    arms = {"canary": [pair.canary for pair in kept]}
    if subject.stable is not None:
        arms["stable"] = [pair.stable for pair in kept if pair.stable is not None]
    worse = sorted(
        (pair for pair in kept if pair.stable is not None and pair.canary.score < pair.stable.score),
        key=lambda pair: (pair.canary.score - (pair.stable.score if pair.stable else 0.0), pair.line),
    )
    better = sum(pair.stable is not None and pair.canary.score > pair.stable.score for pair in kept)
    return {
        "mode": "Threshold" if rule.confidence is None else "Evidence",
        "maxDrop": rule.max_drop,
        "minScore": rule.min_score,
        "confidence": rule.confidence,
        "examples": subject.examples,
        "pairs": len(kept),
        "lost": len(pairs) - len(kept),
        "failed": {arm: sum(outcome.failed for outcome in outcomes) for arm, outcomes in arms.items()},
        "better": better,
        "worse": len(worse),
        "worstLines": [pair.line for pair in worse[:_WORST]],
        "setSha256": subject.set_sha256,
        "canarySha256": subject.canary,
        "stableSha256": subject.stable,
    }


def dump(result: Result) -> str:
    """The result as one line of JSON that fits into a container's termination message."""
    head = {"verdict": result.verdict, "reason": result.reason, "message": result.message[:_MAX_MESSAGE]}
    text = json.dumps({**head, **result.numbers}, ensure_ascii=True)
    if len(text) > TERMINATION_BYTES:  # a message of exotic characters, each of which takes six
        text = json.dumps({**head, "message": result.message[: _MAX_MESSAGE // 4], **result.numbers})
    return text
