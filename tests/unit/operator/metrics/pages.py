"""Metrics pages of serving pods, and a Prometheus on paper that has scraped them.

The cases of `cases.py` are made of these pages; the real Prometheus of `tests/prometheus` scrapes the same text.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from tests.unit.operator.metrics.scripted import Handler, success

from dspy_operator.api.names import Metric
from dspy_operator.metrics.queries import READING, SAMPLED_AT

STABLE, CANARY = "aaaaaaaaaa", "bbbbbbbbbb"
PROGRAM = "triage"
MOMENT = "looks_moment"
"""A series of the tests' own on each page: tells when Prometheus has scraped it."""


@dataclass(frozen=True)
class Page:
    """What one pod has counted: requests that went well (`stable`, `canary`), each with a score of 0.5.

    Attributes:
        stable: requests answered by stable.
        canary: requests answered by the canary.
        failed: of the canary with 500; None: that series is not there.
        late: scores of the canary that came without a request.
        generation: of the routing table.
        loaded: 1 if the canary can answer.
        scores: stable's n, sum and sum of squares, as they are printed, instead.
        without: metrics that the page has not.
        renamed: pieces of the text that a newer image writes otherwise.
        more: further lines, `{who}` stands for stable's labels.
        stamped: the page bears its own time, in seconds after the case began; None: Prometheus gives it.
    """

    stable: int
    canary: int
    failed: int | None = 0
    late: int = 0
    generation: int = 7
    loaded: int = 1
    scores: tuple[object, object, object] | None = None
    without: frozenset[str] = frozenset()
    renamed: tuple[tuple[str, str], ...] = ()
    more: tuple[str, ...] = ()
    stamped: float | None = None


def build_text(page: Page, moment: int, began: float) -> str:
    """The page in Prometheus' text format; `began` in Unix seconds."""
    time = "" if page.stamped is None else f" {round(1000 * (began + page.stamped))}"
    lines = [f"{line}{time}" for line in _list_lines(page) if line.split("{")[0] not in page.without]
    text = "\n".join([*lines, f'{MOMENT}{{program="{PROGRAM}"}} {moment}', ""])
    for old, new in page.renamed:
        text = text.replace(old, new)
    return text


def _list_lines(page: Page) -> Iterator[str]:
    yield f'{Metric.ROUTES_GENERATION}{{program="{PROGRAM}"}} {page.generation}'
    for revision, n, scored in ((STABLE, page.stable, 0), (CANARY, page.canary, page.late)):
        who = f'program="{PROGRAM}",revision="{revision}"'
        yield f"{Metric.PROGRAM_LOADED}{{{who}}} {1 if revision == STABLE else page.loaded}"
        yield f'{Metric.HTTP_REQUESTS}{{{who},route="/ask",code="200"}} {n}'
        if revision == CANARY and page.failed is not None:
            yield f'{Metric.HTTP_REQUESTS}{{{who},route="/ask",code="500"}} {page.failed}'
        total = n + scored
        triple = page.scores if page.scores and revision == STABLE else (total, total * 0.5, total * 0.25)
        names = (Metric.SCORE_SAMPLES, Metric.SCORE_SUM, Metric.SCORE_SUMSQ)
        for name, value in zip(names, triple, strict=True):
            yield f'{name}{{{who},source="metric"}} {value}'
    for line in page.more:
        yield line.replace("{who}", f'program="{PROGRAM}",revision="{STABLE}"')


@dataclass(frozen=True)
class Sample:
    """One series as Prometheus keeps it, and when it was scraped."""

    labels: Mapping[str, str]
    value: float
    t: float


def list_samples(text: str, scraped: Mapping[str, str], t: float) -> list[Sample]:
    """What a scrape at `t` makes of a page; `scraped` are the labels that the scrape adds."""
    return [
        Sample(
            {"__name__": sample.name} | sample.labels | dict(scraped),
            sample.value,
            t if sample.timestamp is None else float(sample.timestamp),
        )
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]


def answer_from(samples: Iterable[Sample], t: float) -> Callable[[Handler], None]:
    """Answer the reader's queries at `t` as Prometheus would, by the matchers that stand in them."""
    kept = list(samples)

    def answer(handler: Handler) -> None:
        rows = [row for part in handler.form["query"].split(" or ") for row in _list_rows(part, kept, t)]
        handler.send(success(rows))

    return answer


MATCHER = re.compile(r'(\w+)(=~|!=|=)("(?:[^"\\]|\\.)*")')
SELECTOR = re.compile(
    r"(?:label_replace\((?P<timestamp>timestamp)\()?\(?(?P<name>\w*)\{(?P<matchers>.*)\}(?: == (?P<value>\d+)\))?"
)


def _list_rows(query: str, samples: list[Sample], t: float) -> Iterator[dict[str, Any]]:
    if query == "vector(time())":
        yield {"metric": {}, "value": [t, str(t)]}
        return
    selector = SELECTOR.match(query)
    assert selector is not None, query
    matchers = MATCHER.findall(selector["matchers"])
    for sample in samples:
        name = sample.labels["__name__"]
        if selector["name"] not in {"", name} or not all(_matches(sample, *matcher) for matcher in matchers):
            continue
        labels, value = dict(sample.labels), sample.value
        if selector["value"] and value != float(selector["value"]):
            continue
        if selector["timestamp"]:
            labels, value = labels | {READING: SAMPLED_AT}, sample.t
            del labels["__name__"]
        yield {"metric": labels, "value": [t, repr(value)]}


def _matches(sample: Sample, label: str, operator: str, quoted: str) -> bool:
    value, wanted = sample.labels.get(label, ""), str(json.loads(quoted))
    match operator:
        case "=~":
            return re.fullmatch(wanted, value) is not None
        case "!=":
            return value != wanted
        case _:
            return value == wanted
