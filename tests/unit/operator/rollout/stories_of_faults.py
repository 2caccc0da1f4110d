"""Stories of things that vanish or change by hand, and of operators that come and go."""

from collections.abc import Callable
from dataclasses import replace

from tests.unit.operator.rollout.plans import build_plan
from tests.unit.operator.rollout.telling import Teller

from dspy_operator.api.names import Command
from dspy_operator.api.reasons import Reason
from dspy_operator.rollout.capacity import ArtifactState
from dspy_operator.rollout.model import DeploymentRecord, Phase, Refusal, RolloutRecord, Split

STORIES: dict[str, Callable[[Teller], None]] = {}


def story(function: Callable[[Teller], None]) -> Callable[[Teller], None]:
    STORIES[function.__name__.replace("_", "-")] = function
    return function


def _begin(teller: Teller, step: int = 1) -> None:
    teller.start()
    teller.apply("b")
    teller.wait_for(Phase.STEPPING, step, effective=True)


@story
def the_attempt_is_deleted(teller: Teller) -> None:
    _begin(teller, 2)
    teller.world.rollouts.clear()
    teller.say("somebody deletes the attempt's record")
    teller.wait_for_the_end()
    teller.wait(60)


@story
def the_attempts_status_is_wiped(teller: Teller) -> None:
    _begin(teller, 2)
    rollout = teller.world.rollouts["b-1"]
    teller.world.rollouts["b-1"] = replace(rollout, record=RolloutRecord())
    teller.say("somebody wipes the attempt's status")
    teller.wait_for_the_end()


@story
def the_attempts_status_says_promoted(teller: Teller) -> None:
    _begin(teller)
    rollout = teller.world.rollouts["b-1"]
    forged = replace(rollout.record, phase=Phase.PROMOTED, outcome=Phase.PROMOTED, weight=100)
    teller.world.rollouts["b-1"] = replace(rollout, record=forged)
    teller.say("somebody writes `phase: Promoted` into the attempt's status")
    teller.wait_for_the_end()


@story
def the_deployments_status_is_wiped(teller: Teller) -> None:
    teller.start()
    teller.world.scores["b"] = 0.6
    teller.apply("b")
    teller.wait_for_the_end()
    teller.world.deployment = DeploymentRecord()
    teller.say("somebody wipes the deployment's status")
    teller.wait(60)


@story
def the_deployments_status_is_wiped_in_mid_rollout(teller: Teller) -> None:
    _begin(teller, 2)
    teller.world.deployment = DeploymentRecord()
    teller.say("somebody wipes the deployment's status")
    teller.wait(900)


@story
def a_deleted_record_does_not_spoil_the_retry(teller: Teller) -> None:
    teller.start()
    teller.world.scores["b"] = 0.6
    teller.apply("b")
    teller.wait_for(Phase.STEPPING, 1, effective=True)
    teller.order(Command.ABORT)
    teller.wait_for_the_end()
    teller.world.rollouts.clear()
    teller.say("somebody deletes the record of the attempt that is over")
    teller.world.scores["b"] = 0.8
    teller.order(Command.RETRY)
    teller.wait_until(lambda world: bool(world.rollouts))
    teller.wait_for_the_end()


@story
def the_table_is_deleted(teller: Teller) -> None:
    _begin(teller)
    teller.world.table = None
    teller.say("somebody deletes the routing table")
    teller.wait(30)


@story
def the_table_is_deleted_while_prometheus_is_away(teller: Teller) -> None:
    _begin(teller)
    teller.world.prometheus = False
    teller.world.table = None
    teller.say("somebody deletes the routing table; Prometheus is away")
    teller.wait(30)
    teller.world.prometheus = True
    teller.say("Prometheus is back")
    teller.wait(30)


@story
def the_table_is_edited(teller: Teller) -> None:
    _begin(teller)
    table = teller.world.table
    assert table is not None
    assert table.split.canary is not None
    shares = replace(table.split.stable, weight=0), replace(table.split.canary, weight=100)
    teller.world.table = replace(table, split=Split(*shares))
    teller.world.generation += 1
    teller.say("somebody sends everything to the canary by hand")
    teller.wait(30)


@story
def a_slot_is_deleted(teller: Teller) -> None:
    _begin(teller)
    teller.world.slots[1] = ""
    teller.world.drifted.add("program slot 1")
    teller.say("somebody deletes the canary's program slot")
    teller.wait(30)


