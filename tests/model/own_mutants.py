"""Faults made by hand about canaries with pods of their own; `mutants.py` has the others and finds both."""

from tests.model import effects, network
from tests.model.checker import Rules
from tests.model.events import Bounds, Budget
from tests.model.faults import Patch, instead, no, nothing, replaced, without, yes
from tests.model.mutant import Mutant
from tests.model.own_faults import (
    drop_the_canary_in_the_bake,
    end_before_the_route,
    ignore_endpoints,
    nothing_is_in_the_way,
    replace_whatever_serves,
    shrink_stable_at_full,
    stamp_as_it_is,
    stamp_the_table_first,
    switch_early,
    wait_for_nothing,
)
from tests.model.worlds import OWN_ONE, Check

from dspy_operator.rollout import idle, protect, world
from dspy_operator.traffic.gateway_api import GatewayRouter

ONE = Check("one edit, own pods", OWN_ONE, Bounds(Budget(edits=1), "x"))
DEATH = Check("dead pods", OWN_ONE, Bounds(Budget(edits=1, deaths=1), "x"))
OUTAGE = Check("nothing serves", OWN_ONE, Bounds(Budget(edits=1, outages=1), "x"))
TAKEOVER = Check("a take-over, own pods", OWN_ONE, Bounds(Budget(edits=1, takeovers=1), "x"))


def _routed(name: str, by: object) -> Patch:
    return replaced((GatewayRouter, name), by=by)


OWN_MUTANTS = (
    Mutant("own pods: free without confirmation", replaced((idle, "is_settled"), by=yes), "W6", 36, ONE),
    Mutant("a raise before own pods are there", replaced((world, "is_canary_ready"), by=yes), "S2", 39, ONE),
    Mutant(
        "stable's pods go in the bake",
        replaced((network, "find_sizes"), by=shrink_stable_at_full),
        "S3",
        48,
        ONE,
    ),
    Mutant(
        "the canary's pods go in the bake",
        instead("the_gate_is_open", drop_the_canary_in_the_bake),
        "W6",
        52,
        ONE,
    ),
    Mutant("ignore dead pods", without("its_pods_are_dead"), "L3", 0, DEATH),
    Mutant("never repair children", without("a_child_differs"), "L1", 0, ONE),
    Mutant("a role Service switched with weight", _routed("list_services", switch_early), "S6", 48, ONE),
    Mutant("the route before stable's Service", _routed("_describe_wait", wait_for_nothing), "S2", 57, ONE),
    Mutant("pods go before endpoints do", _routed("_describe_services", ignore_endpoints), "W6", 21, OUTAGE),
    Mutant("the gateway is not asked", _routed("find_obstacle", nothing_is_in_the_way), "W6", 39, ONE),
    Mutant("an end before the route", instead("it_is_rolling_back", end_before_the_route), "S7", 30, ONE),
    Mutant("own pods: blind is late", replaced((protect, "_is_blind"), by=no), "S16", 28, ONE),
    Mutant("replace what serves", instead("nothing_serves", replace_whatever_serves), "S8", 6, ONE),
    Mutant("Services bound to nothing", nothing, "S6", 44, TAKEOVER, Rules(unbound=("service",))),
    Mutant("the route bound to nothing", nothing, "S7", 36, TAKEOVER, Rules(unbound=("route",))),
    Mutant(
        "the route stamped after the table",
        replaced((effects, "order_stamps"), by=stamp_the_table_first),
        "S7",
        33,
        TAKEOVER,
    ),
    Mutant("stamp a table as it is", instead("the_epoch_is_new", stamp_as_it_is), "S7", 32, TAKEOVER),
)
