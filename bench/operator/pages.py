"""What simulated pods answer to a scrape: the server's own families, counters that advance with time.

The lines come once from `dspy_server.metrics`, so names and labels are those of real pods; each pod scales them.
"""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from dspy_server.contract import PATH_ASK, CacheLabel, ErrorClass, ProgramState, ScoreSource, TokenKind
from dspy_server.metrics import Metrics, RoutesView

REQUESTS: Final = 2000
"""Requests that the sample page stands for."""
RATE: Final = 10.0
"""Requests a second and pod."""
MODEL: Final = "openai/gpt-4o-mini"
PROGRAM: Final = "PROGRAM"
REVISION: Final = "REVISION"
FLOATS: Final = ("_sum", "_sum_total", "_sumsq_total", "_usd_total")
"""Ends of the names of counters that are no whole numbers."""


@dataclass(frozen=True)
class Line:
    """One series of the sample page: text up to the value, and how the value moves."""

    text: str
    value: float
    moves: bool
    whole: bool


@dataclass
class Route:
    """What one pod serves of one revision: `count` requests until `since`, then `rate` a second."""

    rate: float
    since: float
    count: float = 0.0

    def get_count(self, now: float) -> float:
        """Requests answered until now (seconds)."""
        return self.count + self.rate * (now - self.since)


@dataclass
class Pod:
    """One simulated pod; all times in seconds since 1970."""

    namespace: str
    name: str
    program: str
    generation: int = 0
    applied_at: float = 0.0
    routes: dict[str, Route] = field(default_factory=dict)

    def apply(self, generation: int, weights: dict[str, int], now: float) -> None:
        """Take a newer routing table: percent by revision."""
        if generation <= self.generation:
            return
        self.generation, self.applied_at = generation, now
        before = self.routes
        self.routes = {
            revision: Route(
                RATE * weight / 100, now, before[revision].get_count(now) if revision in before else 0.0
            )
            for revision, weight in weights.items()
        }


class Pages:
    """Renders all pods as one page."""

    def __init__(self) -> None:
        self._lines = _build_sample()
        self._texts: dict[tuple[str, str, str], list[str]] = {}

    def render(self, pods: Iterable[Pod], now: float) -> bytes:
        """The page at `now`."""
        return "\n".join(line for pod in pods for line in self._render(pod, now)).encode() + b"\n"

    def _render(self, pod: Pod, now: float) -> Iterator[str]:
        labels = f'{{namespace="{pod.namespace}",pod="{pod.name}",program="{pod.program}"}}'
        yield f"dspy_routes_generation{labels} {pod.generation}"
        yield f"dspy_routes_applied_timestamp_seconds{labels} {pod.applied_at:.3f}"
        for revision, route in list(pod.routes.items()):
            factor = route.get_count(now) / REQUESTS
            texts = self._get_texts(pod, revision)
            for text, line in zip(texts, self._lines, strict=True):
                if not line.moves:
                    yield f"{text}{line.value:g}"
                elif line.whole:
                    yield f"{text}{int(line.value * factor)}"
                else:
                    yield f"{text}{line.value * factor:.4f}"

    def _get_texts(self, pod: Pod, revision: str) -> list[str]:
        key = (pod.namespace, pod.name, revision)
        if key not in self._texts:
            own = f'namespace="{pod.namespace}",pod="{pod.name}",program="{pod.program}"'
            self._texts[key] = [
                line.text.replace(f'program="{PROGRAM}"', own).replace(REVISION, revision)
                for line in self._lines
            ]
        return self._texts[key]


def _build_sample() -> list[Line]:
    """Every series that the server has for one loaded revision, after `REQUESTS` healthy requests."""
    metrics = Metrics(PROGRAM, [MODEL], dspy_version="3.4.1")
    metrics.bind(lambda: RoutesView(states={REVISION: ProgramState.LOADED}))
    metrics.add_revision(REVISION, [ScoreSource.METRIC])
    draw = random.Random(7)
    for _ in range(REQUESTS):
        _answer_request(metrics, draw)
    return list(_parse(metrics.render().decode()))


def _answer_request(metrics: Metrics, draw: random.Random) -> None:
    key = (PROGRAM, REVISION)
    if draw.random() < 0.002:
        metrics.http.labels(*key, PATH_ASK, "500").inc()
        metrics.errors.labels(*key, ErrorClass.INTERNAL).inc()
        return
    seconds = draw.lognormvariate(-0.5, 0.4)
    metrics.http.labels(*key, PATH_ASK, "200").inc()
    metrics.duration.labels(*key, CacheLabel.MISS).observe(seconds)
    metrics.lm_calls.labels(*key, MODEL, "ok").inc()
    metrics.lm_duration.labels(*key, MODEL).observe(seconds * 0.9)
    metrics.tokens.labels(*key, MODEL, TokenKind.PROMPT).inc(400)
    metrics.add_score(REVISION, ScoreSource.METRIC, draw.betavariate(8, 2))


def _parse(page: str) -> Iterator[Line]:
    kinds: dict[str, str] = {}
    for row in page.splitlines():
        if row.startswith("# TYPE "):
            _, _, name, kind = row.split(" ", 3)
            kinds[name] = kind
        elif not row.startswith("#") and REVISION in row:
            series, value = row.rsplit(" ", 1)
            name = series.partition("{")[0]
            moves = kinds.get(name) != "gauge"
            yield Line(f"{series} ", float(value), moves, not name.endswith(FLOATS))
