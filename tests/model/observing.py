"""What one operator sees in a cluster, given what the environment chooses: Prometheus, the judge, the clock.

Mirrors `reconcile/observe.py` and `reconcile/history.py`; the judge's answer comes through the shipped `take_look`.
"""

from dataclasses import dataclass, replace
from enum import Enum
from functools import cache
from typing import Self, cast

from tests.model.cluster import Attempt, Cluster
from tests.model.programs import LATE, NAME, NOW, build_plan, build_program

from dspy_operator.api.reasons import Reason as Why
from dspy_operator.reconcile.commands import list_orders
from dspy_operator.rollout.analysis import Analysis
from dspy_operator.rollout.capacity import Capacity, Load, LoadState
from dspy_operator.rollout.judging import Action, Look, MetricAnswer, Reason, State, Verdict
from dspy_operator.rollout.judging.record import Record
from dspy_operator.rollout.model import (
    Confirmation,
    Entry,
    Judging,
    Observation,
    Past,
    Phase,
    Refusal,
    Rollout,
    Stock,
    Target,
    Unmeasured,
)

WINDOW = 1
LIMIT = 10


class Telemetry(Enum):
    """Prometheus: it answers; it does not; it has not for so long that the pods are presumed to have the table."""

    THERE = "Prometheus answers"
    AWAY = "Prometheus is away"
    LONG_AWAY = "Prometheus is away for long"


class Answer(Enum):
    """What the judge says to the look of this pass; SILENT: there is no look."""

    SILENT = "no look"
    WAIT = "judge: wait"
    APPROVAL = "judge: a person must approve"
    GOOD = "judge: advance"
    BAD = "judge: roll back"
    LATE_GOOD = "judge: deadline promotes"
    LATE_BAD = "judge: deadline rolls back"


_VERDICTS = {
    Answer.WAIT: (Action.HOLD, Reason.COLLECTING_EVIDENCE),
    Answer.APPROVAL: (Action.HOLD, Reason.AWAITING_PROMOTION),
    Answer.GOOD: (Action.ADVANCE, Reason.EVIDENCE_OF_QUALITY),
    Answer.BAD: (Action.ROLL_BACK, Reason.EVIDENCE_OF_REGRESSION),
    Answer.LATE_GOOD: (Action.ADVANCE, Reason.DEADLINE_PROMOTE),
    Answer.LATE_BAD: (Action.ROLL_BACK, Reason.DEADLINE_ROLLBACK),
}


@dataclass(frozen=True)
class Chance:
    """What the environment chooses for one pass. `late`: every deadline and bake is over."""

    telemetry: Telemetry = Telemetry.THERE
    answer: Answer = Answer.SILENT
    late: bool = False

    @property
    def now(self) -> float:
        """Seconds since 1970."""
        return LATE if self.late else NOW

    def __str__(self) -> str:
        """For a trace."""
        said = [self.telemetry.value] if self.telemetry is not Telemetry.THERE else []
        said += [self.answer.value] if self.answer is not Answer.SILENT else []
        said += ["late"] if self.late else []
        return ", ".join(said)


_NO_STATE = cast("State", None)
_NO_RECORD = cast("Record", None)


@dataclass(frozen=True, slots=True)
class Oracle(Analysis):
    """A test that says what the environment wants, behind the interface of the shipped one."""

    state: State = _NO_STATE
    record: Record = _NO_RECORD
    answer: Answer = Answer.SILENT

    def judge(self, look: Look) -> tuple[Self, Verdict]:
        """One look."""
        return self, build_verdict(self.answer, look.t)

    def judge_blind(self, t: float) -> Verdict:
        """Without a look only a deadline's Promote or Rollback can speak."""
        spoken = self.answer in {Answer.LATE_GOOD, Answer.LATE_BAD}
        return build_verdict(self.answer if spoken else Answer.WAIT, t)

    def enter_step(self, step: int, t: float) -> Self:
        """Nothing to remember."""
        return self

    def enter_bake(self, t: float) -> Self:
        """Nothing to remember."""
        return self

    def resume(self, t: float) -> Self:
        """Nothing to remember."""
        return self


def build_verdict(answer: Answer, t: float) -> Verdict:
    """The judge's verdict with nothing measured in it."""
    action, reason = _VERDICTS[answer]
    return Verdict(action, MetricAnswer.WAIT, reason, str(reason), (), 0, t)


