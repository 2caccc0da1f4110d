"""From a reading to the look that this pass judges, and the test's memory across restarts."""

from dataclasses import replace

from dspy_operator.api.choices import Router
from dspy_operator.api.names import ScoreSource
from dspy_operator.api.rollout import DSPyRollout
from dspy_operator.metrics.looks import LookPlan, find_source, list_les, take_bases, take_look
from dspy_operator.metrics.readings import Interest, Reading
from dspy_operator.reconcile.memory import Memory
from dspy_operator.reconcile.routing import RoutingState
from dspy_operator.reconcile.snapshot import Snapshot
from dspy_operator.rollout.analysis import Analysis
from dspy_operator.rollout.judging import MetricType, Verdict
from dspy_operator.rollout.look import JUDGED, is_judged
from dspy_operator.rollout.model import Judging, Rollout, Table, Unmeasured

SOURCES = {"Function": ScoreSource.METRIC, "Judge": ScoreSource.JUDGE, "Feedback": ScoreSource.FEEDBACK}


def find_saved(parsed: DSPyRollout, memory: Memory) -> Analysis | None:
    """The test as the record has it; replayed only when the record is not the one that we wrote.

    Then another process wrote it, or we did and the answer was lost: what memory holds does not continue it and is
    dropped. Its bases are found again in Prometheus' past, as after a restart.

    Raises:
        ValueError: the record is of another version.
    """
    text = parsed.status.looks or ""
    memory.forget_attempt(parsed.metadata.uid)
    if text != memory.saved_text:
        memory.forget_test()
        memory.saved, memory.saved_text = Analysis.from_text(text) if text else None, text
    return memory.saved


def build_judging(
    snapshot: Snapshot,
    memory: Memory,
    reading: Reading | Unmeasured | None,
    rollout: Rollout | None,
    state: RoutingState,
) -> Judging:
    """The test before this pass, and the look to judge."""
    if rollout is None:
        return Judging()
    analysis, table = memory.analysis or rollout.record.analysis, state.table
    known = Judging(analysis, last=_find_last(memory, rollout))
    if not is_judged(rollout) or analysis is None or table is None or reading is None:
        return known
    if isinstance(reading, Unmeasured):
        return replace(known, look=reading)
    if memory.bases is None or reading.t <= max(memory.judged_at, analysis.state.clock.last):
        return known
    key = (snapshot.owner.namespace, snapshot.owner.name)
    plan = build_look_plan(rollout, analysis, table, reading, key, memory)
    ready = state.ready if table.intact else frozenset()
    look, memory.following = take_look(memory.bases, reading, key, plan, ready)
    return replace(known, look=look)


def _find_last(memory: Memory, rollout: Rollout) -> Verdict | None:
    """The newest verdict, if it is about the step that the attempt is at."""
    last, step = memory.verdict, rollout.record.step
    return (
        last if last is not None and last.step == step and rollout.record.effective_at is not None else None
    )


def start_bases(
    snapshot: Snapshot, memory: Memory, reading: Reading, rollout: Rollout, analysis: Analysis, table: Table
) -> None:
    """Where the first look of a step, or of this process, begins: what that reading counted is behind it."""
    key = (snapshot.owner.namespace, snapshot.owner.name)
    memory.bases = take_bases(reading, key, build_look_plan(rollout, analysis, table, reading, key, memory))
    memory.judged_at = reading.t


def build_look_plan(
    rollout: Rollout,
    analysis: Analysis,
    table: Table,
    reading: Reading,
    key: tuple[str, str],
    memory: Memory,
) -> LookPlan:
    """What to count for this attempt: the canary alone in the bake, where stable has no traffic.

    The source of a score is chosen once: adding up another one in mid-rollout would compare two rulers.
    """
    for name, source in _find_sources(rollout, analysis, reading, key).items():
        memory.sources.setdefault(name, source)
    baking = analysis.state.is_baking
    metrics = rollout.plan.config.metrics
    limits = {
        metric.name: found
        for metric in metrics
        if metric.type is MetricType.LATENCY_P95
        and (found := analysis.state.find_latency_limits(metric.name))
    }
    return LookPlan(
        stable="" if baking else rollout.origin.revision,
        canary=rollout.to.revision,
        metrics=metrics,
        sources=dict(memory.sources),
        bounds=limits,
        generation=table.generation,
        share=0.0 if baking or _is_split_by_pods(rollout) else table.split.weight / 100,
    )


def _is_split_by_pods(rollout: Rollout) -> bool:
    """Whether numbers of pods only come near the weight, connection by connection: no share can be expected."""
    return rollout.has_own_pods and rollout.plan.routing.router is Router.REPLICAS


def build_interest(key: tuple[str, str], rollout: Rollout | None, analysis: Analysis | None) -> Interest:
    """What must be read for this resource now."""
    record = rollout.record if rollout else None
    if record is None or rollout is None or analysis is None or rollout.fast:
        return Interest(key, gauges_only=True)
    if record.phase not in JUDGED:
        return Interest(key, gauges_only=True)
    latency = [m for m in rollout.plan.config.metrics if m.type is MetricType.LATENCY_P95]
    limits = [analysis.state.find_latency_limits(metric.name) for metric in latency]
    frozen = [limit for limit in limits if limit is not None]
    les = list_les(frozen) if len(frozen) == len(limits) else ()
    return Interest(key, les=les, series=tuple(sorted(rollout.plan.series.values())))


def list_sources(rollout: Rollout) -> dict[str, str]:
    """Per metric what the reference is asked for: the source of scores (`Auto` or one), the counter of a Ratio."""
    chosen = {name: SOURCES.get(source, source) for name, source in rollout.plan.sources.items()}
    return {**{name: str(source) for name, source in chosen.items()}, **rollout.plan.series}


def _find_sources(
    rollout: Rollout, analysis: Analysis, reading: Reading, key: tuple[str, str]
) -> dict[str, str]:
    """Per metric the series to read: as the reference fixed it, else as the user says, else the first with data."""
    found: dict[str, str] = dict(rollout.plan.series)
    for metric in rollout.plan.config.metrics:
        if metric.type is not MetricType.SCORE:
            continue
        reference = analysis.state.find_reference(metric.name)
        chosen = SOURCES.get(rollout.plan.sources.get(metric.name, ""))
        source = (
            (reference.source if reference else None)
            or chosen
            or find_source(reading, key, rollout.origin.revision)
        )
        if source:
            found[metric.name] = str(source)
    return found
