"""What `backtest` prints: a JSON object a line, or a table for a person. Pure."""

import json
from collections.abc import Iterator
from typing import Any

from dspy_operator.cli.offline.walk import Row, Summary

Wire = dict[str, Any]
COLUMNS = "{:<10} {:>10} {:>4} {:>7}  {:<8} {:<10} {:>8} {:>9} {:>8}  {}"
SUMMARY_COLUMNS = "{:<10} {:<10} {:>10} {:>4} {:>8} {:>8}  {}"


def build_row(run: str | None, row: Row) -> Wire:
    """One look."""
    verdict, metric = row.verdict, row.metric
    return {
        "run": run,
        "t": _number(verdict.t),
        "step": verdict.step,
        "weight": _number(row.weight),
        "action": verdict.action.value,
        "metric": metric.name if metric else None,
        "drop": metric.drop if metric else None,
        "evidence": {
            "rollback": metric.evidence_rollback if metric else 0.0,
            "promote": metric.evidence_promote if metric else 0.0,
        },
        "lnE": {
            "rollback": metric.ln_e_rollback if metric else 0.0,
            "promote": metric.ln_e_promote if metric else 0.0,
        },
        "reason": verdict.reason.value,
    }


def build_summary(run: str | None, summary: Summary) -> Wire:
    """One run."""
    verdict = summary.row.verdict
    return {
        "run": run,
        "outcome": summary.outcome.value,
        "reason": verdict.reason.value,
        "t": _number(verdict.t),
        "step": verdict.step,
        "canarySamples": _number(summary.row.samples[0]),
        "stableSamples": _number(summary.row.samples[1]),
    }


def json_lines(rows: Iterator[Wire]) -> Iterator[str]:
    """For programs."""
    return (json.dumps(row, separators=(",", ":"), ensure_ascii=False) for row in rows)


def table_lines(rows: Iterator[Wire], *, is_summary: bool) -> Iterator[str]:
    """For people."""
    if is_summary:
        yield SUMMARY_COLUMNS.format("RUN", "OUTCOME", "T", "STEP", "CANARY", "STABLE", "REASON")
        for row in rows:
            cells = (row["outcome"], row["t"], row["step"], row["canarySamples"], row["stableSamples"])
            yield SUMMARY_COLUMNS.format(row["run"] or "-", *cells, row["reason"])
        return
    heads = ("RUN", "T", "STEP", "WEIGHT", "ACTION", "METRIC", "DROP", "ROLLBACK", "PROMOTE", "REASON")
    yield COLUMNS.format(*heads)
    for row in rows:
        drop = "" if row["drop"] is None else f"{100 * row['drop']:+.1f} %"
        where = (row["run"] or "-", row["t"], row["step"], f"{row['weight']} %")
        evidence = (f"{row['evidence']['rollback']:.2f}", f"{row['evidence']['promote']:.2f}")
        yield COLUMNS.format(*where, row["action"], row["metric"] or "-", drop, *evidence, row["reason"])


def _number(value: float) -> float:
    """Whole numbers without a point."""
    return int(value) if float(value).is_integer() else value