def list_chances(cluster: Cluster) -> tuple[Chance, ...]:
    """Every choice of the environment that could make a difference here."""
    attempt = cluster.attempt
    if cluster.deleted:
        return (Chance(),)
    if attempt is None:
        return tuple(Chance(telemetry) for telemetry in Telemetry)
    return _list_chances(attempt.record.phase, attempt.fast)


@cache
def _list_chances(phase: Phase, fast: bool) -> tuple[Chance, ...]:  # noqa: FBT001  a cached table
    seen = {Answer.SILENT}
    blind = {Answer.SILENT}
    if phase in {Phase.STEPPING, Phase.BAKING, Phase.PROMOTING} and not fast:
        seen |= {Answer.APPROVAL, Answer.GOOD, Answer.BAD, Answer.LATE_BAD}
        blind |= {Answer.LATE_GOOD, Answer.LATE_BAD}
    chances = [Chance(Telemetry.THERE, answer) for answer in Answer if answer in seen]
    chances += [Chance(Telemetry.AWAY, answer) for answer in Answer if answer in blind]
    chances.append(Chance(Telemetry.LONG_AWAY))
    if phase in {Phase.PREPARING, Phase.PROMOTING} or (fast and phase is Phase.BAKING):
        chances += [Chance(telemetry, late=True) for telemetry in Telemetry]
    return tuple(chances)


def observe(cluster: Cluster, epoch: int, chance: Chance) -> Observation:
    """The Observation of one pass."""
    return complete(read(cluster, epoch), cluster, chance)


def read(cluster: Cluster, epoch: int) -> Observation:
    """What does not depend on Prometheus and the clock."""
    if cluster.deleted:
        return Observation(NOW, epoch, NAME, deleting=True)
    rollout = _build_rollout(cluster.attempt) if cluster.attempt else None
    has_history = rollout is None or rollout.record.phase is Phase.PREPARING
    previous = list_previous(cluster) if has_history else ()
    unbegun = [a for a in cluster.attempts if is_unbegun(a) and a is not cluster.attempt]
    annotations = {given.command.annotation: given.nonce for given in cluster.given}
    return Observation(
        now=NOW,
        epoch=epoch,
        name=NAME,
        target=_build_target(cluster, previous),
        queue=cluster.queue,
        spec_paused=cluster.paused,
        record=cluster.record,
        rollout=rollout,
        orphans=tuple(a.name for a in unbegun[1:]) if has_history else (),
        pending=_build_rollout(unbegun[0]) if unbegun and has_history else None,
        revisions={letter: build_program(letter) for letter in cluster.revisions},
        attempts=count_attempts(cluster) if has_history else {},
        previous=previous,
        stock=_build_stock(cluster) if has_history else Stock(),
        table=cluster.table,
        capacity=_build_capacity(cluster),
        orders=list_orders(annotations, cluster.record, rollout) if annotations else (),
    )


def complete(seen: Observation, cluster: Cluster, chance: Chance) -> Observation:
    """With what Prometheus, the judge and the clock say."""
    if seen.deleting:
        return seen
    loads = {letter: _build_load(cluster, letter, chance) for letter in seen.capacity.loads}
    return replace(
        seen,
        now=chance.now,
        confirmation=_build_confirmation(cluster, chance),
        capacity=replace(seen.capacity, loads=loads),
        judging=_build_judging(seen.rollout, chance),
    )


def is_unbegun(attempt: Attempt) -> bool:
    """Whether its status is empty."""
    return attempt.record.started_at is None and attempt.record.number == 0


def _build_rollout(attempt: Attempt) -> Rollout:
    record = attempt.record
    if record.number:
        last = Entry(NOW, record.number, record.phase, record.step, record.weight, "", "")
        record = replace(record, entries=(last,))
    origin, to = build_program(attempt.origin), build_program(attempt.to)
    return Rollout(attempt.name, attempt.uid, origin, to, attempt.fast, build_plan(), record, NOW)


def _build_target(cluster: Cluster, previous: tuple[str, ...]) -> Target | Refusal:
    if not cluster.spec:
        return Refusal(Why.INVALID_SPEC, "spec: nonsense")
    return Target(build_program(cluster.spec), in_window=cluster.spec in previous[:WINDOW])


