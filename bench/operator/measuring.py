"""What the operator costs, read from outside: /proc, its metrics, Prometheus' own counters, the API server's audit log.

Two marks around a time give the figures of that time.
"""

import json
import os
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.operator.plane import Plane
from prometheus_client.parser import text_string_to_metric_families

TICKS: Final = os.sysconf("SC_CLK_TCK")
WRITES: Final = frozenset({"create", "update", "patch", "delete"})
MIB: Final = 1024.0
"""KiB in one MiB: /proc speaks in KiB."""
STATUS_OF: Final = frozenset({"dspydeployments", "dspyrollouts"})
Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@dataclass(frozen=True)
class Mark:
    """One instant: CPU seconds of the process, the operator's series, queries that Prometheus has answered."""

    at: float
    cpu: float
    series: Series
    queries: float
    audit_bytes: int


@dataclass(frozen=True)
class Figures:
    """What a time cost; everything `a minute` but memory (MiB).

    `requests` and `writes` are the operator's own count by `verb resource`; `audited` is the API server's, with
    subresources and watches.
    """

    rollouts: int
    minutes: float
    cpu_seconds: float
    rss_mib: float
    peak_mib: float
    queries: float
    queries_seen: float
    requests: Mapping[str, float]
    audited: Mapping[str, float]
    status_writes_per_rollout: float
    passes: float
    pass_ms: float
    errors: Mapping[str, float] = field(default_factory=dict)

    @property
    def request_total(self) -> float:
        """Requests to the API server a minute, watches that end included."""
        return sum(self.audited.values())

    @property
    def write_total(self) -> float:
        """Writes a minute, as the API server saw them."""
        return sum(n for what, n in self.audited.items() if what.partition(" ")[0] in WRITES)


def mark(plane: Plane) -> Mark:
    """Note where everything stands."""
    return Mark(
        at=time.monotonic(),
        cpu=get_cpu(plane.find_operator()),
        series=parse_series(plane.get("operator-metrics", "/metrics")),
        queries=count_queries(parse_series(plane.get("prometheus", "/metrics"))),
        audit_bytes=plane.audit_log.stat().st_size,
    )


def compare(plane: Plane, before: Mark, after: Mark, rollouts: int) -> Figures:
    """The figures between two marks."""
    minutes = (after.at - before.at) / 60
    gained = {key: value - before.series.get(key, 0.0) for key, value in after.series.items()}
    audited = count_audited(plane.audit_log, before.audit_bytes, after.audit_bytes)
    status = sum(n for what, n in audited.items() if _is_status_write(what))
    passes = _total(gained, "dspy_operator_reconcile_seconds_count")
    seconds = _total(gained, "dspy_operator_reconcile_seconds_sum")
    memory = get_memory(plane.find_operator())
    return Figures(
        rollouts=rollouts,
        minutes=minutes,
        cpu_seconds=(after.cpu - before.cpu) / minutes,
        rss_mib=memory["VmRSS"],
        peak_mib=memory["VmHWM"],
        queries=_total(gained, "dspy_operator_queries_total") / minutes,
        queries_seen=(after.queries - before.queries) / minutes,
        requests=_by(gained, "dspy_operator_api_requests_total", ("verb", "resource"), minutes),
        audited={what: n / minutes for what, n in sorted(audited.items())},
        status_writes_per_rollout=status / minutes / rollouts,
        passes=passes / minutes,
        pass_ms=1000 * seconds / passes if passes else 0.0,
        errors=_by(gained, "dspy_operator_reconcile_errors_total", ("kind",), minutes),
    )


def get_cpu(pid: int) -> float:
    """CPU seconds of a process, all threads, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def get_memory(pid: int) -> dict[str, float]:
    """VmRSS (now) and VmHWM (the most ever) in MiB."""
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB$", text, re.MULTILINE)
    return {name: int(value) / MIB for name, value in found}


def parse_series(page: str) -> Series:
    """A page of metrics as values by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def count_queries(series: Series) -> float:
    """Instant and range queries that Prometheus has answered."""
    return sum(
        value
        for (name, labels), value in series.items()
        if name == "prometheus_http_requests_total" and dict(labels)["handler"].startswith("/api/v1/query")
    )


def count_audited(log: Path, begin: int, end: int) -> Counter[str]:
    """The operator's requests by `verb resource/subresource` between two sizes of the audit log."""
    counted: Counter[str] = Counter()
    for event in _list_events(log, begin, end):
        ref: Mapping[str, str] = event.get("objectRef") or {}
        sub = f"/{ref['subresource']}" if ref.get("subresource") else ""
        counted[f"{event['verb']} {ref.get('resource') or event['requestURI']}{sub}"] += 1
    return counted


def _list_events(log: Path, begin: int, end: int) -> Iterator[dict[str, Any]]:
    with log.open("rb") as file:
        file.seek(begin)
        for line in file.read(end - begin).splitlines():
            yield json.loads(line)


def _is_status_write(what: str) -> bool:
    verb, _, resource = what.partition(" ")
    plural, _, subresource = resource.partition("/")
    return verb in WRITES and plural in STATUS_OF and subresource == "status"


def _total(series: Series, name: str) -> float:
    return sum(value for (found, _), value in series.items() if found == name)


def _by(series: Series, name: str, labels: tuple[str, ...], minutes: float) -> dict[str, float]:
    counted: Counter[str] = Counter()
    for (found, pairs), value in series.items():
        if found == name and value:
            values = dict(pairs)
            counted[" ".join(values[label] for label in labels)] += value  # type: ignore[assignment]  # floats add up too
    return {what: n / minutes for what, n in sorted(counted.items())}
