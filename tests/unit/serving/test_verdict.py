import json
from typing import Any

import pytest

from dspy_server.contract import GateReason, GateVerdict
from dspy_server.verdict import Outcome, Pair, Result, Rule, Subject, dump, judge

RULE = Rule(max_drop=0.02, min_score=None, confidence=0.95)


def build_pairs(canary: list[float], stable: list[float] | None) -> list[Pair]:
    others = [None] * len(canary) if stable is None else [Outcome(score) for score in stable]
    return [
        Pair(n, Outcome(mine), other)
        for n, (mine, other) in enumerate(zip(canary, others, strict=True), start=1)
    ]


def decide(rule: Rule, pairs: list[Pair], examples: int | None = None) -> Result:
    has_stable = any(pair.stable for pair in pairs)
    subject = Subject(examples or len(pairs), "ab" * 32, "c" * 64, "d" * 64 if has_stable else None)
    return judge(rule, subject, pairs)


def lose(pairs: list[Pair], count: int) -> list[Pair]:
    """The same with `count` pairs lost, by turns on one side and on the other."""
    lost = Outcome(0.0, lost=True)
    return [
        pair
        if n >= count
        else Pair(pair.line, lost, pair.stable)
        if n % 2
        else Pair(pair.line, pair.canary, lost)
        for n, pair in enumerate(pairs)
    ]


def test_a_drop_that_is_large_and_no_chance_fails() -> None:
    result = decide(RULE, build_pairs([0.0] * 10 + [1.0] * 190, [1.0] * 200))
    assert (result.verdict, result.reason) == (GateVerdict.FAIL, GateReason.DROP)
    assert result.numbers["drop"] == 0.05
    assert result.numbers["p"] <= 0.003
    assert result.numbers["worstLines"] == list(range(1, 11))


def test_a_drop_that_chance_explains_passes_in_mode_evidence_and_fails_in_mode_threshold() -> None:
    pairs = build_pairs([0.0] * 5 + [1.0] * 95, [1.0] * 5 + [0.0] * 2 + [1.0] * 93)
    result = decide(RULE, pairs)
    assert result.numbers["drop"] > 0.02
    assert result.numbers["p"] > 0.05
    assert result.verdict is GateVerdict.PASS
    assert decide(Rule(0.02, None, None), pairs).reason is GateReason.DROP


def test_a_drop_that_is_sure_but_small_passes() -> None:
    result = decide(RULE, build_pairs([0.99] * 100, [1.0] * 100))
    assert result.numbers["p"] == 0.0001
    assert result.verdict is GateVerdict.PASS


def test_a_drop_of_exactly_the_limit_passes() -> None:
    pairs = build_pairs([0.0] * 10 + [1.0] * 190, [1.0] * 200)
    assert decide(Rule(0.05, None, None), pairs).verdict is GateVerdict.PASS
    assert decide(Rule(0.0499, None, None), pairs).verdict is GateVerdict.FAIL


@pytest.mark.parametrize(("lost", "verdict"), [(10, GateVerdict.PASS), (11, GateVerdict.NO_VERDICT)])
def test_more_than_a_tenth_lost_is_no_verdict_however_it_looks(lost: int, verdict: GateVerdict) -> None:
    result = decide(RULE, lose(build_pairs([1.0] * 100, [1.0] * 100), lost))
    assert result.verdict is verdict
    assert (result.numbers["lost"], result.numbers["pairs"]) == (lost, 100 - lost)


def test_lost_pairs_are_dropped_on_both_sides() -> None:
    pairs = lose(build_pairs([0.0] * 10 + [1.0] * 90, [1.0] * 100), 10)
    result = decide(RULE, pairs)
    assert result.numbers["mean"] == {"canary": 1.0, "stable": 1.0}
    assert result.verdict is GateVerdict.PASS


def test_a_measurement_that_ended_early_counts_all_that_was_to_be_measured() -> None:
    pairs = lose(build_pairs([1.0] * 12, [1.0] * 12), 11)
    assert decide(RULE, pairs, examples=100).verdict is GateVerdict.NO_VERDICT


@pytest.mark.parametrize(
    ("floor", "verdict"), [(0.7, GateVerdict.PASS), (0.71, GateVerdict.FAIL), (None, GateVerdict.PASS)]
)
def test_a_first_revision_has_its_floor_only(floor: float | None, verdict: GateVerdict) -> None:
    result = decide(Rule(0.02, floor, 0.95), build_pairs([1.0] * 7 + [0.0] * 3, None))
    assert result.verdict is verdict
    assert "drop" not in result.numbers


def test_a_floor_gates_what_is_no_worse_than_stable_too() -> None:
    result = decide(Rule(0.02, 0.8, 0.95), build_pairs([0.5] * 20, [0.5] * 20))
    assert (result.verdict, result.reason) == (GateVerdict.FAIL, GateReason.MIN_SCORE)


def test_a_failed_example_counts_as_0_and_is_named() -> None:
    pairs = [Pair(n, Outcome(0.0, failed=True), Outcome(1.0)) for n in range(1, 31)]
    result = decide(RULE, pairs)
    assert result.numbers["failed"] == {"canary": 30, "stable": 0}
    assert result.verdict is GateVerdict.FAIL


@pytest.mark.parametrize("message", ["x" * 100_000, "很" * 100_000, "\U0001f600" * 100_000, '"\\' * 50_000])
def test_the_result_always_fits_into_a_termination_message(message: str) -> None:
    result = decide(RULE, build_pairs([0.0] * 5000, [1.0] * 5000))
    text = dump(Result(result.verdict, result.reason, message, result.numbers))
    assert len(text.encode()) <= 4096
    read: dict[str, Any] = json.loads(text)
    assert read["setSha256"] == "ab" * 32
    assert read["verdict"] == "Fail"