def count_attempts(cluster: Cluster) -> dict[str, int]:
    """The highest attempt of each revision."""
    counted: dict[str, int] = {}
    for attempt in cluster.attempts:
        number = int(attempt.name.rpartition("-")[2])
        counted[attempt.to] = max(number, counted.get(attempt.to, 0))
    return counted


def list_previous(cluster: Cluster) -> tuple[str, ...]:
    """Promoted revisions other than stable, the newest first."""
    by_name = {attempt.name: attempt for attempt in cluster.attempts}
    ended = [by_name[name] for name in cluster.ended if name in by_name]
    promoted = [attempt for attempt in ended if attempt.record.phase is Phase.PROMOTED]
    found = dict.fromkeys(letter for attempt in promoted for letter in (attempt.to, attempt.origin))
    stable = cluster.record.stable.revision if cluster.record.stable else ""
    return tuple(letter for letter in found if letter != stable)


def _build_stock(cluster: Cluster) -> Stock:
    by_name = {attempt.name: attempt for attempt in cluster.attempts}
    ended = [by_name[name] for name in cluster.ended if name in by_name]
    return Stock(
        attempts=tuple(
            Past(a.name, a.origin, a.to, a.record.phase, NOW - age) for age, a in enumerate(ended)
        ),
        copies=frozenset(copy_name(letter) for letter in cluster.archived),
        digests={letter: (letter * 64, "") for letter in cluster.revisions},
        limit=LIMIT,
        window=WINDOW,
    )


def copy_name(letter: str) -> str:
    """The ConfigMap that keeps a program's bytes."""
    return f"{NAME}-program-{letter * 12}"


def is_loaded(cluster: Cluster, letter: str) -> bool:
    """Whether pods that use T have this program: named there, its bytes in the slot, not refused."""
    slot = cluster.table.split.find_slot(letter) if cluster.table else None
    return slot is not None and cluster.slots[slot] == letter and letter not in cluster.refused


def _build_confirmation(cluster: Cluster, chance: Chance) -> Confirmation:
    if cluster.table is None:
        return Confirmation()
    weighted = [share.program.revision for share in cluster.table.split.shares if share.weight]
    reached = cluster.confirmed and cluster.ready
    if chance.telemetry is Telemetry.THERE:
        seen = reached and all(is_loaded(cluster, letter) for letter in weighted)
        return Confirmation(NOW if seen else None, refreshed=seen or cluster.refreshed)
    presumed = chance.telemetry is Telemetry.LONG_AWAY and reached and cluster.refreshed
    return Confirmation(presumed=presumed, refreshed=cluster.refreshed)


def _build_capacity(cluster: Cluster) -> Capacity:
    stable, attempt = cluster.record.stable, cluster.attempt
    letters = {stable.revision if stable else "", attempt.to if attempt else "", cluster.spec} - {""}
    offered = {cluster.spec} - {""}
    return Capacity(
        ready_pods=2 if cluster.ready else 0,
        desired_pods=2,
        slots=tuple(letter * 64 for letter in cluster.slots),
        archived=frozenset(letter * 64 for letter in cluster.archived),
        available=frozenset(letter * 64 for letter in {*cluster.archived, *offered, *cluster.slots} - {""}),
        loads=dict.fromkeys(sorted(letters), Load()),
    )


def _build_load(cluster: Cluster, letter: str, chance: Chance) -> Load:
    if chance.telemetry is not Telemetry.THERE or not cluster.ready:
        return Load()
    is_named = cluster.table is not None and cluster.table.split.find_slot(letter) is not None
    if letter in cluster.refused and is_named:
        return Load(LoadState.REFUSED, Why.ARTIFACT_REFUSED, "no program")
    return Load(LoadState.LOADED if cluster.confirmed and is_loaded(cluster, letter) else LoadState.LOADING)


def _build_judging(rollout: Rollout | None, chance: Chance) -> Judging:
    if rollout is None or rollout.fast:
        return Judging()
    oracle = Oracle(answer=chance.answer)
    if chance.telemetry is not Telemetry.THERE:
        return Judging(oracle, Unmeasured("PrometheusUnreachable", "Prometheus does not answer"))
    return Judging(oracle, None if chance.answer is Answer.SILENT else Look(t=chance.now))
