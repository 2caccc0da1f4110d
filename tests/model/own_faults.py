"""Wrong rules about canaries with pods of their own, for `own_mutants.py`."""

from dataclasses import replace

from tests.model.effects import Write
from tests.model.faults import Rule

from dspy_operator.manifests.owner import Manifest
from dspy_operator.rollout.actions import Decision, RemoveWorkload, Restamp
from dspy_operator.rollout.model import Observation, Phase, Rollout, Split
from dspy_operator.rollout.sizing import find_sizes
from dspy_operator.traffic.gateway_api import GatewayRouter
from dspy_operator.traffic.view import Obstacle, View

FULL = 100
_list_services = GatewayRouter.list_services
_describe_services = GatewayRouter._describe_services


def shrink_stable_at_full(replicas: int, rollout: Rollout, split: Split | None) -> dict[str, int]:
    """At 100 % stable's pods are not kept for a way back."""
    sizes = find_sizes(replicas, rollout, split)
    if split is not None and split.weight == FULL:
        sizes[rollout.origin.workload] = 1
    return sizes


def switch_early(router: GatewayRouter, view: View, split: Split) -> list[Manifest]:
    """At 100 % the role Service of stable gets the canary's pods at once."""
    if split.canary is None or split.weight < FULL:
        return _list_services(router, view, split)
    return _list_services(
        router, view, replace(split, stable=replace(split.stable, program=split.canary.program))
    )


def wait_for_nothing(*_: object) -> str:
    """The route is written whatever the Services select."""
    return ""


def ignore_endpoints(router: GatewayRouter, view: View, split: Split) -> str:
    """Selecting is as good as reaching."""
    return _describe_services(router, view, replace(split, leaving=()))


def nothing_is_in_the_way(*_: object) -> Obstacle | None:
    """The table alone counts."""
    return None


def stamp_the_table_first(routed: list[Write], table: Write) -> list[Write]:
    """The route's stamp is the second one."""
    return [table, *routed]


def stamp_as_it_is(rule: Rule) -> Rule:
    """A table that has to be lowered is stamped first."""

    def changed(seen: Observation) -> Decision | None:
        decision = rule(seen)
        if decision or seen.rollout is None or seen.table is None or seen.table.epoch >= seen.epoch:
            return decision
        return Decision("", "", action=Restamp())

    return changed


def drop_the_canary_in_the_bake(rule: Rule) -> Rule:
    """Its Deployment goes while everything is sent there."""

    def changed(seen: Observation) -> Decision | None:
        rollout = seen.rollout
        if rollout is None or rollout.record.phase is not Phase.BAKING or not seen.capacity.own.ready:
            return rule(seen)
        return Decision("", "", action=RemoveWorkload(rollout.to.workload))

    return changed


def replace_whatever_serves(rule: Rule) -> Rule:
    """A stable revision that serves is replaced without a trial."""
    return lambda seen: rule(replace(seen, capacity=replace(seen.capacity, ready_pods=0, down_for=1e6)))


def end_before_the_route(rule: Rule) -> Rule:
    """The table alone says that a rollback is done."""

    def changed(seen: Observation) -> Decision | None:
        return rule(replace(seen, table=replace(seen.table, intact=True)) if seen.table else seen)

    return changed
