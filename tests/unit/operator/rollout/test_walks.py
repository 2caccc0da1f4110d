"""Random walks: whatever happens in whatever order, the safety rules hold and the world comes to rest.

Each pass of a walk is checked by `invariants.Watch`; `decide` must have an answer to everything that it sees.
"""

from collections.abc import Callable
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.operator.rollout.plans import build_plan, build_program
from tests.unit.operator.rollout.runs import PASSED
from tests.unit.operator.rollout.telling import Teller, is_write

from dspy_operator.api.names import Command
from dspy_operator.api.reasons import Reason
from dspy_operator.rollout.capacity import ArtifactState, GateState
from dspy_operator.rollout.judging import Mode, OnDeadline
from dspy_operator.rollout.model import DeploymentRecord, Plan, Refusal, RolloutRecord, Split

Event = Callable[[Teller], None]
MOST_ROUNDS = 400


def ask_for(letter: str, workload: str = "w1") -> Event:
    return lambda teller: teller.apply(letter, workload)


def give(command: Command) -> Event:
    def happen(teller: Teller) -> None:
        teller.world.now += 0.001
        teller.order(command)

    return happen


def score(letter: str, mean: float) -> Event:
    return lambda teller: teller.world.scores.update({letter: mean})


def wait(seconds: float) -> Event:
    return lambda teller: teller.wait(seconds)


def make_pass(teller: Teller) -> None:
    teller.make_pass()


def make_three_passes(teller: Teller) -> None:
    for _ in range(3):
        teller.make_pass()


def be_killed(teller: Teller) -> None:
    teller.world.make_pass(kill=True)


def take_over(teller: Teller) -> None:
    teller.world.epoch += 1
    teller.world.forget()


def switch_prometheus(teller: Teller) -> None:
    teller.world.prometheus = not teller.world.prometheus


def switch_pause(teller: Teller) -> None:
    teller.world.paused = not teller.world.paused


def spoil_the_spec(teller: Teller) -> None:
    teller.world.target = Refusal(Reason.INVALID_SPEC, "spec: nonsense")


def hide_the_artifact(teller: Teller) -> None:
    world = teller.world
    if not isinstance(world.target, Refusal):
        state = world.artifacts.get(world.target.revision, ArtifactState.READY)
        hidden = ArtifactState.MISSING if state is ArtifactState.READY else ArtifactState.READY
        world.artifacts[world.target.revision] = hidden


def refuse(letter: str) -> Event:
    reason = (Reason.ARTIFACT_REFUSED, "no program")
    return lambda teller: teller.world.refused.update({letter * 64: reason})


def accept_all(teller: Teller) -> None:
    teller.world.refused.clear()


def delete_table(teller: Teller) -> None:
    teller.world.table = None


def edit_table(teller: Teller) -> None:
    """By hand: everything goes to the canary, else something that is no share changes."""
    table = teller.world.table
    if table is None or table.split.canary is None:
        teller.world.table = replace(table, intact=False) if table else None
        return
    shares = replace(table.split.stable, weight=0), replace(table.split.canary, weight=100)
    teller.world.table = replace(table, split=Split(*shares))


def delete_slot(slot: int) -> Event:
    def happen(teller: Teller) -> None:
        teller.world.slots[slot] = ""
        teller.world.drifted.add(f"program slot {slot}")

    return happen


def delete_attempt(teller: Teller) -> None:
    rollout = teller.world.find_rollout()
    if rollout is not None:
        del teller.world.rollouts[rollout.name]


def wipe_attempt(teller: Teller) -> None:
    rollout = teller.world.find_rollout()
    if rollout is not None:
        teller.world.rollouts[rollout.name] = replace(rollout, record=RolloutRecord())


def wipe_deployment(teller: Teller) -> None:
    teller.world.deployment = DeploymentRecord()


def delete_revision(letter: str) -> Event:
    def happen(teller: Teller) -> None:
        teller.world.revisions.pop(letter, None)

    return happen


def slow_down(teller: Teller) -> None:
    teller.world.lag = 0 if teller.world.lag else 25


def load_for_ever(teller: Teller) -> None:
    teller.world.endless ^= {"b" * 64}


