"""What holds for any looks, priors and weights."""

import math
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.operator.judging.rollouts import ERRORS, LATENCY, SCORE, build_config, build_scores, judge_all

from dspy_operator.rollout.judging import (
    Action,
    Counts,
    Look,
    Reference,
    State,
    enter_step,
    judge,
    start,
)
from dspy_operator.rollout.judging.engine import (
    LEAST_BOUND,
    Estimates,
    build_bake_null,
    build_promote_null,
    build_rollback_null,
    get_bet,
    list_gains,
    psi,
)
from dspy_operator.rollout.judging.moments import LEAST_VARIANCE, Moments

FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])

shares = st.floats(0, 1)
counts = st.integers(0, 500)


@st.composite
def moments(draw: st.DrawFn, least: int = 0) -> Moments:
    n = draw(st.integers(least, 5000))
    mean = draw(shares)
    squares = mean**2 + draw(shares) * (mean - mean**2)
    return Moments(float(n), n * mean, n * squares)


@st.composite
def scores(draw: st.DrawFn) -> Counts:
    drawn = draw(moments())
    return Counts(drawn.n, drawn.total, drawn.squares)


@st.composite
def errors(draw: st.DrawFn) -> Counts:
    n = draw(counts)
    return Counts(n, bad=draw(st.integers(0, n)))


@st.composite
def looks(draw: st.DrawFn) -> list[Look]:
    names = {"score": scores(), "errors": errors(), "latency": errors()}
    count = draw(st.integers(1, 12))
    return [
        Look(t=30.0 * k, metrics={name: (draw(arm), draw(arm)) for name, arm in names.items()})
        for k in range(1, count + 1)
    ]


priors = st.builds(
    Reference,
    mean=shares,
    variance=st.floats(0, 0.25),
    canary_weight=st.floats(0.01, 1e4),
    stable_weight=st.floats(0.01, 1e4),
)
margins = st.tuples(st.floats(0, 1), shares).map(lambda pair: (pair[0], pair[0] * pair[1]))


def list_cells(state: State) -> list[float]:
    return [
        cell
        for memory in state.metrics
        for row in (*memory.rows, *memory.absolute_rows, memory.promote, memory.absolute_promote)
        for cell in row
    ]


@given(looks(), priors, margins)
@FEW
def test_any_prior_and_margin_gives_finite_evidence(
    drawn: list[Look], prior: Reference, margin: tuple[float, float]
) -> None:
    metrics = [replace(metric, margin=margin[0], tolerance=margin[1]) for metric in (SCORE, ERRORS, LATENCY)]
    state = start(build_config(*metrics), {metric.name: prior for metric in metrics}, 0)
    for look in drawn:
        state, verdict = judge(state, look)
        assert all(math.isfinite(cell) for cell in list_cells(state))
        assert math.isfinite(verdict.ln_e_rollback)
        assert all(memory.dispersion.factor >= 1 for memory in state.metrics)


@given(margins, st.tuples(shares, shares), st.floats(LEAST_VARIANCE, 0.25), st.floats(1e-3, 1e3))
def test_no_bet_can_lose_more_than_everything(
    margin: tuple[float, float], means: tuple[float, float], variance: float, weight: float
) -> None:
    canary, stable = means
    for metric in (SCORE, ERRORS):
        judged = replace(metric, margin=margin[0], tolerance=margin[1])
        for null in (build_rollback_null(judged), build_promote_null(judged), build_bake_null(judged)):
            bound_c = max(1 - canary if null.sign > 0 else canary, LEAST_BOUND)
            bound_s = max(stable if null.sign > 0 else 1 - stable, LEAST_BOUND)
            for gap, tau in null.components:
                bet = get_bet(gap, variance, max(bound_c, weight * bound_s) + tau * canary)
                assert 0 <= bet * bound_c < 1
                assert 0 <= bet * weight * bound_s < 1


@given(moments(least=1), moments(least=1), shares, shares)
def test_one_look_adds_at_most_two(canary: Moments, stable: Moments, x_c: float, x_s: float) -> None:
    before = Estimates(x_c, x_s, 0.05, 0.05)
    for null in (build_rollback_null(SCORE), build_promote_null(SCORE)):
        assert all(gain <= 2 for gain in list_gains(null, before, canary, stable, 1.0))


@given(st.floats(0, 1))
def test_the_penalty_is_finite_and_never_negative(u: float) -> None:
    assert 0 <= psi(u) < math.inf


