"""The record: replay equals the run, from any checkpoint, within its size."""

import json
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
from tests.unit.operator.judging.rollouts import (
    ALL,
    COST,
    ERRORS,
    LATENCY,
    RATIO,
    REFERENCES,
    SCORE,
    build_config,
    build_score_look,
)

from dspy_operator.rollout.judging import (
    Counts,
    Look,
    OnMissing,
    Reference,
    State,
    Verdict,
    build_judged,
    enter_bake,
    enter_step,
    judge,
    resume,
    start,
)
from dspy_operator.rollout.judging.record import (
    LARGEST,
    BakeEntered,
    Record,
    Resumed,
    StepEntered,
    append,
    fold,
    from_text,
    replay,
    start_record,
    to_text,
)

CONFIG = build_config(
    SCORE, LATENCY, ERRORS, replace(RATIO, on_missing=OnMissing.SKIP), COST, bake=600, min_duration=90
)


def build_random_look(random: Random, t: float) -> Look:
    n_c, n_s = random.randint(0, 30), random.randint(0, 200)
    scores = [sum(random.random() ** 0.3 for _ in range(n)) for n in (n_c, n_s)]
    fast = [round(0.9 * n) for n in (n_c, n_s)]
    histograms = [((1.0, f), (1.2, f), (2.0, n)) for f, n in zip(fast, (n_c, n_s), strict=True)]
    return Look(
        t=t,
        settled=random.random() > 0.1,
        metrics={
            "score": (Counts(n_c, scores[0], scores[0] * 0.8), Counts(n_s, scores[1], scores[1] * 0.8)),
            "errors": (Counts(n_c, bad=n_c // 20), Counts(n_s, bad=n_s // 50)),
            "latency": (Counts(n_c, histogram=histograms[0]), Counts(n_s, histogram=histograms[1])),
            "cost": (Counts(n_c, n_c * random.random() / 9), Counts(n_s, n_s * random.random() / 9)),
        },
        requests=(float(n_c), float(n_s)),
        provider_errors=(0.0, random.choice([0.0, 0.0, float(n_s)])),
        share=0.1,
    )


def run(
    seed: int, count: int, checkpoint: Callable[[State], State] = lambda state: state
) -> tuple[Record, list[Verdict]]:
    """A rollout with every kind of event, the state passed through `checkpoint` after each."""
    random = Random(seed)
    state = start(CONFIG, {name: REFERENCES[name] for name in ("score", "latency")}, 0.1234567)
    record, verdicts = start_record(state), []
    for k in range(1, count + 1):
        t = 30.1 * k
        look = build_judged(state, build_random_look(random, t))
        state, verdict = judge(state, look)
        record = append(record, look)
        verdicts.append(verdict)
        if k == count // 3:
            state, record = enter_step(state, 2, t + 1), append(record, StepEntered(2, t + 1))
        if k == count // 2:
            state, record = resume(state, t + 1), append(record, Resumed(t + 1))
        if k == 2 * count // 3:
            state, record = enter_bake(state, t + 1), append(record, BakeEntered(t + 1))
        state = checkpoint(state)
    assert fold(record) == state
    return record, verdicts


@pytest.mark.parametrize("seed", range(3))
def test_a_run_through_json_after_every_look_equals_the_straight_run(seed: int) -> None:
    straight = run(seed, 60)
    through = run(seed, 60, lambda state: State.from_json(json.loads(json.dumps(state.to_json()))))
    assert through == straight


@pytest.mark.parametrize("seed", range(3))
def test_a_replay_from_any_checkpoint_gives_the_same_verdicts(seed: int) -> None:
    record, verdicts = run(seed, 60)
    for cut in range(0, len(record.events), 13):
        older = replace(record, events=record.events[:cut])
        newer = replace(start_record(fold(older)), events=record.events[cut:])
        again = [verdict for _, _, verdict in replay(from_text(to_text(newer))) if verdict is not None]
        assert again == verdicts[len(verdicts) - len(again) :]
        assert fold(newer) == fold(record)


def test_a_record_of_many_looks_stays_within_64_kib_and_folds_to_the_same_state() -> None:
    record, _ = run(7, 500)
    text = to_text(record)
    assert len(text.encode()) <= LARGEST
    assert 0 < len(record.events) < 500
    assert from_text(text) == record


def test_a_state_of_five_metrics_is_small() -> None:
    record, _ = run(3, 200)
    state = fold(record)
    assert len(state.config.metrics) == len(ALL)
    assert len(json.dumps(state.to_json(), separators=(",", ":"))) <= 8192


def test_of_a_latencys_reference_the_limits_are_kept_and_the_bounds_are_not() -> None:
    state = start(CONFIG, REFERENCES, 0)
    reference = state.find_reference("latency")
    assert reference is not None
    assert REFERENCES["latency"].bounds
    assert (reference.p95, reference.bounds) == (1.0, ())


def test_numbers_that_json_has_not_are_recorded_as_no_numbers() -> None:
    state = start(CONFIG, REFERENCES, 0)
    nan, inf = float("nan"), float("inf")
    look = Look(
        t=30,
        metrics={
            "score": (Counts(nan), Counts(180, 144)),
            "latency": (Counts(5, histogram=((inf, 5.0),)), Counts(5)),
        },
        requests=(inf, nan),
        provider_errors=(nan, inf),
        share=nan,
    )
    assert fold(append(start_record(state), look)) == judge(state, look)[0]


def test_a_text_that_is_no_record_is_refused() -> None:
    with pytest.raises(ValueError, match="version"):
        from_text('{"version": 99}')
    with pytest.raises(ValueError, match="version"):
        State.from_json({"version": 99})
    text = to_text(append(start_record(start(CONFIG, {}, 0)), Resumed(5)))
    with pytest.raises(ValueError, match="unknown event"):
        fold(from_text(text.replace("resume", "restart")))
    with pytest.raises(ValueError, match="fields"):
        State.from_json({"version": 2, "state": [1, 2]})


def build_first(record: Record) -> str:
    """The text as the operator wrote it before looks had answers and fallbacks."""
    document = json.loads(to_text(record))
    state = document["checkpoint"]["state"]
    document["checkpoint"] = {
        "version": 1,
        "state": [
            [metric[:-1] for metric in part] if at == 4 else part for at, part in enumerate(state[:-2])
        ],
    }
    return json.dumps(document)


def test_a_record_of_the_version_before_is_read_and_goes_on() -> None:
    record, _ = run(5, 20)
    again = from_text(build_first(record))
    assert again == record
    look = build_score_look(1e6, 0.7, successes=(20.0, 180.0), share=0.1, fallbacks=3.0)
    assert fold(append(again, look)) == fold(append(record, look))
    with pytest.raises(ValueError, match="without metrics"):
        State.from_json({"version": 1, "state": [1, 2]})


def test_what_a_look_says_of_answers_and_fallbacks_is_recorded() -> None:
    look = build_score_look(30, 0.7, successes=(20.0, 180.0), share=0.1, fallbacks=3.0)
    record = append(start_record(start(CONFIG, REFERENCES, 0)), look)
    assert [event for event, _, _ in replay(from_text(to_text(record)))] == [look]
    state = fold(record)
    assert (state.successes, state.fallbacks, state.metrics[0].scored) == ((20.0, 180.0), 3.0, (20.0, 180.0))


def test_a_reference_and_its_source_survive_json() -> None:
    state = start(CONFIG, {"score": Reference(0.7, 0.1, source="judge")}, 0)
    again = State.from_json(json.loads(json.dumps(state.to_json())))
    assert again == state
    reference = again.find_reference("score")
    assert reference is not None
    assert reference.source == "judge"