@story
def the_record_of_stable_is_deleted(teller: Teller) -> None:
    teller.start()
    teller.world.scores["b"] = 0.6
    teller.apply("b")
    teller.wait_for(Phase.STEPPING, 1)
    del teller.world.revisions["a"]
    teller.say("somebody deletes the ControllerRevision of stable")
    teller.wait_for_the_end()
    del teller.world.revisions["a"]
    teller.say("and again, where the spec asks for what is rejected")
    teller.wait(30)


@story
def the_only_record_of_stables_workload_is_deleted(teller: Teller) -> None:
    teller.start()
    teller.world.paused = True
    teller.apply("b", "w2")
    del teller.world.revisions["a"]
    teller.say("somebody deletes the ControllerRevision of stable, the only one of its workload")
    teller.wait(60)
    teller.apply("a")
    teller.wait(30)
    teller.world.paused = False
    teller.apply("b", "w2")
    teller.wait(30)


@story
def the_record_of_the_canary_is_deleted(teller: Teller) -> None:
    _begin(teller)
    del teller.world.revisions["b"]
    teller.say("somebody deletes the ControllerRevision of the canary")
    teller.wait_for_the_end()


@story
def a_new_operator_takes_over(teller: Teller) -> None:
    _begin(teller)
    teller.world.epoch = 2
    teller.world.forget()
    teller.say("another operator takes over")
    teller.wait_for(Phase.STEPPING, 2)


@story
def the_spec_cannot_be_read_for_a_while(teller: Teller) -> None:
    _begin(teller)
    teller.world.target = Refusal(Reason.INVALID_SPEC, "spec.program.module: no such thing")
    teller.say("the spec is spoiled")
    teller.wait(600)
    teller.apply("b")
    teller.wait_for(Phase.STEPPING, 2)


@story
def another_operator_version_wrote_the_record(teller: Teller) -> None:
    _begin(teller)
    teller.world.rollouts["b-1"] = replace(teller.world.rollouts["b-1"], known=False)
    teller.say("the operator is replaced by one that does not know the phase")
    teller.wait(60)


@story
def prometheus_is_away_for_a_while(teller: Teller) -> None:
    _begin(teller)
    teller.world.prometheus = False
    teller.say("Prometheus goes away")
    teller.wait(300)
    teller.world.prometheus = True
    teller.say("Prometheus is back")
    teller.wait_for_the_end()


@story
def prometheus_goes_away_while_promoting(teller: Teller) -> None:
    teller.start()
    teller.apply("b")
    teller.wait_for(Phase.PROMOTING)
    teller.world.prometheus = False
    teller.say("Prometheus goes away")
    teller.wait(900)
    teller.world.prometheus = True
    teller.say("Prometheus is back")
    teller.wait_for_the_end()


@story
def an_opening_is_interrupted_by_the_spec(teller: Teller) -> None:
    teller.start()
    teller.apply("b")
    teller.make_pass()
    teller.apply("a")
    teller.wait(30)


@story
def an_opening_is_interrupted_by_a_rejected_spec(teller: Teller) -> None:
    teller.start()
    teller.world.scores["b"] = 0.5
    teller.apply("b")
    teller.wait_for_the_end()
    teller.apply("c")
    teller.wait_until(lambda world: "c-1" in world.rollouts)
    teller.apply("b")
    teller.wait(30)


@story
def an_opening_is_overtaken_by_another_revision(teller: Teller) -> None:
    teller.start()
    teller.apply("b")
    teller.make_pass()
    teller.apply("c")
    teller.wait_for(Phase.STEPPING, 1)


@story
def the_artifact_is_deleted_before_it_was_copied(teller: Teller) -> None:
    teller.start()
    teller.apply("b")
    teller.wait_until(lambda world: world.deployment.pointer is not None)
    teller.world.artifacts["b"] = ArtifactState.MISSING
    teller.say("somebody deletes the ConfigMap of the artifact")
    teller.wait(300)
    teller.world.artifacts["b"] = ArtifactState.READY
    teller.say("it is back")
    teller.wait_for(Phase.STEPPING, 1)


@story
def where_the_program_lies_nobody_answers_for_a_while(teller: Teller) -> None:
    teller.start()
    teller.world.awaited.add("b" * 64)
    teller.say("the store of programs is away")
    teller.apply("b")
    teller.wait(300)
    teller.world.awaited.clear()
    teller.say("it is back")
    teller.wait_for(Phase.STEPPING, 1)


@story
def where_the_program_lies_nobody_answers_any_more(teller: Teller) -> None:
    teller.world.plan = build_plan(ready_deadline=120)
    teller.start()
    teller.world.awaited.add("b" * 64)
    teller.say("the store of programs is away")
    teller.apply("b")
    teller.wait_for_the_end()
