"""Observe, decide, record, execute: the page to read first.

`handlers/` and the sampler put resources on the worklist; a worker takes one and makes a pass over it here.
"""

import asyncio
import logging
from collections.abc import Coroutine

from dspy_operator.errors import Conflict, LostAnswer, OperatorError, Permanent, Transient
from dspy_operator.metrics.readings import Reading
from dspy_operator.reconcile import looks
from dspy_operator.reconcile.memory import Given, Memory, Version, get_version
from dspy_operator.reconcile.observe import build_observation
from dspy_operator.reconcile.parts import Parts, Timing
from dspy_operator.reconcile.scraping import build_telemetry
from dspy_operator.reconcile.snapshot import Snapshot, list_objects
from dspy_operator.reconcile.worklist import Key
from dspy_operator.rollout.actions import Decision
from dspy_operator.rollout.analysis import Analysis
from dspy_operator.rollout.decide import decide
from dspy_operator.rollout.idle import ARTIFACT_WAIT
from dspy_operator.rollout.look import is_judged
from dspy_operator.rollout.model import Observation, Rollout, Unmeasured

log = logging.getLogger(__name__)

CHAIN: int = 40
"""Passes that may follow one another at once before somebody is suspected of undoing our writes."""
CALM_DOWN: float = 5.0
PATIENT: float = 60.0
"""Seconds after which a table that no pod confirms is looked for less often."""


