"""The published vectors of the sequential test, to six digits."""

import pytest

from dspy_operator.rollout.judging import (
    Action,
    Counts,
    Look,
    MetricConfig,
    MetricType,
    Reference,
    RolloutConfig,
    State,
    StepConfig,
    enter_step,
    judge,
    start,
)
from dspy_operator.rollout.judging.engine import (
    build_estimates,
    build_rollback_null,
    get_bet,
    get_ln_mean_exp,
    get_spread,
    psi,
)
from dspy_operator.rollout.judging.latency import list_promote_gains, list_rollback_gains
from dspy_operator.rollout.judging.moments import Moments, build_prior

SCORE = MetricConfig("score", MetricType.SCORE, margin=0.05, min_samples=50)
REFERENCE = Reference(mean=0.8, variance=0.04)
PRIOR_C, PRIOR_S = (build_prior(k, 0.8, 0.04) for k in (20, 200))

Arm = tuple[float, float, float]


def build_config(*metrics: MetricConfig, min_duration: float = 0) -> RolloutConfig:
    steps = (StepConfig(10, min_duration), StepConfig(50, min_duration), StepConfig(100))
    return RolloutConfig(steps=steps, metrics=metrics)


def build_look(t: float, canary: Arm, stable: Arm) -> Look:
    return Look(t=t, metrics={"score": (Counts(*canary), Counts(*stable))})


ROLLBACK = [
    (30, (20, 14.5, 11.75), (180, 144, 122.5), 0.211799, -0.569623, 1, 0.093750, Action.HOLD),
    (60, (22, 13, 10), (176, 141.5, 121), 1.741566, -3.031017, 1.492772, 0.183143, Action.HOLD),
    (90, (0, 0, 0), (95, 76, 64.5), 1.741566, -3.031017, 1.492772, 0.183143, Action.HOLD),
    (120, (21, 14.5, 11.75), (88, 70, 59.5), 2.224502, -3.456000, 1.523836, 0.166965, Action.HOLD),
    (150, (20, 10.5, 7.75), (181, 144.5, 123), 3.878737, -4.883494, 1.758788, 0.209334, Action.ROLL_BACK),
]


def test_a_worse_canary_is_rolled_back_at_the_published_look() -> None:
    state = start(build_config(SCORE), {"score": REFERENCE}, 0)
    for t, canary, stable, ln_e_r, ln_e_p, dispersion, drop, action in ROLLBACK:
        state, verdict = judge(state, build_look(t, canary, stable))
        metric = verdict.metrics[0]
        assert metric.ln_e_rollback == pytest.approx(ln_e_r, abs=5e-7)
        assert metric.ln_e_promote == pytest.approx(ln_e_p, abs=5e-7)
        assert metric.dispersion == pytest.approx(dispersion, abs=5e-7)
        assert metric.drop == pytest.approx(drop, abs=5e-7)
        assert verdict.action is action, t


def test_the_first_look_earns_the_published_components() -> None:
    state = start(build_config(SCORE), {"score": REFERENCE}, 0)
    state, _ = judge(state, build_look(30, ROLLBACK[0][1], ROLLBACK[0][2]))
    assert state.metrics[0].rows[0] == pytest.approx((0.263127, 0.425589, 0.435611, 0.411978), abs=5e-7)


def test_the_first_component_of_the_first_look_is_put_together_as_published() -> None:
    null = build_rollback_null(SCORE)
    assert [gap for gap, _ in null.components] == pytest.approx([0.08, 0.08, 0.18, 0.38])
    assert [tau for _, tau in null.components] == [0, 1, 1, 1]
    (_, c, s, *_), before = ROLLBACK[0], build_estimates(PRIOR_C, PRIOR_S)
    weight = null.ratio * c[0] / s[0]
    bet = get_bet(0.08 * 0.8, 0.04 + null.ratio * weight * 0.04, max(0.2, weight * 0.8))
    spreads = get_spread(Moments(*c), before.canary), get_spread(Moments(*s), before.stable)
    assert (weight, bet) == pytest.approx((0.108889, 1.121460), abs=5e-7)
    assert spreads == pytest.approx((1.35, 7.3), abs=5e-7)
    assert bet * (weight * s[1] - c[1]) == pytest.approx(1.323323, abs=5e-7)
    assert spreads[0] * psi(bet * 0.2) / 0.2**2 == pytest.approx(1.001941, abs=5e-7)
    assert spreads[1] * psi(bet * weight * 0.8) / 0.8**2 == pytest.approx(0.058255, abs=5e-7)


def test_at_the_second_look_the_cap_binds_in_three_components() -> None:
    state = start(build_config(SCORE), {"score": REFERENCE}, 0)
    rows = [state.metrics[0].rows[0]]
    for t, canary, stable, *_ in ROLLBACK[:2]:
        state, _ = judge(state, build_look(t, canary, stable))
        rows.append(state.metrics[0].rows[0])
    gains = [new - old for old, new in zip(rows[1], rows[2], strict=True)]
    assert sum(gain == pytest.approx(2, abs=1e-12) for gain in gains) == 3


PROMOTE = [
    (30, (25, 20.5, 17.75), (225, 180, 151.5), -0.411234, 1.010598, -0.025000, Action.HOLD),
    (60, (30, 24, 20.5), (270, 216.5, 183), -0.555839, 1.758562, -0.010088, Action.ADVANCE),
    (120, (60, 48.5, 41.25), (60, 47.5, 40), -2.011040, 1.730210, -0.021053, Action.HOLD),
    (150, (64, 51, 43), (58, 46.5, 39.5), -2.851367, 2.889930, -0.007321, Action.HOLD),
    (180, (70, 57, 48.5), (66, 53, 45), -4.122304, 4.816061, -0.009743, Action.PROMOTE),
]


def run_promotion(state: State, at: list[tuple[float, ...]] | None = None) -> State:
    for t, canary, stable, ln_e_r, ln_e_p, drop, action in PROMOTE:
        state, verdict = judge(state, build_look(t, canary, stable))
        metric = verdict.metrics[0]
        assert metric.ln_e_rollback == pytest.approx(ln_e_r, abs=5e-7)
        assert metric.ln_e_promote == pytest.approx(ln_e_p, abs=5e-7)
        assert metric.dispersion == 1
        assert metric.drop == pytest.approx(drop, abs=5e-7)
        assert verdict.action is action, t
        if action is Action.ADVANCE:
            state = enter_step(state, 2, 90)
    return state


def test_an_equal_canary_is_promoted_at_the_published_look() -> None:
    run_promotion(start(build_config(SCORE, min_duration=60), {"score": REFERENCE}, 0))


def test_an_error_rate_earns_the_published_evidence() -> None:
    errors = MetricConfig("errors", MetricType.ERROR_RATE, margin=0.01)
    state = start(build_config(errors), {"errors": Reference(mean=0.99, variance=0.0099)}, 0)
    look = Look(t=30, metrics={"errors": (Counts(50, bad=6), Counts(450, bad=4))})
    _, verdict = judge(state, look)
    assert verdict.metrics[0].ln_e_rollback == pytest.approx(1.426743, abs=5e-7)
    assert verdict.metrics[0].ln_e_promote == pytest.approx(-4.125475, abs=5e-7)


def test_an_absolute_latency_earns_the_published_evidence() -> None:
    assert get_ln_mean_exp([list_rollback_gains(50, 9, 1)]) == pytest.approx(1.594661, abs=5e-7)
    assert get_ln_mean_exp([list_promote_gains(50, 9, 1)]) == pytest.approx(-5.333082, abs=5e-7)
