"""What one operator sees in a cluster, given what the environment chooses: Prometheus, the judge, the clock.

Mirrors `reconcile/observe.py` and `reconcile/history.py`; the judge's answer comes through the shipped `take_look`.
"""

from dataclasses import dataclass, replace
from enum import Enum
from functools import cache
from typing import Self, cast

from tests.model import network
from tests.model.cluster import Attempt, Cluster
from tests.model.network import list_drifted, look_at
from tests.model.programs import LATE, NAME, NOW, REPLICAS, Means, build_plan, build_program

from dspy_operator.api.reasons import Reason as Why
from dspy_operator.reconcile.commands import list_orders
from dspy_operator.rollout.analysis import Analysis
from dspy_operator.rollout.capacity import Capacity, Load, LoadState, Own
from dspy_operator.rollout.judging import Action, Look, MetricAnswer, Reason, State, Verdict
from dspy_operator.rollout.judging.record import Record
from dspy_operator.rollout.model import (
    Confirmation,
    Entry,
    Judging,
    Observation,
    Past,
    Phase,
    Program,
    Refusal,
    Rollout,
    Stock,
    Table,
    Target,
    Unmeasured,
)
from dspy_operator.rollout.world import pick_stable
from dspy_operator.traffic.view import Obstacle

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
        chances = tuple(Chance(telemetry) for telemetry in Telemetry)
        is_down = cluster.net is not None and not cluster.ready_pods
        return (*chances, Chance(late=True)) if is_down else chances
    return _list_chances(attempt.record.phase, attempt.fast, attempt.has_own_pods)


@cache
def _list_chances(phase: Phase, fast: bool, own: bool) -> tuple[Chance, ...]:  # noqa: FBT001  a cached table
    seen = {Answer.SILENT}
    blind = {Answer.SILENT}
    if phase in {Phase.STEPPING, Phase.BAKING, Phase.PROMOTING} and not fast:
        seen |= {Answer.APPROVAL, Answer.GOOD, Answer.BAD, Answer.LATE_BAD}
        blind |= {Answer.LATE_GOOD, Answer.LATE_BAD}
    chances = [Chance(Telemetry.THERE, answer) for answer in Answer if answer in seen]
    chances += [Chance(Telemetry.AWAY, answer) for answer in Answer if answer in blind]
    chances.append(Chance(Telemetry.LONG_AWAY))
    waits = {Phase.PREPARING, Phase.PROMOTING, *((Phase.STEPPING,) if own else ())}
    if phase in waits or (fast and phase is Phase.BAKING):
        chances += [Chance(telemetry, late=True) for telemetry in Telemetry]
    return tuple(chances)


def observe(cluster: Cluster, epoch: int, chance: Chance) -> Observation:
    """The Observation of one pass."""
    return complete(read(cluster, epoch), cluster, chance)


def read(cluster: Cluster, epoch: int) -> Observation:
    """What does not depend on Prometheus and the clock."""
    if cluster.deleted:
        return Observation(NOW, epoch, NAME, deleting=True)
    rollout = find_rollout(cluster)
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
        isolated=cluster.means.isolated,
        spec_paused=cluster.paused,
        record=cluster.record,
        rollout=rollout,
        orphans=tuple(a.name for a in unbegun[1:]) if has_history else (),
        pending=_build_rollout(unbegun[0], cluster.means) if unbegun and has_history else None,
        revisions={letter: build_program(letter) for letter in cluster.revisions},
        attempts=count_attempts(cluster) if has_history else {},
        previous=previous,
        stock=_build_stock(cluster) if has_history else Stock(),
        table=_read_table(cluster, rollout),
        capacity=_build_capacity(cluster, rollout),
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
        confirmation=_build_confirmation(cluster, seen.rollout, chance),
        capacity=replace(seen.capacity, loads=loads, down_for=chance.now - NOW),
        judging=_build_judging(seen.rollout, chance),
    )


def is_unbegun(attempt: Attempt) -> bool:
    """Whether its status is empty."""
    return attempt.record.started_at is None and attempt.record.number == 0


def find_rollout(cluster: Cluster) -> Rollout | None:
    """The attempt that the pointer names, as decisions see it."""
    return _build_rollout(cluster.attempt, cluster.means) if cluster.attempt else None


def _build_rollout(attempt: Attempt, means: Means) -> Rollout:
    record = attempt.record
    if record.number:
        last = Entry(NOW, record.number, record.phase, record.step, record.weight, "", "")
        record = replace(record, entries=(last,))
    origin = build_program(attempt.origin, attempt.origin_pods)
    to = build_program(attempt.to, attempt.pods)
    return Rollout(attempt.name, attempt.uid, origin, to, attempt.fast, build_plan(means), record, NOW)


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


