"""What leaves a pass after its writes: Events for people, metrics and log lines for machines."""

import logging
from contextlib import AbstractContextManager
from typing import Any, Protocol

from dspy_operator.metrics.readings import Reading
from dspy_operator.reconcile.memory import Memory
from dspy_operator.reconcile.snapshot import Snapshot
from dspy_operator.reconcile.worklist import Key
from dspy_operator.rollout.actions import Decision, Notice
from dspy_operator.rollout.model import Observation, Phase
from dspy_operator.telemetry import Telemetry

log = logging.getLogger(__name__)


class RecordsEvents(Protocol):
    """The port to Kubernetes Events."""

    def record(self, obj: dict[str, Any], type_: str, reason: str, note: str) -> None:
        """Say it once; repeats of the same sentence are counted."""


class Reporter:
    """Tells people and machines."""

    def __init__(self, events: RecordsEvents, telemetry: Telemetry) -> None:
        self._events = events
        self._telemetry = telemetry
        self._refused: dict[Key, str] = {}

    def time_pass(self) -> AbstractContextManager[object]:
        """Measures one pass."""
        return self._telemetry.time_pass()

    def count_error(self, kind: str) -> None:
        """A pass failed."""
        self._telemetry.count_reconcile_error(kind)

    def report(self, seen: Observation, decision: Decision, snapshot: Snapshot, memory: Memory) -> None:
        """Events and metrics of one pass."""
        for notice in decision.notices:
            self._record(snapshot, notice)
        self._log(seen, decision, snapshot)
        self._measure(seen, decision, snapshot, memory)

    def report_refused(self, memory: Memory, sentence: str) -> None:
        """The API server refuses something for good: whoever looks at the resource should know."""
        if memory.snapshot is not None:
            self._record(memory.snapshot, Notice("Refused", sentence[:300], warning=True))

    def forget(self, key: Key) -> None:
        """The resource is gone, and with it its series."""
        self._telemetry.forget(*key)

    def _record(self, snapshot: Snapshot, notice: Notice) -> None:
        kind = "Warning" if notice.warning else "Normal"
        self._events.record(snapshot.deployment, kind, str(notice.reason), notice.message)

    def _log(self, seen: Observation, decision: Decision, snapshot: Snapshot) -> None:
        if decision.deployment is None and decision.action is None and decision.rollout is None:
            return
        action = type(decision.action).__name__ if decision.action else "-"
        before = seen.rollout.record.phase if seen.rollout else None
        after = decision.rollout.phase if decision.rollout else before
        changed = decision.action is not None or decision.deployment is not None or after != before
        log.log(
            logging.INFO if changed else logging.DEBUG,
            "%s/%s: %s (%s): %s",
            snapshot.owner.namespace,
            snapshot.owner.name,
            decision.reason,
            action,
            decision.message,
        )

    def _measure(self, seen: Observation, decision: Decision, snapshot: Snapshot, memory: Memory) -> None:
        namespace, name = snapshot.owner.namespace, snapshot.owner.name
        rollout = seen.rollout
        phase = (decision.rollout or rollout.record).phase if rollout else "Idle"
        self._telemetry.show_rollout(
            namespace, name, str(phase), seen.table.split.weight if seen.table else 0
        )
        if decision.verdict is not None:
            for metric in decision.verdict.metrics:
                self._telemetry.show_metric(namespace, name, metric)
        record = decision.rollout
        if record is None or rollout is None or record.phase is rollout.record.phase:
            return
        if record.phase is Phase.ROLLING_BACK:
            memory.verdict_at = seen.now
        if record.phase.is_end:
            self._telemetry.count_rollout(record.phase.value, seen.now - rollout.created_at)

    def measure_rollback(self, key: Key, seen: Observation, memory: Memory, reading: Reading) -> None:
        """Once the last pod uses the table that took the canary's share away."""
        if memory.verdict_at is None or seen.confirmation.at is None or seen.rollout is not None:
            return
        last = find_last_applied(reading, key)
        if last is not None and last >= memory.verdict_at - 1.0:
            self._telemetry.observe_rollback(max(0.0, last - memory.verdict_at))
            memory.verdict_at = None


def find_last_applied(reading: Reading, key: Key) -> float | None:
    """When the last pod began to use its table, seconds since 1970 by the pods' clocks."""
    times = [pod.applied_at for pod in reading.programs.get(key, {}).values() if pod.applied_at]
    return max(times, default=None)
