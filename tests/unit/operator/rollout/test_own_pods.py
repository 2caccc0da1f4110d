"""What protects an attempt with pods of its own, where only one thing is missing."""

from tests.unit.operator.rollout.stories_of_own_pods import start
from tests.unit.operator.rollout.telling import Teller, is_at

from dspy_operator.rollout.model import Phase

AN_HOUR = 3600.0


def begin() -> Teller:
    """The first step of another image behind a gateway is set, and no pod was seen to use the table yet."""
    teller = Teller()
    start(teller)
    teller.apply("b", "w2")
    teller.wait_until(
        lambda world: is_at(world, Phase.STEPPING) and bool(world.table and world.table.split.weight)
    )
    return teller


def get_phase(teller: Teller) -> Phase:
    return teller.world.rollouts["b-w2-1"].record.phase


def test_no_ready_deadline_ends_it_while_only_prometheus_could_say_that_the_weight_is_in_effect() -> None:
    teller = begin()
    teller.world.prometheus = False
    teller.wait(AN_HOUR)
    assert get_phase(teller) is Phase.STEPPING


def test_the_ready_deadline_ends_it_without_prometheus_when_its_pods_are_too_few() -> None:
    teller = begin()
    teller.world.most_own = 0
    teller.world.prometheus = False
    teller.wait(AN_HOUR)
    assert get_phase(teller) is Phase.ROLLED_BACK
