"""From every reachable state: after the last fault the holder of the Lease alone brings everything to rest.

The holder's chain of passes is deterministic, so the number of writes left is worked out once for each state on it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tests.model.checker import TOLD
from tests.model.cluster import Cluster, drop_ghost
from tests.model.effects import describe, land, list_writes
from tests.model.events import confirm, give, list_follow_ups, may_confirm
from tests.model.network import CANARY, build_net
from tests.model.observing import Answer, Chance, Telemetry, is_unbegun, observe

from dspy_operator.api.names import Command
from dspy_operator.rollout import decide as core
from dspy_operator.rollout.attempt import is_held
from dspy_operator.rollout.model import Phase

MOST_WRITES = 30
"""L1: writes until everything is at rest."""
MOST_WRITES_OF_OWN_PODS = 45
"""The same where Deployments, Services and a route come and go too."""
MOST_UNTIL_SAFE = 5
"""L3: writes until nothing goes to a canary that the judge is against."""
MOST_AFTER_TAKEOVER = 9
"""L3, when a new operator must stamp first."""
MOST_UNTIL_SAFE_OF_OWN_PODS = (9, 12)
"""L3 for a canary with own pods, and after a take-over: pods are scaled first, and each table has its route."""
MOST_UNTIL_BURIED = (3, 6)
"""L3 for a canary whose own pods are dead, and after a take-over: the record, the table, the route."""
MOST_PASSES = 200

GOOD = Chance(answer=Answer.GOOD)
OVER = Chance(answer=Answer.GOOD, late=True)
BAD = Chance(answer=Answer.BAD)
BLIND = Chance(Telemetry.AWAY)


@dataclass
class Longest:
    """The most writes that were needed until rest (L1) and until nothing goes to a bad canary or to a dead one (L3).

    `broken` is the first bound that does not hold, with the way from there.
    """

    states: int = 0
    writes: int = 0
    until_safe: int = 0
    until_safe_after_takeover: int = 0
    until_buried: int = 0
    broken: str = ""

    def __str__(self) -> str:
        """One line, and what is broken."""
        line = (
            f"from each of {self.states:,} clusters: at rest in ≤ {self.writes} writes, a bad canary without traffic "
            f"in ≤ {self.until_safe}, after a take-over ≤ {self.until_safe_after_takeover}"
        )
        line += f", a dead one in ≤ {self.until_buried}" if self.until_buried else ""
        return f"{line}\nBROKEN {self.broken}" if self.broken else line


@dataclass
class Convergence:
    """L1 for one way to decide; remembers how many writes each state is from rest."""

    _left: dict[tuple[Cluster, int], int] = field(default_factory=dict)

    def measure(self, cluster: Cluster, epoch: int) -> int | None:
        """Writes from here until rest, None if it never comes."""
        here = (heal(cluster), epoch)
        path: list[tuple[tuple[Cluster, int], int]] = []
        on_path: set[tuple[Cluster, int]] = set()
        left = 0
        while here not in self._left:
            if here in on_path or len(path) > MOST_PASSES:
                return None
            on_path.add(here)
            cluster, writes = make_pass(here[0], epoch, GOOD)
            if not writes:
                cluster, writes = _wait(here[0], epoch)
                if cluster == here[0] and not writes:
                    if not is_at_rest(cluster):
                        return None
                    self._left[here] = 0
                    break
            path.append((here, len(writes)))
            here = (drop_ghost(cluster), epoch)
        left = self._left[here]
        for seen, count in reversed(path):
            left += count
            self._left[seen] = left
        return left


def heal(cluster: Cluster) -> Cluster:
    """The last fault is over; a person lets it go on."""
    healed = replace(
        drop_ghost(cluster), paused=False, ready=True, refused=frozenset(), spec=cluster.spec or "a"
    )
    paused = any(given.command is Command.PAUSE for given in cluster.given)
    return give(healed, Command.RESUME) if paused else healed


def is_at_rest(cluster: Cluster) -> bool:
    """No attempt is open, stable gets everything and every pod knows it, and the spec is carried out or rejected.

    Beside a rejected spec a half-open attempt may stay: time removes it, which the model has not, or the next opening.
    """
    if cluster.deleted:
        return True
    table, stable = cluster.table, cluster.record.stable
    if cluster.record.pointer or table is None or stable is None or not cluster.confirmed:
        return False
    split = table.split
    serves = split.canary is None and split.stable.program.revision == stable.revision
    if not serves or cluster.net not in {None, build_net(cluster.means, stable.workload)}:
        return False
    if cluster.record.is_rejected(cluster.spec):
        return True
    return cluster.spec == stable.revision and not any(map(is_unbegun, cluster.attempts))


def make_pass(cluster: Cluster, epoch: int, chance: Chance) -> tuple[Cluster, list[str]]:
    """One undisturbed pass: the cluster after it, and what was written."""
    seen = observe(cluster, epoch, chance)
    written = []
    for write in list_writes(seen, core.decide(seen), cluster):
        after = land(cluster, write)
        if after is None:
            break
        if after != cluster:
            written.append(describe(write))
        cluster = after
    return drop_ghost(cluster), written


def _wait(cluster: Cluster, epoch: int) -> tuple[Cluster, list[str]]:
    """Nothing is written: the pods take up the table, or the bake of a fast attempt is over. No deadline helps.

    Own pods get ready, and what routes follows, one after the other.
    """
    if may_confirm(cluster):
        return drop_ghost(confirm(cluster)), []
    if follow_up := next(list_follow_ups(cluster), None):
        return drop_ghost(follow_up.after), []
    attempt = cluster.attempt
    is_previewed = cluster.means.preview and attempt and attempt.record.phase is Phase.STEPPING
    if attempt and ((attempt.fast and attempt.record.phase is Phase.BAKING) or is_previewed):
        return make_pass(cluster, epoch, OVER)
    return cluster, []


def tell(cluster: Cluster, epoch: int) -> tuple[str, ...]:
    """The chain from a state to rest, as far as it goes."""
    lines, here = [str(cluster)], heal(cluster)
    for _ in range(MOST_PASSES):
        after, written = make_pass(here, epoch, GOOD)
        if not written:
            after, written = _wait(here, epoch)
        if after == here:
            break
        lines += written or ["(wait)"]
        here = after
    return (*lines[:60],)


def count_until_safe(cluster: Cluster, epoch: int) -> int | None:
    """Writes until the canary gets nothing, under a judge who is against it; None if that never comes.

    No command is waiting: a `promote` would be carried out before there is a look to judge.
    """
    here = replace(drop_ghost(cluster), ready=True, refused=frozenset(), given=())
    count = 0
    for _ in range(MOST_PASSES):
        if gets_nothing(here):
            return count
        after, written = make_pass(here, epoch, BAD)
        if not written:
            if may_confirm(here):
                after = confirm(here)
            elif follow_up := next(list_follow_ups(here), None):
                after = follow_up.after
            else:
                return None
            after = drop_ghost(after)
        count += len(written)
        here = after
    return None


def count_until_buried(cluster: Cluster, epoch: int) -> int | None:
    """Writes until a canary gets nothing whose own pods are all dead; Prometheus is away and nothing helps."""
    here, count = drop_ghost(cluster), 0
    for _ in range(MOST_PASSES):
        if gets_nothing(here):
            return count
        here, written = make_pass(here, epoch, BLIND)
        if not written:
            return None
        count += len(written)
    return None


def gets_nothing(cluster: Cluster) -> bool:
    """Neither the record nor the table nor a route to other pods than stable's gives the canary anything."""
    attempt, table, net = cluster.attempt, cluster.table, cluster.net
    shares = (table.split.weight if table else 0, attempt.record.weight if attempt else 0)
    is_routed = net is not None and net.route and net.get_selected(CANARY) != cluster.home
    return shares == (0, 0) and not is_routed


