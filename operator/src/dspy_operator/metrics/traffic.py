"""How much a program is asked and scored: for forecasts only, nothing is judged by it.

Called by `kubectl dspy plan` through `reader.py`; the texts of the queries and what their answers mean.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dspy_operator.api.names import CacheLabel, Label, Metric
from dspy_operator.metrics.counting import CLIENT_ERROR, FEEDBACK
from dspy_operator.metrics.queries import DURATION_COUNT, HISTORY, quote
from dspy_operator.metrics.readings import ProgramKey
from dspy_operator.metrics.series import Row

LEAST_HISTORY: Final = 60.0
"""Seconds of scraping below which a rate means nothing."""

STEP: Final = "15s"
"""How exactly it is found out since when the pods are scraped."""


@dataclass(frozen=True)
class Traffic:
    """What all revisions of a program got, per second, on the average of a day or of what is known of it.

    Attributes:
        scores: by their source.
        requests: that were no client's mistake.
        fresh: of these, answered and not from the cache.
        by_revision: requests of each revision.
        seconds: how long Prometheus has known the pods, at most a day; 0: it knows none.
    """

    scores: Mapping[str, float]
    requests: float
    fresh: float
    by_revision: Mapping[str, float]
    seconds: float

    @property
    def busiest(self) -> str:
        """The revision with the most requests, an empty string if there was none."""
        return max(self.by_revision, key=lambda revision: self.by_revision[revision], default="")


def list_traffic_queries(key: ProgramKey) -> tuple[str, str, str, str]:
    """Scores by source, requests by revision, fresh answers, and for how long the pods are known."""
    who = f"{Label.NAMESPACE}={quote(key[0])},{Label.PROGRAM}={quote(key[1])}"
    asked = f'{who},{Label.REVISION}!="",{Label.ROUTE}!={quote(FEEDBACK)},{Label.CODE}!~"{CLIENT_ERROR}.*"'
    fresh = f'{who},{Label.REVISION}!="",{Label.CACHE}!="{CacheLabel.HIT}"'
    return (
        f'sum by ({Label.SOURCE}) (increase({Metric.SCORE_SAMPLES}{{{who},{Label.REVISION}!=""}}[{HISTORY}]))',
        f"sum by ({Label.REVISION}) (increase({Metric.HTTP_REQUESTS}{{{asked}}}[{HISTORY}]))",
        f"sum(increase({DURATION_COUNT}{{{fresh}}}[{HISTORY}]))",
        f"time() - min(min_over_time(timestamp({Metric.ROUTES_GENERATION}{{{who}}})[{HISTORY}:{STEP}]))",
    )


def build_traffic(answers: Sequence[Sequence[Row]]) -> Traffic:
    """The rates; `answers` in the order of the queries."""
    scores, requests, fresh, age = answers
    seconds = max((row.value for row in age if math.isfinite(row.value)), default=0.0)
    if seconds < LEAST_HISTORY:
        return Traffic({}, 0.0, 0.0, {}, seconds)
    by_revision = {row.revision: row.value / seconds for row in _list_finite(requests)}
    return Traffic(
        scores={row.labels.get(Label.SOURCE, ""): row.value / seconds for row in _list_finite(scores)},
        requests=sum(by_revision.values()),
        fresh=sum(row.value for row in _list_finite(fresh)) / seconds,
        by_revision=by_revision,
        seconds=seconds,
    )


def _list_finite(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if math.isfinite(row.value)]
