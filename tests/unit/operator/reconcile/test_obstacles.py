"""What routes is behind for a moment at every change: that is no trouble; the same for longer is."""

from dataclasses import dataclass, field, replace

from tests.unit.operator.reconcile.objects import OWNER

from dspy_operator.reconcile.memory import Lasting
from dspy_operator.reconcile.routing import PATIENCE, PROCESS, find_obstacle
from dspy_operator.rollout.model import Program, Share, Split
from dspy_operator.traffic.process import ProcessRouter
from dspy_operator.traffic.view import Obstacle, View

SPLIT = Split(Share(Program("a", "w1", "a" * 64, "m:M"), 0, 100))
SILENT, SETTLING = Obstacle("Gateway public has said nothing of it"), Obstacle("given 5 s", is_settling=True)


@dataclass
class Told(ProcessRouter):
    """Says what it is told to."""

    obstacle: Obstacle | None = None
    lasting: Lasting = field(default_factory=Lasting)

    def find_obstacle(self, view: View, split: Split) -> Obstacle | None:
        return self.obstacle

    def look(self, obstacle: Obstacle | None, now: float) -> Obstacle | None:
        self.obstacle = obstacle
        view = View(OWNER, lasts=lambda name, state: self.lasting.measure(name, state, now))
        return find_obstacle(self, view, SPLIT)


def test_an_obstacle_that_has_only_just_come_up_is_on_its_way_and_the_same_for_longer_is_not() -> None:
    router = Told()
    assert router.look(SILENT, 100) == Obstacle(SILENT.message, is_settling=True)
    assert router.look(SILENT, 100 + PATIENCE) == SILENT
    assert router.look(SETTLING, 101 + PATIENCE) == SETTLING
    assert router.look(SILENT, 102 + PATIENCE) == Obstacle(SILENT.message, is_settling=True)


def test_a_split_in_effect_forgets_what_was_in_its_way() -> None:
    router = Told()
    assert router.look(SILENT, 100) is not None
    assert router.look(None, 105) is None
    assert router.look(SILENT, 100 + PATIENCE) == Obstacle(SILENT.message, is_settling=True)
    assert find_obstacle(PROCESS, View(OWNER), SPLIT) is None


def test_an_attempt_in_shared_pods_waits_for_no_gateway() -> None:
    router = Told(obstacle=SILENT)
    shared = replace(SPLIT, canary=Share(Program("b", "w1", "b" * 64, "m:M"), 1, 10))
    own = replace(SPLIT, canary=Share(Program("b", "w2", "b" * 64, "m:M"), 1, 10))
    assert find_obstacle(router, View(OWNER), shared) is None
    assert find_obstacle(router, View(OWNER), own) is not None
