"""The listed cases of counters to looks, all at once, against a real Prometheus that scrapes the same pages."""

import asyncio
import time
from collections.abc import Iterator

import pytest
from tests.prometheus.conftest import Prometheus, wait_until
from tests.unit.operator.metrics.cases import Case, Moment, Walk
from tests.unit.operator.metrics.listed_cases import CASES
from tests.unit.operator.metrics.pages import MOMENT, build_text

from dspy_operator.metrics.reader import PrometheusReader
from dspy_operator.metrics.readings import Interest, Reading

pytestmark = pytest.mark.tools

LONGEST = max(len(case.moments) for case in CASES)


def list_places(case: Case, moment: Moment) -> Iterator[tuple[str, str, str]]:
    """(namespace, pod, job) of each scrape of a pod."""
    return ((case.key[0], pod, scraper) for pod in moment.pods for scraper in moment.scrapers)


def get_moment(case: Case, number: int) -> tuple[int, Moment]:
    """The case's moment of that number; one that is over stays at its last."""
    reached = min(number, len(case.moments) - 1)
    return reached, case.moments[reached]


def show(prometheus: Prometheus, number: int, began: float) -> None:
    """Change all pages and targets to those of that moment, and wait until Prometheus has them."""
    expected: dict[tuple[str, str, str], float] = {}
    targets = []
    for case in CASES:
        reached, moment = get_moment(case, number)
        for pod, page in moment.pods.items():
            text = None if page is None else build_text(page, reached, began)
            prometheus.pods.texts[f"/{case.key[0]}/{pod}"] = text
        for namespace, pod, job in list_places(case, moment):
            path = f"/{namespace}/{pod}"
            targets.append({"path": path, "namespace": namespace, "pod": pod, "job": job})
            if moment.pods[pod] is not None:
                expected[namespace, pod, job] = reached
    prometheus.scrape(targets)
    wait_until(lambda: find_scraped(prometheus) == expected, f"moment {number} is scraped", 60)


def find_scraped(prometheus: Prometheus) -> dict[tuple[str, str, str], float]:
    """Which page of each pod Prometheus has, by the series that each page has for that."""
    rows = prometheus.ask(MOMENT)
    return {
        tuple(row["metric"][name] for name in ("namespace", "pod", "job")): float(row["value"][1])
        for row in rows
    }


@pytest.fixture(scope="module")
def walks(prometheus: Prometheus) -> dict[str, Walk]:
    """Every case walked to its end, side by side: a change of targets takes Prometheus seconds."""
    began = time.time()  # noqa: TID251  pages bear real times
    walks = {case.name: Walk(case) for case in CASES}

    async def walk_all() -> None:
        reader = PrometheusReader(prometheus.url)
        for number in range(LONGEST):
            await asyncio.to_thread(show, prometheus, number, began)
            reading = await reader.read([Interest(case.key) for case in CASES])
            assert isinstance(reading, Reading), reading
            for case in CASES:
                if number < len(case.moments):
                    walks[case.name].take(reading, case.moments[number])
        reader.close()

    asyncio.run(walk_all())
    return walks


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.key[0])
def test_a_real_prometheus_gives_the_same_look(walks: dict[str, Walk], case: Case) -> None:
    assert walks[case.name].seen == [moment.seen for moment in case.moments[1:]]
