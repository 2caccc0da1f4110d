"""What the pods of one program report, as the answers of a scripted Prometheus."""

from typing import Any

from tests.unit.operator.metrics.scripted import (
    CLOCK,
    NOW,
    Answer,
    Handler,
    is_counters_query,
    is_state_query,
    series,
    success,
)

from dspy_operator.api.names import Metric
from dspy_operator.metrics.readings import Interest

INTEREST = Interest(("ml", "triage"))
POD = {"namespace": "ml", "pod": "pod-0", "program": "triage", "instance": "10.0.0.1:9090"}


def state(**pod: str) -> list[dict[str, Any]]:
    """What one pod reports of itself."""
    labels = POD | pod
    return [
        series(None, NOW - 2, **labels),
        series(Metric.ROUTES_GENERATION, 7, **labels),
        series(Metric.ROUTES_APPLIED, NOW - 50, **labels),
        series(Metric.PROGRAM_LOADED, 1, revision="a", **labels),
        series(Metric.PROGRAM_STATE, 1, revision="a", state="loaded", **labels),
        series(Metric.PROGRAM_STATE, 0, revision="a", state="refused", **labels),
    ]


def rows(state_rows: list[dict[str, Any]], counters: list[dict[str, Any]] | None = None) -> Answer:
    """Answer the state query with the one, that of the counters with the other, that of the histogram with none."""

    def answer(handler: Handler) -> None:
        if is_state_query(handler.form):
            handler.send(success([*state_rows, CLOCK]))
        else:
            handler.send(success((counters or []) if is_counters_query(handler.form) else []))

    return answer