def list_using(cluster: Cluster) -> int:
    """How many ready pods answer users: stable's, and those of a canary's own that has any weight."""
    canary = cluster.table.split.canary if cluster.table else None
    is_own = cluster.net is not None and canary is not None and canary.program.workload != cluster.home
    if cluster.net is None or canary is None or not is_own or not canary.weight:
        return cluster.ready_pods
    return cluster.ready_pods + cluster.net.count_ready(canary.program.workload)


def find_obstacle(cluster: Cluster, rollout: Rollout | None) -> Obstacle | None:
    """Why what routes to pods does not follow the table yet; nothing does where all pods are shared."""
    if cluster.net is None or cluster.table is None:
        return None
    split = cluster.table.split
    return network.find_obstacle(cluster.net, look_at(cluster.means, rollout, split), split)


def find_stable(cluster: Cluster) -> Program | None:
    """Stable by its ControllerRevision, in the pods that it lives in."""
    return pick_stable(cluster.record, map(build_program, cluster.revisions))


def _read_table(cluster: Cluster, rollout: Rollout | None) -> Table | None:
    if cluster.net is None or cluster.table is None:
        return cluster.table
    split = cluster.table.split
    side = look_at(cluster.means, rollout, split)
    pending = network.list_routed(cluster.net, side, split, False)  # noqa: FBT003  cached by position
    return replace(cluster.table, intact=False) if pending else cluster.table


def _build_confirmation(cluster: Cluster, rollout: Rollout | None, chance: Chance) -> Confirmation:
    if cluster.table is None:
        return Confirmation()
    weighted = [share.program.revision for share in cluster.table.split.shares if share.weight]
    reached = cluster.confirmed and list_using(cluster) > 0
    obstacle = find_obstacle(cluster, rollout)
    said = Confirmation(
        refreshed=cluster.refreshed,
        message=obstacle.message if obstacle else "",
        is_settling=obstacle is not None and obstacle.is_settling,
    )
    if chance.telemetry is Telemetry.THERE:
        seen = reached and all(is_loaded(cluster, letter) for letter in weighted)
        at = NOW if seen and obstacle is None else None
        return replace(said, at=at, refreshed=seen or cluster.refreshed)
    presumed = chance.telemetry is Telemetry.LONG_AWAY and reached and cluster.refreshed
    return replace(said, presumed=presumed and obstacle is None)


def _build_capacity(cluster: Cluster, rollout: Rollout | None) -> Capacity:
    stable, attempt = cluster.record.stable, cluster.attempt
    letters = {stable.revision if stable else "", attempt.to if attempt else "", cluster.spec} - {""}
    offered = {cluster.spec} - {""}
    capacity = Capacity(
        ready_pods=cluster.ready_pods,
        desired_pods=REPLICAS,
        slots=tuple(letter * 64 for letter in cluster.slots),
        archived=frozenset(letter * 64 for letter in cluster.archived),
        available=frozenset(letter * 64 for letter in {*cluster.archived, *offered, *cluster.slots} - {""}),
        loads=dict.fromkeys(sorted(letters), Load()),
    )
    if cluster.net is None:
        return capacity
    split = cluster.table.split if cluster.table else None
    side = look_at(cluster.means, rollout, split)
    wanted = network.find_wanted(cluster.net, side, find_stable(cluster), split)
    return replace(
        capacity,
        drifted=list_drifted(cluster.net, wanted),
        leaving=tuple(p.workload for p in cluster.net.pods if p.workload != cluster.home),
        own=_build_own(cluster, rollout),
    )


def _build_own(cluster: Cluster, rollout: Rollout | None) -> Own:
    """As `reconcile/observe.py`: none can be reached before the table names the canary."""
    if cluster.net is None or rollout is None or not rollout.has_own_pods:
        return Own()
    table = cluster.table
    named = table is not None and table.split.canary is not None and table.split.canary.program == rollout.to
    reachable = 0
    if table and named:
        side = look_at(cluster.means, rollout, table.split)
        reachable = network.count_reachable(cluster.net, side, table.split)
    return Own(cluster.net.count_ready(rollout.to.workload), reachable)


def _count_home(cluster: Cluster, letter: str) -> int:
    """Ready pods of those that a revision lives in, as far as it lives in any."""
    attempt = cluster.attempt
    if cluster.net is not None and attempt and attempt.has_own_pods and attempt.to == letter:
        return cluster.net.count_ready(attempt.pods)
    return cluster.ready_pods


def _build_load(cluster: Cluster, letter: str, chance: Chance) -> Load:
    if chance.telemetry is not Telemetry.THERE or not _count_home(cluster, letter):
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