class Reconciler:
    """Makes passes."""

    def __init__(self, parts: Parts, timing: Timing, serving_image: str) -> None:
        self._parts = parts
        self._timing = timing
        self._serving_image = serving_image
        self._memories: dict[Key, Memory] = {}
        self._is_epoch_due = False
        self._raising = asyncio.Lock()

    def note(self, key: Key, version: Version | None = None) -> None:
        """Something happened to the resource or a child of it; `version` is what is there now, None if it is gone.

        What the last pass has itself read or written is no news.
        """
        memory = self._remember(key)
        if version is not None and version in memory.known:
            return
        memory.dirty = True
        self._parts.worklist.add(key)

    def list_tasks(self, workers: int) -> list[tuple[str, Coroutine[None, None, None]]]:
        """All that must run, with names: workers, the sampler, the look at the telemetry of idle resources."""
        tasks: list[tuple[str, Coroutine[None, None, None]]]
        tasks = [(f"worker {number}", self.work()) for number in range(workers)]
        return [
            *tasks,
            ("sampler", self._parts.sampler.run()),
            ("telemetry", self._watch_telemetry()),
            ("p95", self._watch_p95()),
        ]

    async def _watch_telemetry(self) -> None:
        """Once a minute, one query for all: is every pod scraped?"""
        while True:
            await asyncio.sleep(self._timing.idle)
            reading = await self._parts.prometheus.read_generations()
            for key, memory in list(self._memories.items()):
                if memory.snapshot is None:
                    continue
                telemetry = build_telemetry(key, memory.snapshot, reading)
                if telemetry != memory.telemetry:
                    memory.telemetry = telemetry
                    self.note(key)

    async def _watch_p95(self) -> None:
        """As often as numbers are shown, one query for all: people want to see a p95."""
        while True:
            await asyncio.sleep(self._timing.checkpoint)
            if not any(memory.attempt for memory in self._memories.values()):
                continue
            found = await self._parts.prometheus.read_p95()
            for key, memory in self._memories.items():
                memory.p95 = found.get(key, {})

    async def work(self) -> None:
        """Take one key after the other, for ever."""
        worklist = self._parts.worklist
        while True:
            key = await worklist.take()
            try:
                again = await self._pass_until_calm(key)
            except Conflict as error:
                memory = self._remember(key)
                memory.dirty = True
                memory.conflicts += 1
                log.debug("%s/%s: %s", *key, error)
                worklist.done(key, again=min(CALM_DOWN, 0.02 * 2.0 ** min(memory.conflicts, 10)))
            except OperatorError as error:
                await self._fail(key, error)
            except Exception:
                log.exception("A pass over %s/%s failed in a way that nobody foresaw", *key)
                self._parts.reporter.count_error("Unforeseen")
                self._remember(key).dirty = True
                worklist.failed(key)
            else:
                self._remember(key).conflicts = 0
                worklist.done(key, again=again)

    async def _fail(self, key: Key, error: OperatorError) -> None:
        self._remember(key).dirty = True
        self._parts.reporter.count_error(type(error).__name__)
        retry_after = error.retry_after if isinstance(error, Transient) else None
        delay = self._parts.worklist.failed(key, retry_after)
        log.warning("%s/%s: %s; trying again in %.1f s", *key, error, delay)
        if isinstance(error, Permanent):
            self._parts.reporter.report_refused(self._remember(key), str(error))
        if isinstance(error, LostAnswer):
            self._is_epoch_due = True

    async def _raise_epoch_if_due(self) -> None:
        """After a lost answer nothing is written before the epoch is higher: the write may still be on its way."""
        async with self._raising:
            if not self._is_epoch_due:
                return
            self._is_epoch_due = False
            try:
                await self._parts.leads.raise_epoch()
            except OperatorError:
                self._is_epoch_due = True
                raise

    async def _pass_until_calm(self, key: Key) -> float | None:
        """Passes that follow from one another without delay; returns when to look again."""
        for _ in range(CHAIN):
            again = await self._pass(key)
            if again is None or again > 0:
                return again
        log.warning("%s/%s: something undoes what is written; waiting %.0f s", *key, CALM_DOWN)
        return CALM_DOWN

    async def _pass(self, key: Key) -> float | None:
        """One pass; 0 asks for another one at once, None forgets the resource."""
        memory = self._remember(key)
        now = self._parts.clock.now() if memory.snapshot else 0.0
        if (
            not memory.dirty
            and memory.snapshot is not None
            and now - memory.read_at < self._timing.open_resync
        ):
            given = self._build_given(key)
            seen, decision = _glance(memory, memory.snapshot, given)
            if not decision.is_written and str(decision.reason) == memory.shown_reason:
                _step_test(memory, seen, decision, given)
                self._follow(key, memory, seen)
                return self._find_wait(memory, seen, decision)
        await self._raise_epoch_if_due()
        memory.dirty = False
        snapshot = await self._parts.reader.find(key)
        self._parts.clock.learn(self._parts.server_time())
        if snapshot is None:
            self._forget(key)
            return None
        memory.snapshot = snapshot
        memory.read_at = self._parts.clock.now()
        memory.known = {get_version(obj) for obj in list_objects(snapshot)}
        with self._parts.reporter.time_pass():
            return await self._observe_and_act(key, memory, snapshot)

    async def _observe_and_act(self, key: Key, memory: Memory, snapshot: Snapshot) -> float | None:
        given = self._build_given(key)
        seen = build_observation(snapshot, memory, given)
        if seen.deleting:
            memory.snapshot = None
            self._parts.sampler.drop(key)
            return self._timing.resync
        if await self._prepare_analysis(key, memory, seen):
            seen = build_observation(snapshot, memory, given)
        decision = decide(seen)
        await self._act(seen, decision, snapshot, memory, given)
        self._follow(key, memory, seen)
        self._parts.reporter.report(seen, decision, snapshot, memory)
        memory.shown_reason = str(decision.reason) if decision.is_told else ""
        if (decision.is_written and not _is_checkpoint(seen, decision)) or _waits_unseen(seen, decision):
            memory.dirty = True
        return self._find_wait(memory, seen, decision)

    async def _act(
        self, seen: Observation, decision: Decision, snapshot: Snapshot, memory: Memory, given: Given
    ) -> None:
        """The record first, then the effect, then what people see.

        The test follows the record at once: it must not fall behind it when the effect fails.
        """
        await self._parts.recorder.record(seen, decision, snapshot, memory)
        _step_test(memory, seen, decision, given)
        if decision.action is not None:
            await self._parts.executor.execute(decision.action, seen, snapshot, memory, given)
        if decision.is_told:
            await self._parts.recorder.show(seen, decision, snapshot, memory, given)

    def _build_given(self, key: Key) -> Given:
        return Given(
            now=self._parts.clock.now(),
            epoch=self._parts.leads.epoch,
            serving_image=self._serving_image,
            checkpoint_interval=self._timing.checkpoint,
            stale_after=self._timing.stale_after,
            reading=self._parts.sampler.get_latest(key),
            prometheus_now=self._parts.sampler.clock.find_now(),
        )

    async def _prepare_analysis(self, key: Key, memory: Memory, seen: Observation) -> bool:
        """Begin the test of a new attempt, and after a restart find where its next look begins."""
        rollout = seen.rollout
        if rollout is None or rollout.fast or not rollout.known:
            return False
        if memory.analysis is None and rollout.record.analysis is None:
            return await self._start_analysis(key, memory, seen, rollout)
        memory.analysis = memory.analysis or rollout.record.analysis
        if memory.bases is None and memory.analysis and is_judged(rollout) and memory.snapshot and seen.table:
            return await self._find_bases(key, memory, memory.analysis, seen, rollout)
        return False

    async def _start_analysis(self, key: Key, memory: Memory, seen: Observation, rollout: Rollout) -> bool:
        sources = looks.list_sources(rollout)
        metrics = rollout.plan.config.metrics
        found = await self._parts.prometheus.read_reference(key, rollout.origin.revision, metrics, sources)
        if isinstance(found, Unmeasured):
            return False
        memory.analysis = Analysis.start(rollout.plan.config, found, seen.now)
        return True

    async def _find_bases(
        self, key: Key, memory: Memory, analysis: Analysis, seen: Observation, rollout: Rollout
    ) -> bool:
        """The same query at the last look's time gives the counters that the next look begins with."""
        interest = looks.build_interest(key, rollout, analysis)
        past = await self._parts.sampler.read_past(interest, analysis.state.clock.last)
        snapshot, table = memory.snapshot, seen.table
        if isinstance(past, Reading) and snapshot and table:
            looks.start_bases(snapshot, memory, past, rollout, analysis, table)
            return True
        return False

    def _follow(self, key: Key, memory: Memory, seen: Observation) -> None:
        """After a pass: Prometheus is asked for what the next one needs."""
        rollout = seen.rollout
        reading = self._parts.sampler.get_latest(key)
        if isinstance(reading, Reading):
            self._parts.reporter.measure_rollback(key, seen, memory, reading)
        if seen.confirmation.at is None or (rollout and rollout.record.phase in _CONFIRMING):
            interest = looks.build_interest(key, rollout, memory.analysis)
            waited = self._parts.clock.now() - memory.refreshing.since
            self._parts.sampler.want(
                interest, self._timing.confirm if waited < PATIENT else self._timing.tick
            )
        elif rollout is not None and not rollout.record.phase.is_end:
            interest = looks.build_interest(key, rollout, memory.analysis)
            self._parts.sampler.want(interest, max(rollout.plan.config.interval, self._timing.tick))
        else:
            self._parts.sampler.drop(key)

    def _find_wait(self, memory: Memory, seen: Observation, decision: Decision) -> float:
        wait = self._find_own_wait(seen, decision)
        if seen.confirmation.is_settling or seen.capacity.own.is_waited_for:
            wait = min(wait, self._timing.confirm)
        if seen.confirmation.at is None and seen.table is not None and seen.capacity.ready_pods:
            telling = memory.refreshing.find_wait(self._parts.clock.now())
            return wait if telling is None else min(wait, telling)
        return wait

    def _find_own_wait(self, seen: Observation, decision: Decision) -> float:
        if decision.action is not None:
            return 0.0
        if decision.wait is not None:
            return decision.wait
        return self._timing.open_resync if seen.rollout is not None else self._timing.resync

    def _remember(self, key: Key) -> Memory:
        memory = self._memories.get(key)
        if memory is None:
            memory = self._memories[key] = Memory()
        return memory

    def _forget(self, key: Key) -> None:
        self._memories.pop(key, None)
        self._parts.sampler.drop(key)
        self._parts.reporter.forget(key)
        self._parts.worklist.forget(key)


