"""From every reachable state: after the last fault the holder of the Lease alone brings everything to rest.

The holder's chain of passes is deterministic, so the number of writes left is worked out once for each state on it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tests.model.checker import TOLD
from tests.model.cluster import Cluster, drop_ghost
from tests.model.effects import describe, land, list_writes
from tests.model.events import confirm, give, may_confirm
from tests.model.observing import Answer, Chance, is_unbegun, observe

from dspy_operator.api.names import Command
from dspy_operator.rollout import decide as core
from dspy_operator.rollout.attempt import is_held
from dspy_operator.rollout.model import Phase

MOST_WRITES = 30
"""L1: writes until everything is at rest."""
MOST_UNTIL_SAFE = 5
"""L3: writes until nothing goes to a canary that the judge is against."""
MOST_AFTER_TAKEOVER = 9
"""L3, when a new operator must stamp first."""
MOST_PASSES = 200

GOOD = Chance(answer=Answer.GOOD)
OVER = Chance(answer=Answer.GOOD, late=True)
BAD = Chance(answer=Answer.BAD)


@dataclass
class Longest:
    """The most writes that were needed until rest (L1) and until nothing goes to a bad canary (L3).

    `broken` is the first bound that does not hold, with the way from there.
    """

    states: int = 0
    writes: int = 0
    until_safe: int = 0
    until_safe_after_takeover: int = 0
    broken: str = ""

    def __str__(self) -> str:
        """One line, and what is broken."""
        line = (
            f"from each of {self.states:,} clusters: at rest in ≤ {self.writes} writes, a bad canary without traffic "
            f"in ≤ {self.until_safe}, after a take-over ≤ {self.until_safe_after_takeover}"
        )
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
    if not serves:
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
    """Nothing is written: the pods take up the table, or the bake of a fast attempt is over. No deadline helps."""
    if may_confirm(cluster):
        return drop_ghost(confirm(cluster)), []
    attempt = cluster.attempt
    if attempt and attempt.fast and attempt.record.phase is Phase.BAKING:
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
        attempt, table = here.attempt, here.table
        shares = (table.split.weight if table else 0, attempt.record.weight if attempt else 0)
        if shares == (0, 0):
            return count
        after, written = make_pass(here, epoch, BAD)
        if not written:
            if not may_confirm(here):
                return None
            after = drop_ghost(confirm(here))
        count += len(written)
        here = after
    return None


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
        if left is None or left > MOST_WRITES * rollouts:
            count = "never at rest" if left is None else f"{left} writes"
            longest.broken = "\n".join([f"L1: {count}", *tell(cluster, epoch)])
            break
        longest.writes = max(longest.writes, left)
        if is_judged(cluster):
            longest.broken = _measure_safety(cluster, epoch, longest)
            if longest.broken:
                break
    return longest


def _measure_safety(cluster: Cluster, epoch: int, longest: Longest) -> str:
    count, stamped = count_until_safe(cluster, epoch), is_stamped(cluster, epoch)
    most = MOST_UNTIL_SAFE if stamped else MOST_AFTER_TAKEOVER
    if count is None or count > most:
        return f"L3: {'never' if count is None else count} writes until the canary gets nothing: {cluster}"
    if stamped:
        longest.until_safe = max(longest.until_safe, count)
    else:
        longest.until_safe_after_takeover = max(longest.until_safe_after_takeover, count)
    return ""
