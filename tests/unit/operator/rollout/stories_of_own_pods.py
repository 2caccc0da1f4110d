"""Stories of canaries with pods of their own: another image, behind a gateway or by replica counts, and blue-green."""

from collections.abc import Callable

from tests.unit.operator.rollout.plans import build_plan
from tests.unit.operator.rollout.telling import Teller

from dspy_operator.api.choices import Approximation, Router
from dspy_operator.api.names import Command
from dspy_operator.rollout.model import Phase
from dspy_operator.rollout.sizing import describe_unreachable
from dspy_operator.rollout.strategy import Preview, Routing

STORIES: dict[str, Callable[[Teller], None]] = {}
GATEWAY = Routing(Router.GATEWAY)
REPLICAS = Routing(Router.REPLICAS)


def story(function: Callable[[Teller], None]) -> Callable[[Teller], None]:
    STORIES[function.__name__.replace("_", "-")] = function
    return function


def start(teller: Teller, routing: Routing = GATEWAY, replicas: int = 10) -> None:
    """A first revision that serves from so many pods."""
    teller.world.ready = replicas
    teller.world.plan = build_plan(routing=routing)
    teller.start()


@story
def a_new_image_is_promoted_behind_a_gateway(teller: Teller) -> None:
    start(teller)
    teller.apply("b", "w2")
    teller.wait_for_the_end()
    teller.wait(60)


@story
def a_new_image_is_promoted_by_replica_counts(teller: Teller) -> None:
    start(teller, REPLICAS)
    teller.apply("b", "w2")
    teller.wait_for_the_end()
    teller.wait(60)


@story
def a_worse_image_is_rolled_back(teller: Teller) -> None:
    start(teller)
    teller.world.scores["b-w2"] = 0.5
    teller.apply("b", "w2")
    teller.wait_for_the_end()
    teller.wait(60)


@story
def after_a_new_image_an_artifact_shares_its_pods(teller: Teller) -> None:
    start(teller)
    teller.apply("b", "w2")
    teller.wait_for_the_end()
    teller.wait(60)
    teller.apply("c", "w2")
    teller.wait_for_the_end()


@story
def an_artifact_gets_pods_of_its_own_when_isolated(teller: Teller) -> None:
    start(teller)
    teller.world.isolated = True
    teller.apply("b")
    teller.wait_for_the_end()
    teller.wait(60)
    teller.world.isolated = False
    teller.say("isolation is Auto again")
    teller.apply("c")
    teller.wait_for_the_end()


@story
def an_undo_brings_the_pods_before_back(teller: Teller) -> None:
    start(teller)
    teller.apply("b", "w2")
    teller.wait_for_the_end()
    teller.wait(60)
    teller.order(Command.UNDO)
    teller.wait_for_the_end()
    teller.wait(60)


@story
def the_canarys_pods_never_get_ready(teller: Teller) -> None:
    start(teller)
    teller.world.broken_workloads.add("w2")
    teller.apply("b", "w2")
    teller.wait_for_the_end()
    teller.wait(60)


@story
def the_canarys_pods_die_at_50_percent(teller: Teller) -> None:
    start(teller)
    teller.apply("b", "w2")
    teller.wait_for(Phase.STEPPING, 2, effective=True)
    teller.world.broken_workloads.add("w2")
    teller.say("all pods of the canary die")
    teller.wait_for_the_end()
    teller.wait(60)


@story
def more_pods_of_the_canary_cannot_be_made(teller: Teller) -> None:
    start(teller)
    teller.apply("b", "w2")
    teller.wait_for(Phase.STEPPING, 1, effective=True)
    teller.world.most_own = 1
    teller.say("no more than one pod of the canary can be made")
    teller.wait_for_the_end()
    teller.wait(60)


@story
def the_quota_denies_the_canary(teller: Teller) -> None:
    start(teller)
    teller.world.broken_workloads.add("w2")
    teller.world.denied_own = 'pods "x" is forbidden: exceeded quota'
    teller.apply("b", "w2")
    teller.wait_for_the_end()
    teller.wait(60)


@story
def the_gateway_does_not_follow(teller: Teller) -> None:
    start(teller)
    teller.apply("b", "w2")
    teller.wait_for(Phase.STEPPING, 1, effective=True)
    teller.world.followed = teller.world.generation
    teller.say("the gateway's controller is gone")
    teller.wait_for_the_end()
    teller.world.followed = None
    teller.say("the gateway's controller is back")
    teller.wait(60)


@story
def the_numbers_of_pods_cannot_come_near_the_weight(teller: Teller) -> None:
    start(teller, REPLICAS, replicas=2)
    teller.world.unreachable = describe_unreachable(2, (10, 50, 100), REPLICAS)
    teller.apply("b", "w2")
    teller.wait(60)
    teller.world.plan = build_plan(routing=Routing(Router.REPLICAS, approximation=Approximation.ALLOW))
    teller.world.unreachable = ""
    teller.say("spec.traffic.approximation is Allow")
    teller.wait_for(Phase.STEPPING, 2, effective=True)


@story
def replicas_change_in_mid_rollout(teller: Teller) -> None:
    start(teller, REPLICAS)
    teller.apply("b", "w2")
    teller.wait_for(Phase.STEPPING, 2, effective=True)
    for replicas in (4, 1, 0, 6):
        teller.world.ready = replicas
        teller.say(f"spec.replicas is {replicas}")
        teller.settle()
    teller.wait_for_the_end()


@story
def nothing_serves_and_a_new_image_helps(teller: Teller) -> None:
    start(teller)
    teller.world.broken_workloads.add("w1")
    teller.say("all pods of stable die")
    teller.apply("b", "w2")
    teller.wait(120)


@story
def a_blue_green_image_is_previewed_and_promoted(teller: Teller) -> None:
    teller.world.ready = 4
    teller.world.plan = build_plan(weights=(100,), manual=(False,), routing=GATEWAY, preview=Preview(120.0))
    teller.start()
    teller.apply("b", "w2")
    teller.wait_for_the_end()
    teller.wait(60)


@story
def a_blue_green_artifact_waits_for_a_person(teller: Teller) -> None:
    teller.world.plan = build_plan(
        weights=(100,), manual=(False,), preview=Preview(120.0, auto_promote=False)
    )
    teller.start()
    teller.apply("b")
    teller.wait_for(Phase.STEPPING, 0)
    teller.wait(300)
    teller.order(Command.PROMOTE)
    teller.wait_for_the_end()


@story
def a_blue_green_preview_is_aborted(teller: Teller) -> None:
    teller.world.plan = build_plan(weights=(100,), manual=(False,), routing=GATEWAY, preview=Preview(120.0))
    teller.start()
    teller.apply("b", "w2")
    teller.wait_for(Phase.STEPPING, 0)
    teller.order(Command.ABORT)
    teller.wait_for_the_end()
    teller.wait(60)


@story
def a_blue_green_image_is_worse_than_thought(teller: Teller) -> None:
    teller.world.ready = 4
    teller.world.plan = build_plan(
        weights=(100,), manual=(False,), routing=GATEWAY, preview=Preview(120.0), bake=600.0
    )
    teller.start()
    teller.world.scores["b-w2"] = 0.5
    teller.apply("b", "w2")
    teller.wait_for_the_end()
    teller.wait(60)
