"""From the verdict to the last request that a canary in pods of its own answered, twenty times over, behind Traefik.

`mode: Threshold` decides on the estimate alone, so that an attempt at the worse artifact ends within seconds of its
weight. The verdict's moment is the record's; that of its effect is the clients' own: when they sent the last request
that the canary's revision answered. Three worlds share the twenty, side by side. Twice the operator dies of SIGKILL, in
attempts of the first: with the weight just in effect, and with the verdict just on record.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

import pytest
from tests.e2e.harness.killing import get_holder, kill_operator, wait_for_successor
from tests.e2e.harness.own_pods import begin, start_behind, wait_for_attempt, wait_until_over
from tests.e2e.harness.specs import (
    LATENCY,
    SCORE,
    build_step,
    build_strategy,
    with_artifact,
    with_environment,
)
from tests.e2e.harness.waiting import wait_for
from tests.e2e.harness.world import open_world

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.harness.installation import Installation
    from tests.e2e.harness.views import Rollout
    from tests.e2e.harness.world import World

pytestmark = pytest.mark.alone

HOST = "rollback-time.example"
TIMES, WORLDS = 20, 3
KILLED_IN_EFFECT, KILLED_AT_VERDICT = 3, 5
GOAL_MEDIAN, GOAL_MAXIMUM, LIMIT = 1.5, 3.0, 20.0
QUIET = 3.0  # after so many seconds without an answer of the canary no more will come
STRATEGY = build_strategy(
    steps=(build_step(50, minDuration="20m", minSamples=30, deadline="1h"), {"weight": 100}),
    metrics=(SCORE | {"minSamples": 30}, LATENCY),
    mode="Threshold",
)


@dataclass(frozen=True)
class Forced:
    """One attempt: seconds from its verdict to the last request that its canary answered; below 0: before it."""

    rollout: Rollout
    seconds: float


@dataclass
class Runs:
    """All attempts, and when the operator was dead: from its end until a successor had the Lease, by the clients."""

    found: list[Forced] = field(default_factory=list)
    dead: list[tuple[float, float]] = field(default_factory=list)

    def is_touched(self, run: Forced) -> bool:
        """Whether the operator was dead between the verdict and its effect."""
        verdict = run.rollout.get_entry("RollingBack").at
        return any(
            began - 1 <= verdict + max(run.seconds, 0) and verdict <= ended for began, ended in self.dead
        )


def kill(installation: Installation, world: World, runs: Runs) -> None:
    """SIGKILL, and wait for the next one."""
    former = get_holder(installation)
    began = world.traffic.get_now()
    kill_operator(installation)
    wait_for_successor(installation, former)
    runs.dead.append((began, world.traffic.get_now()))


def force(world: World, number: int, installation: Installation | None, runs: Runs) -> Rollout:
    """One attempt at v3 in an environment of its own; with an installation, two of a world's kill the operator."""
    spec = with_artifact(with_environment(world.spec, RELEASE=str(number)), world.artifacts["v3"])
    name = begin(world, lambda: world.apply(spec))
    if installation and number == KILLED_IN_EFFECT:
        wait_for_attempt(world, name, "is in effect", lambda r: r.weight_effective_at)
        kill(installation, world, runs)
    if installation and number == KILLED_AT_VERDICT:
        wait_for_attempt(world, name, "has a verdict", lambda r: r.find_entry("RollingBack"), 120, poll=0.02)
        kill(installation, world, runs)
    return wait_until_over(world, name, "RolledBack", 120)


def measure(world: World, rollouts: list[Rollout]) -> list[Forced]:
    """Each attempt's time, by the clients' own records, once no canary has answered for a while."""

    def look() -> dict[str, float] | None:
        stats = world.traffic.get_stats()
        arms = stats["total"]["revisions"]
        last = {rollout.revision: arms[rollout.revision]["last_sent_at"] for rollout in rollouts}
        return last if stats["now"] - max(last.values()) > QUIET else None

    last = wait_for("the canaries to be left alone", look, 60, tell=world.tell)
    return [Forced(r, last[r.revision] - r.get_entry("RollingBack").at) for r in rollouts]


@pytest.fixture(scope="module")
def worlds(world: World, installation: Installation) -> Iterator[list[World]]:
    """v2 serves in each, behind the same gateway."""
    with ExitStack() as opened:
        others = (
            opened.enter_context(open_world(installation, f"own-pods-rollback-time-{number}"))
            for number in range(1, WORLDS)
        )
        found = [world, *others]
        for number, one in enumerate(found):
            start_behind(one, "traefik", f"{number}.{HOST}", STRATEGY, artifact="v2")
        yield found


@pytest.fixture(scope="module")
def runs(worlds: list[World], installation: Installation) -> Runs:
    """Twenty attempts, shared out among the worlds."""
    runs = Runs()

    def run(index: int) -> list[Forced]:
        one, numbers = worlds[index], range(1, len(range(index, TIMES, WORLDS)) + 1)
        killer = None if index else installation
        return measure(one, [force(one, number, killer, runs) for number in numbers])

    with ThreadPoolExecutor(WORLDS) as pool:
        runs.found = [forced for found in pool.map(run, range(WORLDS)) for forced in found]
    return runs


def test_twenty_rollbacks_reach_the_users_within_the_goal(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = [run.seconds for run in runs.found if not runs.is_touched(run)]
    touched = [run.seconds for run in runs.found if runs.is_touched(run)]
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    with capsys.disabled():
        print(
            f"\nverdict to the canary's last answer behind Traefik, {len(seconds)} times: median "
            f"{median(seconds):.2f} s, maximum {max(seconds):.2f} s; with the operator killed in between: "
            f"{[round(one, 2) for one in touched]} s (load {load:.1f} a core)"
        )
    assert len(runs.found) == TIMES
    assert median(seconds) <= (GOAL_MEDIAN if load < 1 else 2 * GOAL_MEDIAN)
    assert max(seconds) <= (GOAL_MAXIMUM if load < 1 else LIMIT)
    assert all(one <= (LIMIT if load < 1 else 2 * LIMIT) for one in touched)


def test_the_operator_was_killed_in_two_of_them_and_both_ended_the_same(runs: Runs) -> None:
    assert len(runs.dead) == 2
    assert {run.rollout.get_entry("RollingBack").reason for run in runs.found} == {"ThresholdViolated"}
    assert {run.rollout.phase for run in runs.found} == {"RolledBack"}


def test_no_request_failed_and_no_pod_of_stable_restarted_in_any_of_them(
    worlds: list[World], runs: Runs
) -> None:
    assert runs.found
    for one in worlds:
        one.wait("stable's pods alone", lambda _, one=one: len(one.get_identities()) == 2, 60)
        assert set(one.get_identities().values()) == {0}
        assert one.traffic.assert_none_failed() > 1000
