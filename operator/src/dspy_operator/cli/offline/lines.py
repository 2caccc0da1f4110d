"""Recorded looks, one JSON object a line, to the looks and references of each run. Pure.

The format is in docs/operations.md; whatever is wrong is said with its line and field.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from dspy_operator.rollout.judging import Counts, Look, MetricType, Reference
from dspy_operator.rollout.judging.looks import is_consistent

LOOK_FIELDS = frozenset({"run", "t", "metric", "canary", "stable", "settled", "requests", "provider_errors"})
REFERENCE_FIELDS = frozenset({"run", "metric", "reference"})
COUNT_FIELDS = frozenset({"n", "sum", "sumsq", "bad", "slow", "slowT2", "over", "unpriced"})

TOTALLED = frozenset({MetricType.SCORE, MetricType.COST_PER_REQUEST})
BAD = {
    MetricType.ERROR_RATE: {"canary": "bad", "stable": "bad"},
    MetricType.RATIO: {"canary": "bad", "stable": "bad"},
    MetricType.LATENCY_P95: {"canary": "slow", "stable": "slowT2"},
}
"""What each arm counts as bad."""


class BadLine(ValueError):  # noqa: N818  what it is
    """A line that cannot be read: its number, the field and what is wrong with it."""

    def __init__(self, number: int, where: str, sentence: str) -> None:
        super().__init__(f"line {number}, {where}: {sentence}" if where else f"line {number}: {sentence}")


@dataclass(frozen=True)
class Line:
    """One line as JSON."""

    number: int
    value: Mapping[str, Any]

    def refuse(self, where: str, sentence: str) -> NoReturn:
        """Say what is wrong with it."""
        raise BadLine(self.number, where, sentence)


@dataclass
class Run:
    """One recorded rollout; `name` None: the lines name none."""

    name: str | None
    looks: list[Look] = field(default_factory=list)
    references: dict[str, Reference] = field(default_factory=dict)


def list_lines(texts: Iterable[str]) -> list[Line]:
    """The lines as JSON objects; empty ones are left out.

    Raises:
        BadLine: no JSON object.
    """
    return [_parse(number, text) for number, text in enumerate(texts, 1) if text.strip()]


def _parse(number: int, text: str) -> Line:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadLine(number, "", f"no JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadLine(number, "", "not a JSON object")
    return Line(number, value)


def has_scores(lines: Iterable[Line], name: str = "score") -> bool:
    """Whether a line is about a metric of that name."""
    return any(line.value.get("metric") == name for line in lines)


def build_runs(lines: Iterable[Line], types: Mapping[str, MetricType]) -> list[Run]:
    """The runs in the order of their first look; `types`: the metrics that are judged.

    A reference without a run is every run's that has none of its own.

    Raises:
        BadLine: a line that is not as the format says.
    """
    runs: dict[str | None, Run] = {}
    references: dict[str | None, dict[str, Reference]] = {}
    for line in lines:
        name, metric = _get_run(line), _get_metric(line, types)
        if "reference" in line.value:
            references.setdefault(name, {})[metric] = _build_reference(line, types[metric])
        else:
            _add(runs.setdefault(name, Run(name)), line, metric, types[metric])
    for run in runs.values():
        run.references = {**references.get(None, {}), **references.get(run.name, {})}
    return list(runs.values())


def _get_run(line: Line) -> str | None:
    run = line.value.get("run")
    if run is not None and not isinstance(run, str):
        line.refuse("run", f"{run!r} is no string")
    return run


def _get_metric(line: Line, types: Mapping[str, MetricType]) -> str:
    known = REFERENCE_FIELDS if "reference" in line.value else LOOK_FIELDS
    for name in line.value:
        if name not in known:
            line.refuse(name, f"unknown field; known are {', '.join(sorted(known))}")
    metric = line.value.get("metric")
    if not isinstance(metric, str) or metric not in types:
        line.refuse("metric", f"{metric!r} is no metric of the configuration, which has {', '.join(types)}")
    return metric


def _add(run: Run, line: Line, metric: str, kind: MetricType) -> None:
    """Put one metric's counts into the run's last look, or begin a new one."""
    t = _get_number(line, line.value, "t", "t", least=-math.inf)
    look = Look(
        t=t,
        settled=_get_settled(line),
        metrics={metric: (_build_counts(line, "canary", kind), _build_counts(line, "stable", kind))},
        requests=_get_pair(line, "requests"),
        provider_errors=_get_pair(line, "provider_errors"),
    )
    last = run.looks[-1] if run.looks else None
    if last is None or t > last.t:
        run.looks.append(look)
    elif t < last.t:
        line.refuse("t", f"{t:g} is earlier than {last.t:g}, the time of this run's look before")
    elif metric in last.metrics:
        line.refuse("metric", f"{metric} comes twice at t = {t:g}")
    else:
        run.looks[-1] = _merge(last, look)


def _merge(last: Look, look: Look) -> Look:
    """What is said once holds for the whole look."""
    return replace(
        last,
        settled=last.settled and look.settled,
        metrics={**last.metrics, **look.metrics},
        requests=look.requests if any(look.requests) else last.requests,
        provider_errors=look.provider_errors if any(look.provider_errors) else last.provider_errors,
    )


def _get_settled(line: Line) -> bool:
    settled = line.value.get("settled", True)
    if not isinstance(settled, bool):
        line.refuse("settled", f"{settled!r} is neither true nor false")
    return settled


def _get_pair(line: Line, name: str) -> tuple[float, float]:
    """Numbers of (canary, stable): `[20, 180]` or `{"canary": 20, "stable": 180}`."""
    pair = line.value.get(name)
    if pair is None:
        return (0.0, 0.0)
    if isinstance(pair, list) and len(pair) == 2:  # noqa: PLR2004  two arms
        pair = {"canary": pair[0], "stable": pair[1]}
    if not isinstance(pair, dict):
        line.refuse(name, "must be [canary, stable]")
    return (
        _get_number(line, pair, "canary", f"{name}.canary"),
        _get_number(line, pair, "stable", f"{name}.stable"),
    )


def _build_counts(line: Line, arm: str, kind: MetricType) -> Counts:
    given = line.value.get(arm)
    if not isinstance(given, dict):
        line.refuse(arm, 'must be an object such as {"n": 20, "sum": 14.5, "sumsq": 11.75}')
    for name in given:
        if name not in COUNT_FIELDS:
            line.refuse(f"{arm}.{name}", f"unknown field; known are {', '.join(sorted(COUNT_FIELDS))}")
    numbers = {name: _get_number(line, given, name, f"{arm}.{name}") for name in ("n", *given)}
    bad, total = BAD.get(kind, {}).get(arm), kind in TOTALLED
    for name in (bad, "sum" if total else None):
        if name is not None and numbers["n"] > 0 and name not in numbers:
            line.refuse(f"{arm}.{name}", "is missing")
    counts = Counts(
        n=numbers["n"],
        sum=numbers.get("sum", 0.0) if total else 0.0,
        sumsq=numbers.get("sumsq") if kind is MetricType.SCORE else None,
        bad=numbers.get(bad or "unpriced", 0.0),
        over=numbers.get("over", 0.0),
    )
    if not is_consistent(kind, counts):
        line.refuse(arm, "these cannot be the sums of n samples: more bad than n, or scores outside 0 to 1")
    return counts


def _build_reference(line: Line, kind: MetricType) -> Reference:
    given = line.value["reference"]
    if not isinstance(given, dict):
        line.refuse("reference", 'must be an object such as {"n": 1000, "sum": 800, "sumsq": 680}')
    if kind in {MetricType.LATENCY_P95, MetricType.COST_PER_REQUEST}:
        return Reference()  # their priors are fixed: what counts as slow was settled when the looks were made
    n = _get_number(line, given, "n", "reference.n")
    if n <= 0:
        line.refuse("reference.n", "must be above 0")
    if kind is MetricType.SCORE:
        total = _get_number(line, given, "sum", "reference.sum")
        squares = _get_number(line, given, "sumsq", "reference.sumsq") if "sumsq" in given else total
    else:
        total = squares = n - _get_number(line, given, "bad", "reference.bad")
    if not is_consistent(MetricType.SCORE, Counts(n, total, squares)):
        line.refuse("reference", "these cannot be the sums of n samples in 0 to 1")
    mean = min(total / n, 1.0)
    return Reference(mean=mean, variance=max(squares / n - mean**2, 0.0))


def _get_number(line: Line, given: Mapping[str, Any], name: str, where: str, *, least: float = 0.0) -> float:
    value = given.get(name)
    if value is None:
        line.refuse(where, "is missing")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        line.refuse(where, f"{value!r} is no finite number")
    if value < least:
        line.refuse(where, f"{value!r} is below {least:g}")
    return float(value)