def is_dead(cluster: Cluster) -> bool:
    """Whether users are sent to own pods of which none is ready."""
    attempt, table = cluster.attempt, cluster.table
    if attempt is None or table is None or cluster.net is None or cluster.deleted:
        return False
    if not attempt.has_own_pods or not table.split.weight or cluster.net.count_ready(attempt.pods):
        return False
    return attempt.record.phase in {Phase.STEPPING, Phase.PROMOTING, Phase.BAKING}


def is_judged(cluster: Cluster) -> bool:
    """Whether a verdict against the canary must take its traffic away.

    A person may hold an attempt before its weight is in effect: then there is nothing to judge.
    """
    attempt = cluster.attempt
    if attempt is None or attempt.fast or cluster.deleted:
        return False
    if attempt.record.effective_at is None and (attempt.record.held or is_held(observe(cluster, 1, BAD))):
        return False
    return attempt.record.phase in {Phase.STEPPING, Phase.PROMOTING, Phase.BAKING}


def is_stamped(cluster: Cluster, epoch: int) -> bool:
    """Whether the holder has stamped R and T."""
    attempt, table = cluster.attempt, cluster.table
    return bool(attempt and table and attempt.record.epoch >= epoch and table.epoch >= epoch)


def measure(
    reached: list[tuple[Cluster, int]], progress: Callable[[int, int], None] | None = None
) -> Longest:
    """L1 and L3 from every cluster that was reached, until one does not hold.

    `progress` hears now and then how many were looked at and how many are left.
    """
    longest, convergence = Longest(), Convergence()
    for looked, (cluster, epoch) in enumerate(reached):
        if progress and looked % TOLD == 0:
            progress(looked, len(reached) - looked)
        longest.states += 1
        left = convergence.measure(cluster, epoch)
        rollouts = 2 if cluster.queue else 1
        most = MOST_WRITES if cluster.net is None else MOST_WRITES_OF_OWN_PODS
        if left is None or left > most * rollouts:
            count = "never at rest" if left is None else f"{left} writes"
            longest.broken = "\n".join([f"L1: {count}", *tell(cluster, epoch)])
            break
        longest.writes = max(longest.writes, left)
        longest.broken = _measure_safety(cluster, epoch, longest) or _measure_burial(cluster, epoch, longest)
        if longest.broken:
            break
    return longest


def _measure_safety(cluster: Cluster, epoch: int, longest: Longest) -> str:
    if not is_judged(cluster):
        return ""
    count, stamped = count_until_safe(cluster, epoch), is_stamped(cluster, epoch)
    is_own = cluster.attempt is not None and cluster.attempt.has_own_pods
    bounds = MOST_UNTIL_SAFE_OF_OWN_PODS if is_own else (MOST_UNTIL_SAFE, MOST_AFTER_TAKEOVER)
    if count is None or count > bounds[0 if stamped else 1]:
        return f"L3: {'never' if count is None else count} writes until the canary gets nothing: {cluster}"
    if stamped:
        longest.until_safe = max(longest.until_safe, count)
    else:
        longest.until_safe_after_takeover = max(longest.until_safe_after_takeover, count)
    return ""


def _measure_burial(cluster: Cluster, epoch: int, longest: Longest) -> str:
    if not is_dead(cluster):
        return ""
    count, stamped = count_until_buried(cluster, epoch), is_stamped(cluster, epoch)
    if count is None or count > MOST_UNTIL_BURIED[0 if stamped else 1]:
        return f"L3: {'never' if count is None else count} writes until dead pods get nothing: {cluster}"
    longest.until_buried = max(longest.until_buried, count)
    return ""
