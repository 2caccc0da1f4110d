"""Where checks start, and the bounds of those that run with the unit tests and of the longer ones."""

from dataclasses import dataclass, replace

from tests.model.checker import SHIPPED, Rules
from tests.model.cluster import EMPTY_RECORD, NOTHING_HANDLED, Attempt, Cluster, Ghost, list_uses
from tests.model.events import Bounds, Budget
from tests.model.programs import NOW, build_program

from dspy_operator.rollout.clock import format_time
from dspy_operator.rollout.model import DeploymentRecord, Phase, Share, Split, Stable, Table


def build_settled(*, queue: bool = False) -> Cluster:
    """Revision a serves, nothing is open."""
    stable = Stable("a", "a" * 64, format_time(NOW))
    table = Table(Split(Share(build_program("a"), 0, 100)), 0, "", 0, 1)
    return Cluster(
        queue=queue,
        record=DeploymentRecord(stable, handled=NOTHING_HANDLED),
        revisions=frozenset("a"),
        archived=frozenset("a"),
        slots=("a", "", ""),
        table=table,
        confirmed=True,
        ghost=Ghost(uses=list_uses(table)),
    )


def build_full_slots() -> Cluster:
    """As above, and every slot holds the program of some earlier attempt."""
    return replace(build_settled(), slots=("a", "d", "e"))


def build_promoted() -> Cluster:
    """Revision b was promoted after a and serves: there is something to go back to."""
    record = replace(EMPTY_RECORD, phase=Phase.PROMOTED, outcome=Phase.PROMOTED, number=5, started_at=NOW)
    table = Table(Split(Share(build_program("b"), 1, 100)), 0, "", 0, 1)
    start = replace(
        build_settled(),
        spec="b",
        record=DeploymentRecord(Stable("b", "b" * 64, format_time(NOW)), handled=NOTHING_HANDLED),
        attempts=(Attempt("b-1", "b-1#1", "a", "b", fast=False, record=record),),
        ended=("b-1",),
        revisions=frozenset("ab"),
        archived=frozenset("ab"),
        slots=("a", "b", ""),
        table=table,
    )
    return replace(start, ghost=Ghost(uses=list_uses(table)))


@dataclass(frozen=True)
class Check:
    """One exhaustive check."""

    name: str
    start: Cluster
    bounds: Bounds
    rules: Rules = SHIPPED

    def __str__(self) -> str:
        """The name."""
        return self.name


CHECKS = (
    Check("1 operator, 2 edits", build_settled(), Bounds(Budget(edits=2))),
    Check("1 operator, 1 edit, 1 command", build_settled(), Bounds(Budget(edits=1, commands=1), "b")),
)

DEEP = CHECKS
