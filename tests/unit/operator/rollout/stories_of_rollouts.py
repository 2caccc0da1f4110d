"""Stories of rollouts that nobody interferes with: their ends are the judge's, the spec's or the clock's."""

from collections.abc import Callable

from tests.unit.operator.rollout.plans import build_plan
from tests.unit.operator.rollout.telling import Teller

from dspy_operator.api.reasons import Reason
from dspy_operator.rollout.capacity import ArtifactState
from dspy_operator.rollout.judging import Mode, OnDeadline
from dspy_operator.rollout.model import Phase

STORIES: dict[str, Callable[[Teller], None]] = {}


def story(function: Callable[[Teller], None]) -> Callable[[Teller], None]:
    STORIES[function.__name__.replace("_", "-")] = function
    return function


@story
def the_first_revision_serves(teller: Teller) -> None:
    teller.say("revision a is applied")
    teller.settle()
    teller.wait(60)


@story
def a_good_artifact_is_promoted(teller: Teller) -> None:
    teller.start()
    teller.apply("b")
    teller.wait_for_the_end()
    teller.wait(30)


@story
def a_bad_artifact_is_rolled_back_and_stays_so(teller: Teller) -> None:
    teller.start()
    teller.world.scores["b"] = 0.6
    teller.apply("b")
    teller.wait_for_the_end()
    teller.say("the rejected revision is applied once more")
    teller.wait(600)


@story
def a_literal_rule_rolls_back_at_the_first_look(teller: Teller) -> None:
    teller.world.plan = build_plan(mode=Mode.THRESHOLD)
    teller.start()
    teller.world.scores["b"] = 0.75
    teller.apply("b")
    teller.wait_for_the_end()


@story
def it_gets_worse_while_it_bakes(teller: Teller) -> None:
    teller.start()
    teller.apply("b")
    teller.wait_for(Phase.BAKING)
    teller.world.scores["b"] = 0.4
    teller.say("revision b begins to answer badly")
    teller.wait_for_the_end()


@story
def a_third_revision_comes_in_the_first_step(teller: Teller) -> None:
    teller.start()
    teller.apply("b")
    teller.wait_for(Phase.STEPPING, 1, effective=True)
    teller.apply("c")
    teller.wait_until(lambda world: "c-1" in world.rollouts)
    teller.wait_for(Phase.STEPPING, 1)


@story
def a_third_revision_comes_while_baking(teller: Teller) -> None:
    teller.start()
    teller.apply("b")
    teller.wait_for(Phase.BAKING)
    teller.apply("c")
    teller.wait_until(lambda world: "c-1" in world.rollouts)
    teller.wait_for(Phase.STEPPING, 1)


@story
def a_third_revision_queues(teller: Teller) -> None:
    teller.world.queue = True
    teller.start()
    teller.apply("b")
    teller.wait_for(Phase.STEPPING, 2)
    teller.apply("c")
    teller.wait_until(lambda world: "c-1" in world.rollouts)
    teller.wait_for(Phase.STEPPING, 1)


@story
def a_third_revision_does_not_queue_behind_a_program_that_is_gone(teller: Teller) -> None:
    teller.world.queue = True
    teller.start()
    teller.apply("b")
    teller.wait_until(lambda world: world.deployment.pointer is not None)
    teller.apply("c")
    teller.wait_until(lambda world: "c-1" in world.rollouts)
    teller.wait_for(Phase.STEPPING, 1)


@story
def the_spec_goes_back_to_stable(teller: Teller) -> None:
    teller.start()
    teller.apply("b")
    teller.wait_for(Phase.STEPPING, 2, effective=True)
    teller.apply("a")
    teller.wait_for_the_end()
    teller.wait(60)


@story
def going_back_within_the_window_is_fast(teller: Teller) -> None:
    teller.start()
    teller.apply("b")
    teller.wait_for_the_end()
    teller.apply("a")
    teller.wait_for(Phase.PREPARING)
    teller.wait_for_the_end()


@story
def old_attempts_and_programs_go(teller: Teller) -> None:
    teller.world.limit = 2
    teller.start()
    for letter in "bcd":
        teller.apply(letter)
        teller.wait_for_the_end()
    teller.world.scores["e"] = 0.5
    teller.apply("e")
    teller.wait_for_the_end()
    teller.apply("d")
    teller.wait(60)


@story
def the_artifact_comes_late(teller: Teller) -> None:
    teller.start()
    teller.world.artifacts["b"] = ArtifactState.MISSING
    teller.apply("b")
    teller.wait(30)
    del teller.world.artifacts["b"]
    teller.say("the ConfigMap is there")
    teller.wait_for(Phase.STEPPING, 1)


@story
def the_artifact_has_another_digest(teller: Teller) -> None:
    teller.start()
    teller.world.artifacts["b"] = ArtifactState.MISMATCH
    teller.apply("b")
    teller.wait(60)


@story
def the_artifact_is_refused(teller: Teller) -> None:
    teller.start()
    teller.world.refused["b" * 64] = (Reason.ARTIFACT_REFUSED, "the artifact is no program")
    teller.apply("b")
    teller.wait_for_the_end()
    teller.wait(60)


@story
def the_artifact_has_another_signature(teller: Teller) -> None:
    teller.start()
    teller.world.refused["b" * 64] = (Reason.SIGNATURE_MISMATCH, "it does not fit the module's signature")
    teller.apply("b")
    teller.wait_for_the_end()


@story
def the_pods_never_load_it(teller: Teller) -> None:
    teller.world.plan = build_plan(ready_deadline=120)
    teller.start()
    teller.world.endless.add("b" * 64)
    teller.apply("b")
    teller.wait_for_the_end()


@story
def a_pod_loses_it_while_promoting(teller: Teller) -> None:
    teller.world.plan = build_plan(ready_deadline=120)
    teller.start()
    teller.apply("b")
    teller.wait_for(Phase.PROMOTING)
    teller.world.endless.add("b" * 64)
    teller.say("a new pod does not load revision b")
    teller.wait_for_the_end()


@story
def slow_pods_are_waited_for(teller: Teller) -> None:
    teller.start()
    teller.world.lag = 45
    teller.apply("b")
    teller.wait_for(Phase.STEPPING, 1)
    teller.wait_for_the_end()


@story
def nobody_asks_anything(teller: Teller) -> None:
    teller.start()
    teller.world.requests = 0.0
    teller.apply("b")
    teller.wait(5400)


def _let_the_deadline_pass(teller: Teller, policy: OnDeadline) -> None:
    teller.world.plan = build_plan(on_deadline=policy)
    teller.start()
    teller.apply("b")
    teller.wait_for(Phase.STEPPING, 1, effective=True)
    teller.world.prometheus = False
    teller.say("Prometheus goes away")
    teller.wait(4000)
    teller.world.prometheus = True
    teller.say("Prometheus is back")
    teller.wait(600)


@story
def prometheus_is_away_and_the_deadline_asks_it(teller: Teller) -> None:
    _let_the_deadline_pass(teller, OnDeadline.THRESHOLD)


@story
def prometheus_is_away_and_the_deadline_holds(teller: Teller) -> None:
    _let_the_deadline_pass(teller, OnDeadline.HOLD)


@story
def prometheus_is_away_and_the_deadline_promotes(teller: Teller) -> None:
    _let_the_deadline_pass(teller, OnDeadline.PROMOTE)


@story
def prometheus_is_away_and_the_deadline_rolls_back(teller: Teller) -> None:
    _let_the_deadline_pass(teller, OnDeadline.ROLLBACK)
