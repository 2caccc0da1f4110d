import pytest

from dspy_server.contract import Drop, ScoreSource
from dspy_server.metrics import Metrics, Moments
from dspy_server.scoring import VOTES_PER_USER, FeedbackBox, Vote
from dspy_server.tokens import LIFETIME_SECONDS, Keys, TokenError, find_keys


def build_metrics() -> Metrics:
    return Metrics("triage")


def get_dropped(metrics: Metrics, reason: Drop) -> float:
    return float(metrics.scoring_dropped.labels("triage", "rev0", reason)._value.get())


def get_keys() -> Keys:
    keys = find_keys("0123456789abcdef", "")
    assert keys is not None
    return keys


def build_box(now: float = 0.0) -> tuple[FeedbackBox, list[float]]:
    clock = [now]
    return FeedbackBox(get_keys(), build_metrics(), lambda: clock[0]), clock


async def test_a_vote_counts_once() -> None:
    box, _ = build_box()
    token = box.issue("rev0", "r1", None)
    assert (await box.vote(token, 1.0), await box.vote(token, 0.0)) == (Vote.COUNTED, Vote.USED)
    assert box.metrics.get_moments() == {("rev0", ScoreSource.FEEDBACK): Moments(1, 1.0, 1.0)}


async def test_a_vote_of_another_pod_counts_here() -> None:
    issuer, _ = build_box()
    box, _ = build_box()
    assert await box.vote(issuer.issue("rev7", "r1", "alice"), 0.5) is Vote.COUNTED
    assert ("rev7", ScoreSource.FEEDBACK) in box.metrics.get_moments()


async def test_a_late_vote_is_refused() -> None:
    box, clock = build_box()
    token = box.issue("rev0", "r1", None)
    clock[0] = LIFETIME_SECONDS + 1.0
    with pytest.raises(TokenError):
        await box.vote(token, 1.0)


async def test_a_user_has_twenty_votes_a_day() -> None:
    box, clock = build_box()
    for index in range(VOTES_PER_USER):
        assert await box.vote(box.issue("rev0", f"r{index}", "alice"), 1.0) is Vote.COUNTED
    assert await box.vote(box.issue("rev0", "one more", "alice"), 1.0) is Vote.LIMITED
    assert get_dropped(box.metrics, Drop.USER_LIMIT) == 1
    assert await box.vote(box.issue("rev0", "of another", "bob"), 1.0) is Vote.COUNTED
    clock[0] = 86_400.0
    assert await box.vote(box.issue("rev0", "tomorrow", "alice"), 1.0) is Vote.COUNTED