@given(looks(), st.permutations(["score", "errors", "latency"]))
@FEW
def test_the_order_of_metrics_in_a_look_does_not_matter(drawn: list[Look], order: list[str]) -> None:
    config = build_config(SCORE, ERRORS, LATENCY)
    mixed = [replace(look, metrics={name: look.metrics[name] for name in order}) for look in drawn]
    begun = start(config, {"score": Reference(), "latency": Reference()}, 0)
    assert judge_all(begun, mixed) == judge_all(begun, drawn)


@given(looks(), st.floats(0.001, 0.2), st.floats(0.001, 0.2))
@FEW
def test_a_smaller_alpha_never_fires_earlier(drawn: list[Look], one: float, other: float) -> None:
    fired = []
    for alpha in (min(one, other), max(one, other)):
        config = replace(build_config(SCORE, ERRORS, LATENCY, weights=(50, 100)), alpha=alpha)
        state = start(config, {name: Reference() for name in ("score", "errors", "latency")}, 0)
        when = math.inf
        for look in drawn:
            state, verdict = judge(state, look)
            if verdict.action is Action.ROLL_BACK and when == math.inf:
                when = look.t
        fired.append(when)
    assert fired[0] >= fired[1]


@given(looks(), looks())
@FEW
def test_dry_run_metrics_change_no_verdict(drawn: list[Look], shadow: list[Look]) -> None:
    config = build_config(SCORE, ERRORS, LATENCY)
    dry = replace(SCORE, name="shadow", dry_run=True)
    with_dry = replace(config, metrics=(*config.metrics, dry))
    references = {name: Reference() for name in ("score", "errors", "latency", "shadow")}
    plain, observed = start(config, references, 0), start(with_dry, references, 0)
    for index, look in enumerate(drawn):
        extra = shadow[index % len(shadow)].metrics["score"]
        plain, expected = judge(plain, look)
        observed, verdict = judge(observed, replace(look, metrics={**look.metrics, "shadow": extra}))
        assert (verdict.action, verdict.reason, verdict.observed) == (
            expected.action,
            expected.reason,
            expected.observed,
        )
        assert verdict.metrics[:3] == expected.metrics


@given(looks(), looks(), st.sampled_from(["unsettled", "outage", "nan", "empty", "old"]))
@FEW
def test_looks_that_cannot_measure_leave_the_evidence_untouched(
    drawn: list[Look], noise: list[Look], kind: str
) -> None:
    state, _ = judge_all(start(build_config(SCORE, ERRORS), {"score": Reference()}, 0), drawn)
    t = state.clock.last
    if kind == "outage":
        state = replace(state, provider_outage=(False, True))
    look = replace(noise[0], t=t + 30)
    match kind:
        case "unsettled":
            look = replace(look, settled=False)
        case "nan":
            nothing = (Counts(math.nan), Counts(math.nan))
            look = replace(look, metrics={"score": nothing, "errors": nothing})
        case "empty":
            look = replace(look, metrics={})
        case "old":
            look = replace(look, t=t)
    after, verdict = judge(state, look)
    assert list_cells(after) == list_cells(state)
    assert after.clock.observed == state.clock.observed
    assert verdict.action in {Action.HOLD, Action.ROLL_BACK}


@given(st.lists(st.integers(0, 500), min_size=1, max_size=30), st.sampled_from([30, 10_000]))
@FEW
def test_zero_canary_samples_never_promote(stable: list[int], deadline: float) -> None:
    config = build_config(SCORE, deadline=deadline)
    state = start(config, {"score": Reference(0.8, 0.1)}, 0)
    for index, n in enumerate(stable):
        look = Look(t=30.0 * (index + 1), metrics={"score": (Counts(), build_scores(n, 0.8))})
        state, verdict = judge(state, look)
        assert verdict.action is Action.HOLD


@given(looks(), st.integers(1, 2))
@FEW
def test_entering_a_step_never_takes_rollback_evidence_away(drawn: list[Look], step: int) -> None:
    state, before = judge_all(start(build_config(SCORE), {"score": Reference()}, 0), drawn)
    after, verdict = judge(enter_step(state, step, 1000), Look(t=1030))
    assert verdict.ln_e_rollback == pytest.approx(before.ln_e_rollback, abs=1e-9)
    assert after.metrics[0].canary == state.metrics[0].canary
