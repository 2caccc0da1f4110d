"""What one program's odd series may not do: end the reader, or take another program's numbers away."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.operator.metrics.answers import POD
from tests.unit.operator.metrics.scripted import CLOCK, Handler, run_scripted, series, success

from dspy_operator.api.names import Metric
from dspy_operator.metrics.counting import add
from dspy_operator.metrics.reader import PrometheusReader
from dspy_operator.metrics.readings import IdleReading, ProgramKey
from dspy_operator.rollout.judging import Counts, MetricConfig, MetricType
from dspy_operator.rollout.model import Unmeasured

KEY: ProgramKey = ("ml", "triage")
ERRORS = MetricConfig("errors", MetricType.ERROR_RATE, 0.01)
LATENCY = MetricConfig("latency", MetricType.LATENCY_P95, 0.2)


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf"])
@pytest.mark.parametrize("name", [Metric.ROUTES_GENERATION, Metric.SCORE_SAMPLES])
async def test_while_idle_a_number_that_is_none_is_left_out_and_the_others_are_not(
    name: str, value: str
) -> None:
    odd = series(name, value, revision="a", source="metric", **(POD | {"program": "odd"}))
    rows = [odd, series(Metric.ROUTES_GENERATION, 7, **POD), CLOCK]
    with run_scripted(lambda handler: handler.send(success(rows))) as prometheus:
        reader = PrometheusReader(prometheus.url)
        idle = await reader.read_generations()
        reader.close()
    assert isinstance(idle, IdleReading)
    assert idle.generations == {KEY: {"pod-0": 7}}
    assert idle.scores == {}


async def read_reference(answer: Callable[[Handler], None], metric: MetricConfig) -> Any:
    with run_scripted(answer) as prometheus:
        reader = PrometheusReader(prometheus.url)
        references = await reader.read_reference(KEY, "a", [metric])
        reader.close()
    return references


async def test_a_bound_in_the_history_that_is_no_number_is_ignored() -> None:
    bounds = {"0.5": 50, "1.0": 200, "+Inf": 200, "fast": 7, "": 3, "NaN": 9}
    answer = success([series("", n, le=le) for le, n in bounds.items()])
    references = await read_reference(lambda handler: handler.send(answer), LATENCY)
    assert references["latency"].p95 == pytest.approx(0.96666667)
    assert references["latency"].bounds == (0.5, 1.0)


@pytest.mark.parametrize("bounds", [{"0.5": 50, "1.0": 200}, {"fast": 500}, {"+Inf": 99}, {"+Inf": 200}])
async def test_a_history_without_usable_bounds_is_no_reference(bounds: dict[str, int]) -> None:
    answer = success([series("", n, le=le) for le, n in bounds.items()])
    assert await read_reference(lambda handler: handler.send(answer), LATENCY) == {}


async def test_prometheus_advice_on_a_counters_name_does_not_take_the_history_away() -> None:
    answer = success([series("", 200, code="200")], infos=["metric might not be a counter"])
    references = await read_reference(lambda handler: handler.send(answer), ERRORS)
    assert references["errors"].mean == 1


async def test_a_history_with_warnings_is_no_reference() -> None:
    answer = success([series("", 200, code="200")], infos=["advice"], warnings=["partial"])
    references = await read_reference(lambda handler: handler.send(answer), ERRORS)
    assert isinstance(references, Unmeasured)
    assert "warnings" in references.message


async def test_a_p95_for_people_is_shown_in_spite_of_advice_on_the_query() -> None:
    rows = [series("", 0.7, revision="a", **POD), series("", "NaN", revision="b", **POD)]
    answer = success(rows, infos=["input to histogram_quantile needed to be fixed"])
    with run_scripted(lambda handler: handler.send(answer)) as prometheus:
        reader = PrometheusReader(prometheus.url)
        found = await reader.read_p95()
        reader.close()
    assert found == {KEY: {"a": 0.7}}


@pytest.mark.parametrize(("n", "known"), [(19, False), (20, True)])
async def test_a_score_needs_twenty_of_history(n: int, *, known: bool) -> None:
    answer = success([series("", n, source="metric")])
    score = MetricConfig("score", MetricType.SCORE, 0.05)
    references = await read_reference(lambda handler: handler.send(answer), score)
    assert ("score" in references) is known


def test_of_two_pods_with_other_bounds_the_histogram_has_those_that_both_have() -> None:
    one, other = Counts(4, histogram=((0.5, 1), (1.0, 3))), Counts(6, histogram=((1.0, 5), (2.0, 6)))
    assert add([one, other]) == Counts(10, histogram=((1.0, 8),))
