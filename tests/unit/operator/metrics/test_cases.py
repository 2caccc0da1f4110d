"""Counters to looks on paper: every listed case against a scripted Prometheus, over real HTTP."""

import pytest
from tests.unit.operator.metrics.cases import Case, Moment, Walk
from tests.unit.operator.metrics.listed_cases import CASES
from tests.unit.operator.metrics.pages import Sample, answer_from, build_text, list_samples
from tests.unit.operator.metrics.scripted import NOW, run_scripted

from dspy_operator.metrics.reader import PrometheusReader
from dspy_operator.metrics.readings import Interest, Reading


def list_scraped(case: Case, moment: Moment, number: int, t: float) -> list[Sample]:
    return [
        sample
        for pod, page in moment.pods.items()
        if page is not None
        for scraper in moment.scrapers
        for sample in list_samples(
            build_text(page, number, NOW), {"namespace": case.key[0], "pod": pod, "job": scraper}, t - 1
        )
    ]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.key[0])
async def test_what_the_pods_show_becomes_the_look_that_it_should(case: Case) -> None:
    walk = Walk(case)
    with run_scripted(lambda handler: None) as prometheus:
        reader = PrometheusReader(prometheus.url)
        for number, moment in enumerate(case.moments):
            t = NOW + 30 * number
            prometheus.answer = answer_from(list_scraped(case, moment, number, t), t)
            reading = await reader.read([Interest(case.key)])
            assert isinstance(reading, Reading), reading
            walk.take(reading, moment)
        reader.close()
    assert walk.seen == [moment.seen for moment in case.moments[1:]]
