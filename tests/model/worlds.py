"""Where checks start, and the bounds of those that run with the unit tests and of the longer ones."""

from dataclasses import dataclass, replace

from tests.model.checker import SHIPPED, Rules
from tests.model.cluster import EMPTY_RECORD, NOTHING_HANDLED, Attempt, Cluster, Ghost, list_uses
from tests.model.events import Bounds, Budget
from tests.model.network import build_net
from tests.model.programs import NOW, Means, build_program
from tests.model.settling import remember

from dspy_operator.api.choices import Router
from dspy_operator.api.names import Command
from dspy_operator.rollout.clock import format_time
from dspy_operator.rollout.model import DeploymentRecord, Phase, Share, Split, Stable, Table


def build_settled(*, queue: bool = False) -> Cluster:
    """Revision a serves, nothing is open."""
    stable = Stable("a", "a" * 64, format_time(NOW), "w1")
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
        record=DeploymentRecord(Stable("b", "b" * 64, format_time(NOW), "w1"), handled=NOTHING_HANDLED),
        attempts=(Attempt("b-1", "b-1#1", "a", "b", fast=False, record=record),),
        ended=("b-1",),
        revisions=frozenset("ab"),
        archived=frozenset("ab"),
        slots=("a", "b", ""),
        table=table,
    )
    return replace(start, ghost=Ghost(uses=list_uses(table)))


def build_promoted_elsewhere() -> Cluster:
    """Revision x, of another workload, was promoted after a and serves; pods of a's workload are gone."""
    record = replace(EMPTY_RECORD, phase=Phase.PROMOTED, outcome=Phase.PROMOTED, number=5, started_at=NOW)
    table = Table(Split(Share(build_program("x"), 1, 100)), 0, "", 0, 1)
    start = replace(
        build_promoted(),
        spec="x",
        record=DeploymentRecord(Stable("x", "x" * 64, format_time(NOW), "w2"), handled=NOTHING_HANDLED),
        attempts=(Attempt("x-1", "x-1#1", "a", "x", fast=False, record=record, pods="w2"),),
        ended=("x-1",),
        revisions=frozenset("ax"),
        archived=frozenset("ax"),
        slots=("a", "x", ""),
        table=table,
    )
    return replace(start, ghost=Ghost(uses=list_uses(table)))


def place_in(start: Cluster, means: Means) -> Cluster:
    """The same where canaries may have pods of their own."""
    net = build_net(means, start.home)
    return remember(replace(start, means=means, net=net))


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


GATEWAY = Means(Router.GATEWAY)
_EDIT = Bounds(Budget(edits=1), "b")
ABORTING = (Command.ABORT, Command.PROMOTE_FULL)

CHECKS = (
    Check("1 operator, 2 edits", build_settled(), Bounds(Budget(edits=2))),
    Check("1 operator, 2 edits, queue", build_settled(queue=True), Bounds(Budget(edits=2), "bc")),
    Check(
        "1 operator, 2 edits, pause, spoilt spec",
        build_settled(),
        Bounds(Budget(edits=2), "b", spoils=True, pauses=True),
    ),
    Check("1 operator, each command", build_settled(), Bounds(Budget(edits=1, commands=1), "b")),
    Check("1 operator, back or undo", build_promoted(), Bounds(Budget(edits=1, commands=1), "ac")),
    Check(
        "1 operator, deletion, no pod ready",
        build_settled(),
        Bounds(Budget(edits=1, deletions=1, outages=1), "b"),
    ),
    Check(
        "1 operator, 1 edit, 1 command, canary refused, record lost",
        build_settled(),
        Bounds(Budget(edits=1, commands=1, refusals=1, losses=1), "b"),
    ),
    Check(
        "1 operator, 2 edits, abort or promote-full, canary refused, record lost",
        build_settled(),
        Bounds(Budget(edits=2, commands=1, refusals=1, losses=1), "ab", ABORTING),
    ),
    Check("2 operators, 2 edits, 1 take-over", build_settled(), Bounds(Budget(edits=2, takeovers=1), "bc")),
)
"""With the unit tests: two minutes of one core."""

OWN_ONE = place_in(build_settled(), GATEWAY)
ELSEWHERE = place_in(build_promoted_elsewhere(), GATEWAY)

OWN_PODS = (
    Check("own pods, 2 edits, back", OWN_ONE, Bounds(Budget(edits=2), "ax")),
    Check("own pods, undo across workloads", ELSEWHERE, Bounds(Budget(commands=1), commands=(Command.UNDO,))),
    Check("own pods, back or to a third workload", ELSEWHERE, Bounds(Budget(edits=1), "az")),
    Check("own pods, canary dies", OWN_ONE, Bounds(Budget(edits=1, deaths=1), "x")),
    Check("own pods, no pod of stable ready", OWN_ONE, Bounds(Budget(edits=1, outages=1), "x")),
    Check("own pods, a hand on the route", OWN_ONE, Bounds(Budget(edits=1, hands=1), "x")),
    Check("own pods, record lost", OWN_ONE, Bounds(Budget(edits=1, losses=1), "x")),
    Check("own pods by isolation", place_in(build_settled(), Means(Router.GATEWAY, isolated=True)), _EDIT),
    Check(
        "own pods, a preview, canary dies",
        place_in(build_settled(), Means(Router.GATEWAY, preview=True)),
        Bounds(Budget(edits=1, deaths=1), "x"),
    ),
    Check(
        "own pods by replica counts, canary dies",
        place_in(build_settled(), Means(Router.REPLICAS)),
        Bounds(Budget(edits=1, deaths=1), "x"),
    ),
    Check(
        "own pods, abort or promote-full, canary dies",
        OWN_ONE,
        Bounds(Budget(edits=1, commands=1, deaths=1), "x", ABORTING),
    ),
    Check(
        "own pods, 2 operators, 1 take-over, canary dies",
        OWN_ONE,
        Bounds(Budget(edits=1, deaths=1, takeovers=1), "x"),
    ),
    Check(
        "own pods by replica counts, 2 operators, 1 take-over",
        place_in(build_settled(), Means(Router.REPLICAS)),
        Bounds(Budget(edits=1, takeovers=1), "x"),
    ),
)
"""With the unit tests too: pods of another workload, or of an isolated canary."""

DEEP = (
    Check(
        "1 operator, 3 edits",
        build_settled(),
        Bounds(Budget(edits=3)),
    ),
    Check(
        "1 operator, 2 edits, each command, canary refused, record lost",
        build_settled(),
        Bounds(Budget(edits=2, commands=1, refusals=1, losses=1), "ab"),
    ),
    Check("2 operators, 2 edits, 2 take-overs", build_settled(), Bounds(Budget(edits=2, takeovers=2))),
    Check(
        "2 operators, 1 edit, 1 take-over, each command, canary refused",
        build_settled(),
        Bounds(Budget(edits=1, commands=1, refusals=1, takeovers=1), "b"),
    ),
    Check(
        "2 operators without a Lease, 1 edit",
        build_settled(),
        Bounds(Budget(edits=1, takeovers=1)),
        Rules(old_runs=True),
    ),
    Check("own pods, each command", OWN_ONE, Bounds(Budget(edits=1, commands=1), "x")),
    Check("own pods, 2 edits across three workloads", OWN_ONE, Bounds(Budget(edits=2), "xz")),
)
"""On demand: `python -m tests.model --deep`. A lost record and a take-over together: see docs/reliability.md."""