_CONFIRMING = frozenset({"Preparing", "Promoting"})


def _glance(memory: Memory, snapshot: Snapshot, given: Given) -> tuple[Observation, Decision]:
    """Decide on the last snapshot: enough to see that a reading changes nothing, never enough to write."""
    seen = build_observation(snapshot, memory, given)
    return seen, decide(seen)


def _step_test(memory: Memory, seen: Observation, decision: Decision, given: Given) -> None:
    """The test and the bases of its next look after this pass, by the reading that was decided on."""
    if decision.analysis is None:
        return
    entered = decision.rollout is not None and seen.judging.analysis is not decision.analysis
    judged = decision.verdict is not None
    memory.analysis = decision.analysis
    memory.verdict = decision.verdict or memory.verdict
    snapshot, rollout, table, reading = memory.snapshot, seen.rollout, seen.table, given.reading
    if not isinstance(reading, Reading) or snapshot is None or rollout is None or table is None:
        return
    if memory.bases is None and not entered and is_judged(rollout):
        memory.dirty = True  # Prometheus could not tell its past; the next pass asks again and loses nothing
    elif memory.bases is None or (entered and not judged):
        looks.start_bases(snapshot, memory, reading, rollout, decision.analysis, table)
    elif judged and memory.following is not None:
        memory.bases, memory.judged_at = memory.following, reading.t


def _is_checkpoint(seen: Observation, decision: Decision) -> bool:
    """Whether the attempt only noted its evidence: the answer to that is in the snapshot, which is still live."""
    before, after = seen.rollout, decision.rollout
    if decision.action is not None or decision.deployment is not None or before is None or after is None:
        return False
    return (after.phase, after.step) == (before.record.phase, before.record.step)


def _waits_unseen(seen: Observation, decision: Decision) -> bool:
    """Whether this waits for what no watch tells of; only a live reading shows it.

    The user's own ConfigMaps; and what routes: HTTPRoutes are not watched if their kind came after this process.
    """
    if seen.confirmation.message or seen.capacity.own.is_waited_for:
        return True
    return seen.rollout is None and decision.wait is not None and decision.wait >= ARTIFACT_WAIT
