import itertools
import threading
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

import dspy_server
from dspy_server.contract import ErrorClass, Label, Metric, ProgramState, ScoreSource
from dspy_server.families import DURATION_BUCKETS
from dspy_server.metrics import REVISION, Metrics, RoutesView

Sample = tuple[str, frozenset[tuple[str, str]]]


def scrape(metrics: Metrics) -> dict[Sample, float]:
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def get(samples: dict[Sample, float], name: str, **labels: str) -> float:
    labels = {key.rstrip("_"): value for key, value in labels.items()}
    return samples[name, frozenset({"program": "triage", **labels}.items())]


@pytest.fixture
def metrics() -> Metrics:
    metrics = Metrics("triage", ["openai/gpt"], dspy_version="3.4.1")
    metrics.add_revision("rev0", [ScoreSource.METRIC, ScoreSource.FEEDBACK])
    return metrics


def test_a_loaded_revision_has_all_its_children_at_0(metrics: Metrics) -> None:
    samples = scrape(metrics)
    for code in ("200", "500", "502", "503", "504"):
        assert get(samples, "dspy_http_requests_total", revision="rev0", route="/ask", code=code) == 0
    for error_class in ErrorClass:
        assert get(samples, "dspy_program_errors_total", revision="rev0", class_=error_class) == 0
    for name in ("dspy_score_samples_total", "dspy_score_sum_total", "dspy_score_sumsq_total"):
        for source in ("metric", "feedback"):
            assert get(samples, name, revision="rev0", source=source) == 0
    assert get(samples, "dspy_request_duration_seconds_count", revision="rev0", cache="miss") == 0
    assert get(samples, "dspy_tokens_total", revision="rev0", model="openai/gpt", kind="prompt") == 0
    assert get(samples, "dspy_route_fallback_total", revision="rev0") == 0


def test_every_name_and_label_is_in_the_contract(metrics: Metrics) -> None:
    metrics.bind(
        lambda: RoutesView(
            3, 1.5, (("rev0", "stable", 100),), {"rev0": ProgramState.LOADED}, {"rev0": ("a", "3")}
        )
    )
    metrics.add_score("rev0", ScoreSource.METRIC, 0.5)
    metrics.http.labels("triage", "rev0", "/ask", "200").inc()
    names = set(Metric)
    for name, labels in scrape(metrics):
        base = name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum")
        assert {name, base} & names or name == "triage_refusals_total", name
        assert {key for key, _ in labels} <= {*Label, "le"}


def test_what_is_true_now_is_read_at_the_scrape(metrics: Metrics) -> None:
    state = ProgramState.WAITING
    metrics.bind(lambda: RoutesView(7, 12.25, (("rev0", "stable", 90),), {"rev0": state}))
    assert get(scrape(metrics), "dspy_program_loaded", revision="rev0") == 0
    assert get(scrape(metrics), "dspy_program_state", revision="rev0", state="waiting") == 1
    state = ProgramState.LOADED
    samples = scrape(metrics)
    assert get(samples, "dspy_program_loaded", revision="rev0") == 1
    assert get(samples, "dspy_program_state", revision="rev0", state="waiting") == 0
    assert get(samples, "dspy_routes_generation") == 7
    assert get(samples, "dspy_routes_applied_timestamp_seconds") == 12.25
    assert get(samples, "dspy_route_weight", revision="rev0", track="stable") == 90


def test_the_buckets_of_the_duration_are_at_most_35_percent_apart() -> None:
    assert (DURATION_BUCKETS[0], DURATION_BUCKETS[-1]) == (0.005, 120.0)
    ratios = [later / earlier for earlier, later in itertools.pairwise(DURATION_BUCKETS)]
    assert 1.10 <= min(ratios) <= max(ratios) <= 1.35


def test_score_moments_are_consistent_in_every_scrape(metrics: Metrics) -> None:
    stop = threading.Event()

    def score() -> None:
        while not stop.is_set():
            metrics.add_score("rev0", ScoreSource.METRIC, 0.5)

    writers = [threading.Thread(target=score) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(30):
            samples = scrape(metrics)
            count, total, squares = (
                get(samples, name, revision="rev0", source="metric")
                for name in ("dspy_score_samples_total", "dspy_score_sum_total", "dspy_score_sumsq_total")
            )
            assert total == count * 0.5
            assert squares == count * 0.25
    finally:
        stop.set()
        for writer in writers:
            writer.join()


def test_a_users_counter_carries_program_and_revision_and_starts_at_0(metrics: Metrics) -> None:
    refusals = dspy_server.counter("metrics_test_refusals_total")
    assert dspy_server.counter("metrics_test_refusals_total") is refusals
    assert get(scrape(metrics), "metrics_test_refusals_total", revision="rev0") == 0
    token = REVISION.set("rev0")
    refusals.inc()
    refusals.inc(2)
    REVISION.reset(token)
    assert get(scrape(metrics), "metrics_test_refusals_total", revision="rev0") == 3


@pytest.mark.parametrize("name", ["dspy_mine_total", "refusals", "re fusals_total", "", "1_total"])
def test_a_users_counter_needs_a_name_of_its_own(name: str) -> None:
    with pytest.raises(ValueError, match="counter's name"):
        dspy_server.counter(name)


@pytest.mark.parametrize("amount", [-1.0, float("nan")])
def test_a_users_counter_only_rises(amount: float) -> None:
    with pytest.raises(ValueError, match="only rises"):
        dspy_server.counter("metrics_test_refusals_total").inc(amount)


def test_a_retired_revision_leaves_no_series(metrics: Metrics) -> None:
    metrics.add_revision("rev1", [ScoreSource.METRIC])
    metrics.add_score("rev1", ScoreSource.METRIC, 1.0)
    metrics.remove_revision("rev1")
    assert not [labels for _, labels in scrape(metrics) if ("revision", "rev1") in labels]
    assert get(scrape(metrics), "dspy_score_samples_total", revision="rev0", source="metric") == 0


def test_there_are_no_created_series(metrics: Metrics) -> None:
    names: set[Any] = {name for name, _ in scrape(metrics)}
    assert not [name for name in names if name.endswith("_created")]
