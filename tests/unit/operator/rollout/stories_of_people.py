"""Stories of people who give commands and approvals."""

from collections.abc import Callable

from tests.unit.operator.rollout.plans import build_plan
from tests.unit.operator.rollout.telling import Teller

from dspy_operator.api.names import Command
from dspy_operator.rollout.judging import OnDeadline
from dspy_operator.rollout.model import Phase

STORIES: dict[str, Callable[[Teller], None]] = {}


def story(function: Callable[[Teller], None]) -> Callable[[Teller], None]:
    STORIES[function.__name__.replace("_", "-")] = function
    return function


@story
def a_step_waits_for_approval(teller: Teller) -> None:
    teller.world.plan = build_plan(manual=(False, True, False))
    teller.start()
    teller.apply("b")
    teller.wait_until(lambda world: bool((r := world.find_rollout()) and r.record.awaiting))
    teller.wait(5400)
    teller.order(Command.PROMOTE)
    teller.wait_for_the_end()


@story
def somebody_aborts(teller: Teller) -> None:
    teller.start()
    teller.apply("b")
    teller.wait_for(Phase.STEPPING, 2, effective=True)
    teller.order(Command.ABORT)
    teller.wait_for_the_end()
    teller.wait(60)


@story
def a_retry_starts_afresh(teller: Teller) -> None:
    teller.start()
    teller.world.scores["b"] = 0.6
    teller.apply("b")
    teller.wait_for_the_end()
    teller.wait(60)
    teller.world.scores["b"] = 0.8
    teller.order(Command.RETRY)
    teller.wait_until(lambda world: "b-2" in world.rollouts)
    teller.wait_for_the_end()


@story
def an_undo_goes_back_at_once(teller: Teller) -> None:
    teller.start()
    teller.apply("b")
    teller.wait_for_the_end()
    teller.wait(60)
    teller.order(Command.UNDO)
    teller.wait_for(Phase.PREPARING)
    teller.wait_for_the_end()
    teller.say("the spec still asks for revision b")
    teller.wait(60)


@story
def an_undo_in_mid_rollout_is_an_abort(teller: Teller) -> None:
    teller.start()
    teller.apply("b")
    teller.wait_for_the_end()
    teller.apply("c")
    teller.wait_for(Phase.STEPPING, 1)
    teller.order(Command.UNDO)
    teller.wait_for_the_end()
    teller.wait(60)


@story
def an_undo_while_prometheus_is_away(teller: Teller) -> None:
    teller.start()
    teller.apply("b")
    teller.wait_for_the_end()
    teller.wait(60)
    teller.world.prometheus = False
    teller.say("Prometheus goes away")
    teller.order(Command.UNDO)
    teller.wait_for(Phase.PREPARING)
    teller.wait_for_the_end()


@story
def there_is_nothing_to_undo(teller: Teller) -> None:
    teller.start()
    teller.order(Command.UNDO)
    teller.wait(30)


@story
def somebody_pauses_and_resumes(teller: Teller) -> None:
    teller.start()
    teller.apply("b")
    teller.wait_for(Phase.STEPPING, 1, effective=True)
    teller.order(Command.PAUSE)
    teller.wait(5400)
    teller.order(Command.RESUME)
    teller.wait_for_the_end()


@story
def no_deadline_runs_while_paused(teller: Teller) -> None:
    teller.world.plan = build_plan(on_deadline=OnDeadline.ROLLBACK)
    teller.start()
    teller.apply("b")
    teller.wait_for(Phase.STEPPING, 1, effective=True)
    teller.order(Command.PAUSE)
    teller.world.requests = 0.0
    teller.say("nobody asks anything for a while")
    teller.wait(5400)
    teller.world.requests = 100.0
    teller.say("people ask again")
    teller.order(Command.RESUME)
    teller.wait_for_the_end()


@story
def the_spec_is_paused_and_a_resume_does_not_help(teller: Teller) -> None:
    teller.start()
    teller.apply("b")
    teller.wait_for(Phase.STEPPING, 1, effective=True)
    teller.world.paused = True
    teller.say("spec.paused is set")
    teller.wait(300)
    teller.order(Command.RESUME)
    teller.wait(300)
    teller.world.paused = False
    teller.say("spec.paused is cleared")
    teller.wait_for(Phase.STEPPING, 2)


@story
def it_turns_bad_while_paused(teller: Teller) -> None:
    teller.start()
    teller.apply("b")
    teller.wait_for(Phase.STEPPING, 1, effective=True)
    teller.order(Command.PAUSE)
    teller.settle()
    teller.world.scores["b"] = 0.3
    teller.say("revision b begins to answer badly")
    teller.wait_for_the_end()


@story
def it_turns_bad_while_paused_on_the_way_to_100(teller: Teller) -> None:
    teller.start()
    teller.apply("b")
    teller.wait_for(Phase.PROMOTING)
    teller.order(Command.PAUSE)
    teller.wait(20)
    teller.world.scores["b"] = 0.3
    teller.say("revision b begins to answer badly")
    teller.wait_for_the_end()


@story
def somebody_pauses_on_the_way_to_100_and_resumes(teller: Teller) -> None:
    teller.start()
    teller.apply("b")
    teller.wait_for(Phase.PROMOTING)
    teller.order(Command.PAUSE)
    teller.wait(600)
    teller.order(Command.RESUME)
    teller.wait_for_the_end()


@story
def a_paused_deployment_opens_nothing(teller: Teller) -> None:
    teller.start()
    teller.order(Command.PAUSE)
    teller.settle()
    teller.apply("b")
    teller.wait(600)
    teller.order(Command.RESUME)
    teller.wait_for(Phase.STEPPING, 1)


@story
def a_person_promotes_step_by_step(teller: Teller) -> None:
    teller.start()
    teller.apply("b")
    teller.wait_for(Phase.STEPPING, 1, effective=True)
    teller.order(Command.PROMOTE)
    teller.wait_for(Phase.STEPPING, 2, effective=True)
    teller.world.now += 1
    teller.order(Command.PROMOTE)
    teller.wait_for(Phase.BAKING)
    teller.world.now += 1
    teller.order(Command.PROMOTE)
    teller.wait_for_the_end()


@story
def a_person_promotes_in_full(teller: Teller) -> None:
    teller.start()
    teller.apply("b")
    teller.wait_for(Phase.STEPPING, 1, effective=True)
    teller.order(Command.PROMOTE_FULL)
    teller.wait_for_the_end()
