"""Stories of the regression gate: examples before any traffic, for an attempt and for the first revision."""

from collections.abc import Callable

from tests.unit.operator.rollout.plans import build_plan
from tests.unit.operator.rollout.telling import Teller

from dspy_operator.api.names import Command
from dspy_operator.rollout.capacity import GateState
from dspy_operator.rollout.model import Phase

STORIES: dict[str, Callable[[Teller], None]] = {}
WORSE = (GateState.FAILED, "drop 17.5% of at most 2.0%, p 0.0001, on 200 examples")
BELOW = (GateState.FAILED, "mean 0.610 is below 0.7 on 200 examples")
NOTHING = (GateState.NO_VERDICT, "no model answered for 200 of 200 examples of 200: nothing is known")


def story(function: Callable[[Teller], None]) -> Callable[[Teller], None]:
    STORIES[function.__name__.replace("_", "-")] = function
    return function


def _begin(teller: Teller) -> None:
    teller.world.plan = build_plan(gate_deadline=300.0)
    teller.start()


def _reach_the_gate(teller: Teller) -> None:
    _begin(teller)
    teller.apply("b")
    teller.wait_for(Phase.REGRESSION)


@story
def the_examples_say_yes(teller: Teller) -> None:
    _begin(teller)
    teller.apply("b")
    teller.wait_for_the_end()


@story
def the_examples_say_no(teller: Teller) -> None:
    _begin(teller)
    teller.world.runs.says["b"] = (WORSE,)
    teller.apply("b")
    teller.wait_for_the_end()
    teller.wait(60)


@story
def the_models_are_away_while_the_examples_are_asked(teller: Teller) -> None:
    _begin(teller)
    teller.world.runs.says["b"] = (NOTHING, NOTHING, (GateState.PASSED, "drop 0.4% of at most 2.0%"))
    teller.apply("b")
    teller.wait_for(Phase.STEPPING, 1)


@story
def the_examples_never_give_a_verdict(teller: Teller) -> None:
    _begin(teller)
    teller.world.runs.says["b"] = (NOTHING,)
    teller.apply("b")
    teller.wait_for_the_end()
    teller.say("the models are back")
    teller.world.runs.says.clear()
    teller.order(Command.RETRY)
    teller.wait_for(Phase.STEPPING, 1)


@story
def a_person_skips_the_examples(teller: Teller) -> None:
    _reach_the_gate(teller)
    teller.order(Command.PROMOTE)
    teller.wait_for(Phase.STEPPING, 1)


@story
def an_abort_while_the_examples_are_asked(teller: Teller) -> None:
    _reach_the_gate(teller)
    teller.settle()
    teller.order(Command.ABORT)
    teller.wait_for_the_end()
    assert teller.world.runs.jobs == {}


@story
def a_pause_while_the_examples_are_asked(teller: Teller) -> None:
    _reach_the_gate(teller)
    teller.order(Command.PAUSE)
    teller.wait(400)
    teller.order(Command.RESUME)
    teller.wait_for(Phase.STEPPING, 1)


@story
def the_pods_are_gone_when_the_examples_say_yes(teller: Teller) -> None:
    _reach_the_gate(teller)
    teller.settle()
    teller.world.ready = 0
    teller.say("all pods are gone")
    teller.wait(60)
    teller.world.ready = 2
    teller.say("and come back")
    teller.wait_for(Phase.STEPPING, 1)


@story
def going_back_skips_the_examples(teller: Teller) -> None:
    _begin(teller)
    teller.apply("b")
    teller.wait_for_the_end()
    teller.world.runs.says["a"] = (WORSE,)
    teller.apply("a")
    teller.wait_for_the_end()


@story
def the_first_revision_reaches_its_floor(teller: Teller) -> None:
    teller.world.is_gated = True
    teller.world.runs.says["a"] = (NOTHING, (GateState.PASSED, "mean 0.810 on 200 examples"))
    teller.apply("a")
    teller.wait(120)
    assert teller.world.deployment.stable is not None


@story
def the_first_revision_misses_its_floor(teller: Teller) -> None:
    teller.world.is_gated = True
    teller.world.runs.says["a"] = (BELOW,)
    teller.apply("a")
    teller.wait(120)
    assert teller.world.deployment.stable is None
    teller.world.runs.says.clear()
    teller.order(Command.RETRY)
    teller.wait(60)
    assert teller.world.deployment.stable is not None