def ask_examples(letter: str, *says: tuple[GateState, str]) -> Event:
    return lambda teller: teller.world.runs.says.update({letter: says})


def delete_jobs(teller: Teller) -> None:
    teller.world.runs.jobs.clear()


def lose_pods(teller: Teller) -> None:
    teller.world.ready = 0 if teller.world.ready else 2


EVENTS: dict[str, Event] = {
    "ask for a": ask_for("a"),
    "ask for b": ask_for("b"),
    "ask for c": ask_for("c"),
    "ask for another workload": ask_for("b", "w2"),
    **{str(command): give(command) for command in Command},
    "b is good": score("b", 0.8),
    "b is bad": score("b", 0.4),
    "a pass": make_pass,
    "three passes": make_three_passes,
    "a killed pass": be_killed,
    "another operator": take_over,
    "ten seconds": wait(10),
    "two minutes": wait(120),
    "an hour": wait(3700),
    "Prometheus": switch_prometheus,
    "pause in the spec": switch_pause,
    "a spoiled spec": spoil_the_spec,
    "a missing artifact": hide_the_artifact,
    "b is refused": refuse("b"),
    "all are accepted": accept_all,
    "table deleted": delete_table,
    "table edited": edit_table,
    "slot 0 deleted": delete_slot(0),
    "slot 1 deleted": delete_slot(1),
    "attempt deleted": delete_attempt,
    "attempt wiped": wipe_attempt,
    "deployment wiped": wipe_deployment,
    "V of a deleted": delete_revision("a"),
    "V of b deleted": delete_revision("b"),
    "b fails its examples": ask_examples("b", (GateState.FAILED, "worse")),
    "no model answers": ask_examples("b", (GateState.NO_VERDICT, "no model answered")),
    "b passes its examples": ask_examples("b", PASSED),
    "jobs deleted": delete_jobs,
    "pods": lose_pods,
    "slow pods": slow_down,
    "b is loading": load_for_ever,
}
PLANS = [
    build_plan(),
    build_plan(mode=Mode.THRESHOLD, on_deadline=OnDeadline.ROLLBACK, bake=0),
    build_plan(on_deadline=OnDeadline.PROMOTE, manual=(True, False, False), ready_deadline=60),
    build_plan(weights=(100,), manual=(False,)),
    build_plan(gate_deadline=300),
    build_plan(weights=(100,), manual=(False,), gate_deadline=60),
]


def heal(teller: Teller) -> None:
    """The last fault and the last edit are over; the spec asks for something that can be had."""
    world = teller.world
    world.prometheus, world.paused, world.ready, world.requests = True, False, 2, 100.0
    world.artifacts.clear()
    world.refused.clear()
    world.endless.clear()
    world.runs.says.clear()
    world.lag = 0
    for letter in "abc":
        world.scores[letter] = 0.8
    if isinstance(world.target, Refusal):
        world.target = build_program("a")
    stable = world.deployment.stable
    if stable and stable.revision not in world.revisions:
        letter, _, workload = stable.revision.partition("-")
        world.target = build_program(letter, workload or "w1")
    teller.settle()
    world.now += 1
    teller.order(Command.RESUME)


def come_to_rest(teller: Teller) -> None:
    """Nothing is written any more, and no attempt is open unless a person must speak."""
    for _ in range(MOST_ROUNDS):
        teller.wait(60)
        rollout = teller.world.find_rollout()
        if rollout is None:
            break
        if rollout.record.awaiting:
            teller.order(Command.PROMOTE)
    assert teller.world.deployment.pointer is None, teller.lines[-20:]
    teller.wait(600)
    assert not is_write(teller.make_pass())
    table, stable = teller.world.table, teller.world.deployment.stable
    assert table is not None
    assert stable is not None
    assert [(s.program.revision, s.weight) for s in table.split.shares] == [(stable.revision, 100)]


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(plan=st.sampled_from(PLANS), names=st.lists(st.sampled_from(sorted(EVENTS)), max_size=25))
def test_whatever_happens_the_rules_hold_and_the_world_comes_to_rest(plan: Plan, names: list[str]) -> None:
    teller = Teller()
    teller.world.plan = plan
    teller.start()
    for name in names:
        teller.say(name)
        EVENTS[name](teller)
    heal(teller)
    come_to_rest(teller)
