"""From every reachable state: after the last fault the holder of the Lease alone brings everything to rest.

The holder's chain of passes is deterministic, so the number of writes left is worked out once for each state on it.
"""

from dataclasses import dataclass, field, replace

from tests.model.cluster import Cluster, drop_ghost
from tests.model.effects import describe, land, list_writes
from tests.model.events import confirm, give, may_confirm
from tests.model.observing import Answer, Chance, observe

from dspy_operator.api.names import Command
from dspy_operator.rollout import decide as core
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
    """The most writes that were needed, and from where; `stuck` is what never came to rest."""

    writes: int = 0
    states: int = 0
    path: tuple[str, ...] = ()
    stuck: tuple[str, ...] = ()


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

    def find_longest(self, reached: list[tuple[Cluster, int]]) -> Longest:
        """The worst of many starts."""
        longest = Longest()
        for cluster, epoch in reached:
            left = self.measure(cluster, epoch)
            longest.states += 1
            if left is None:
                longest.stuck = tell(cluster, epoch)
                return longest
            if left > longest.writes:
                longest.writes, longest.path = left, tell(cluster, epoch)
        return longest


def heal(cluster: Cluster) -> Cluster:
    """The last fault is over; a person lets it go on."""
    healed = replace(
        drop_ghost(cluster), paused=False, ready=True, refused=frozenset(), spec=cluster.spec or "a"
    )
    return give(healed, Command.RESUME)


def is_at_rest(cluster: Cluster) -> bool:
    """No attempt is open, stable gets everything and every pod knows it, and the spec is carried out or rejected."""
    if cluster.deleted:
        return True
    table, stable = cluster.table, cluster.record.stable
    if cluster.record.pointer or table is None or stable is None or not cluster.confirmed:
        return False
    split = table.split
    serves = split.canary is None and split.stable.program.revision == stable.revision
    done = cluster.spec == stable.revision or cluster.record.is_rejected(cluster.spec)
    return serves and done and not any(attempt.record.number == 0 for attempt in cluster.attempts)


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
    """Writes until the canary gets nothing, under a judge who is against it; None if that never comes."""
    here, count = heal(cluster), 0
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
    """Whether a verdict against the canary must take its traffic away."""
    attempt = cluster.attempt
    if attempt is None or attempt.fast or cluster.deleted:
        return False
    return attempt.record.phase in {Phase.STEPPING, Phase.PROMOTING, Phase.BAKING}


def is_stamped(cluster: Cluster, epoch: int) -> bool:
    """Whether the holder has stamped R and T."""
    attempt, table = cluster.attempt, cluster.table
    return bool(attempt and table and attempt.record.epoch >= epoch and table.epoch >= epoch)


def find_unconvergent(reached: list[tuple[Cluster, int]]) -> str:
    """The first state from which L1 or L3 does not hold, in words; empty if there is none."""
    longest = Convergence().find_longest(reached)
    if longest.stuck:
        return "\n".join(["L1: never at rest", *longest.stuck])
    if longest.writes > MOST_WRITES:
        return "\n".join([f"L1: {longest.writes} writes", *longest.path])
    for cluster, epoch in reached:
        if not is_judged(cluster):
            continue
        most = MOST_UNTIL_SAFE if is_stamped(cluster, epoch) else MOST_AFTER_TAKEOVER
        count = count_until_safe(cluster, epoch)
        if count is None or count > most:
            return (
                f"L3: {'never' if count is None else count} writes until the canary gets nothing: {cluster}"
            )
    return ""
