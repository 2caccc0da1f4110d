"""The text of every query: fixed templates, values quoted, as many matchers whatever the values.

Used by `reader.py` and `reference.py`; pure.
"""

from collections.abc import Iterable
from typing import Final

from dspy_operator.api.names import PROVIDER_CLASSES, CacheLabel, Label, Metric

READING: Final = "dspy_reading"
"""A label of our own, on the series that say when a pod was scraped."""

SAMPLED_AT: Final = "sampled_at"
GAUGES: Final = (
    Metric.ROUTES_GENERATION,
    Metric.ROUTES_APPLIED,
    Metric.PROGRAM_LOADED,
    Metric.PROGRAM_STATE,
)
DURATION_COUNT: Final = f"{Metric.REQUEST_DURATION}_count"
DURATION_BUCKET: Final = f"{Metric.REQUEST_DURATION}_bucket"
COUNTERS: Final = (
    Metric.HTTP_REQUESTS,
    Metric.PROGRAM_ERRORS,
    Metric.FALLBACKS,
    Metric.ROUTE_FALLBACK,
    Metric.SCORE_SAMPLES,
    Metric.SCORE_SUM,
    Metric.SCORE_SUMSQ,
    Metric.LM_COST,
    Metric.LM_UNPRICED,
    DURATION_COUNT,
)
RESERVED: Final = "dspy_"
INFINITY: Final = "+Inf"
HISTORY: Final = "24h"
REGEX_SPECIAL: Final = frozenset("\\.+*?()|[]{}^$")


def quote(value: str) -> str:
    """A PromQL string literal with that value."""
    escaped = "".join(ESCAPES.get(char) or _escape(char) for char in value)
    return f'"{escaped}"'


ESCAPES: Final = {"\\": "\\\\", '"': '\\"', "\n": "\\n"}


def _escape(char: str) -> str:
    """Control characters by number; a lone surrogate, which UTF-8 has not, as U+FFFD."""
    if "\ud800" <= char <= "\udfff":
        return "\ufffd"
    return char if char.isprintable() else f"\\U{ord(char):08x}"


def any_of(values: Iterable[str]) -> str:
    """A quoted regular expression that matches exactly these values (an anchored RE2)."""
    return quote("|".join(_literal(value) for value in sorted(set(values))))


def _literal(value: str) -> str:
    return "".join(f"\\{char}" if char in REGEX_SPECIAL else char for char in value)


def state_query(namespaces: Iterable[str], programs: Iterable[str]) -> str:
    """What every pod reports of itself, when it was asked, and the server's clock, all of one instant.

    Of a program's states only the one that it is in: the other six are most of what a pod reports.
    """
    who = _programs(namespaces, programs)
    times = (
        f'label_replace(timestamp({Metric.ROUTES_GENERATION}{{{who}}}), "{READING}", "{SAMPLED_AT}", "", "")'
    )
    gauges = f"{{__name__=~{any_of({*GAUGES} - {Metric.PROGRAM_STATE})},{who}}}"
    return f"{times} or {gauges} or ({Metric.PROGRAM_STATE}{{{who}}} == 1) or vector(time())"


def counters_query(namespaces: Iterable[str], programs: Iterable[str], series: Iterable[str]) -> str:
    """Every counter that a look needs, the users' own (`series`) too, histograms apart.

    Of the errors those that speak of the LM provider: no look counts others (failed requests have their code).
    A user's counter that bears one of the server's own names is left out: it would come twice for everybody.
    """
    users = {name for name in series if not name.startswith(RESERVED)}
    wanted = any_of({*COUNTERS, *users} - {Metric.PROGRAM_ERRORS})
    who = f'{_programs(namespaces, programs)},{Label.REVISION}!=""'
    errors = f"{Metric.PROGRAM_ERRORS}{{{Label.CLASS}=~{any_of(PROVIDER_CLASSES)},{who}}}"
    return f"{{__name__=~{wanted},{who}}} or {errors}"


def buckets_query(namespaces: Iterable[str], programs: Iterable[str], les: Iterable[str]) -> str:
    """The latency histogram without cache hits; `les` empty: every bound."""
    bounds = list(les)
    chosen = (
        any_of({INFINITY, *(form for le in bounds for form in bound_forms(le))}) if bounds else quote(".+")
    )
    who = _programs(namespaces, programs)
    return f'{DURATION_BUCKET}{{{who},{Label.REVISION}!="",{Label.CACHE}!="{CacheLabel.HIT}",{Label.LE}=~{chosen}}}'


def bound_forms(le: str) -> frozenset[str]:
    """The ways in which exporters and Prometheus versions write one bound: `1` and `1.0`."""
    whole = le.removesuffix(".0")
    return frozenset({le, whole, f"{whole}.0"}) if whole.isdigit() else frozenset({le})


IDLE_QUERY: Final = (
    f"{{__name__=~{any_of([Metric.ROUTES_GENERATION, Metric.SCORE_SAMPLES])}}} or vector(time())"
)
"""Which pods Prometheus sees at all, and which have scores."""


def history_query(metric: str, key: tuple[str, str], revision: str, by: str, *, hits: bool = True) -> str:
    """What a day of one revision adds up to, by one label (here extrapolation does no harm).

    Without `hits` answers from the cache are left out.
    """
    matchers = ",".join(
        f"{label}={quote(value)}"
        for label, value in zip(
            (Label.NAMESPACE, Label.PROGRAM, Label.REVISION), (*key, revision), strict=True
        )
    )
    fresh = "" if hits else f',{Label.CACHE}!="{CacheLabel.HIT}"'
    return f"sum by ({by}) (increase({{__name__={quote(metric)},{matchers}{fresh}}}[{HISTORY}]))"


def _programs(namespaces: Iterable[str], programs: Iterable[str]) -> str:
    return f"{Label.NAMESPACE}=~{any_of(namespaces)},{Label.PROGRAM}=~{any_of(programs)}"


P95_QUERY: Final = (
    f"histogram_quantile(0.95, sum by ({Label.NAMESPACE}, {Label.PROGRAM}, {Label.REVISION}, {Label.LE}) "
    f'(rate({DURATION_BUCKET}{{{Label.CACHE}!="{CacheLabel.HIT}",{Label.REVISION}!=""}}[5m])))'
)
"""For people only: the judge counts requests above frozen bounds and estimates no quantile."""
