"""Passes over a real API server: what they cost, and that no failed write counts a sample twice or loses one."""

from functools import partial
from pathlib import Path

import pytest
from tests.api.attempt import RATE, REPLICAS, Fate, open_attempt
from tests.cluster.api_tier import ApiServer

from dspy_operator.kube.resources import CONFIGMAPS, DSPYROLLOUTS, Resource
from dspy_operator.rollout.analysis import Analysis
from dspy_operator.rollout.judging import State

pytestmark = [pytest.mark.api, pytest.mark.usefixtures("wire")]


async def test_while_a_canary_is_judged_the_cluster_is_read_once_a_checkpoint(api_server: ApiServer) -> None:
    async with open_attempt(api_server.kubeconfig) as attempt:
        await attempt.release(2)
        await attempt.tick_until_effective(1)
        await attempt.tick(7)  # what people read changes with the first looks
        attempt.client.requests.clear()
        await attempt.tick(18)
        asked = attempt.client.requests
    assert asked["get dspydeployments"] == asked["list pods"] == 3
    assert asked["patch dspyrollouts"] == asked["patch dspydeployments"] == 3


async def test_a_restart_loses_no_score_even_if_prometheus_past_cannot_be_read_at_first(
    api_server: ApiServer,
) -> None:
    async with open_attempt(api_server.kubeconfig) as attempt:
        await attempt.release(2)
        since = await attempt.tick_until_effective(1)
        await attempt.tick(9)
        attempt.sampler.is_past_away = True
        attempt.restart()
        await attempt.tick(9)
        assert not attempt.sampler.is_past_away
        state = Analysis.from_text((await attempt.get_record())["looks"]).state
    seconds = state.clock.last - since
    assert seconds >= 120
    assert count_scores(state) == (RATE * REPLICAS * 0.1 * seconds, RATE * REPLICAS * 0.9 * seconds)


async def test_a_reading_that_comes_during_a_write_is_part_of_the_next_look(api_server: ApiServer) -> None:
    async with open_attempt(api_server.kubeconfig) as attempt:
        await attempt.release(2)
        since = await attempt.tick_until_effective(1)
        attempt.client.meanwhile = partial(attempt.read_after, 3.0)
        await attempt.tick(14)
        state = Analysis.from_text((await attempt.get_record())["looks"]).state
    seconds = state.clock.last - since
    assert (seconds >= 120, seconds % 10) == (True, 3)  # it came between two ticks
    assert count_scores(state) == (RATE * REPLICAS * 0.1 * seconds, RATE * REPLICAS * 0.9 * seconds)


def count_scores(state: State) -> tuple[float, float]:
    """What the test has counted of (canary, stable)."""
    (metric,) = state.metrics
    reference = metric.reference
    assert reference is not None
    return metric.canary.n - reference.canary_weight, metric.stable.n - reference.stable_weight


async def judge(
    kubeconfig: Path, of: Resource, fate: Fate, broken: int
) -> tuple[State, tuple[float, float], int]:
    """Looks at 10 % and at 50 %: the test, the scores that there were of (canary, stable), the number of writes."""
    async with open_attempt(kubeconfig) as attempt:
        client = attempt.client
        client.of, client.fate, client.broken, client.writes = of, fate, broken, 0
        await attempt.release(2)
        first = await attempt.tick_until_effective(1)
        await attempt.tick(2)
        at_ten = attempt.clock.time - first
        await attempt.promote()
        second = await attempt.tick_until_effective(2)
        await attempt.tick()
        writes = client.writes
        await attempt.tick(6)  # a checkpoint
        record = await attempt.get_record()
        test = Analysis.from_text(record["looks"])
        at_fifty = test.state.clock.last - second
        pods = RATE * REPLICAS
        return (
            test.state,
            (pods * (0.1 * at_ten + 0.5 * at_fifty), pods * (0.9 * at_ten + 0.5 * at_fifty)),
            writes,
        )


@pytest.mark.parametrize(
    ("of", "fate"),
    [(DSPYROLLOUTS, Fate.LANDED), (CONFIGMAPS, Fate.REFUSED)],
    ids=["a record whose answer is lost", "a table that is refused"],
)
async def test_whichever_write_fails_every_score_counts_once(
    api_server: ApiServer, of: Resource, fate: Fate
) -> None:
    broken, writes = 0, 1
    while broken < writes:
        broken += 1
        state, scores, writes = await judge(api_server.kubeconfig, of, fate, broken)
        assert state.step == 2
        assert count_scores(state) == scores, f"{fate} befell write {broken} of {writes}"
    assert broken > 3
