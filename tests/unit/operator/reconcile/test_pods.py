"""What pods make of the table and of the programs."""

from typing import Any

import pytest
from tests.unit.operator.reconcile.objects import KEY, NOW, build_given, build_pod, build_snapshot

from dspy_operator.api.reasons import Reason
from dspy_operator.metrics.readings import PodReading, Reading
from dspy_operator.reconcile.memory import REFRESH_AT, Memory, Refreshing
from dspy_operator.reconcile.pods import (
    PRESUMED_AFTER,
    build_confirmation,
    build_load,
    find_waiting,
    is_ready,
    list_ready_pods,
)
from dspy_operator.reconcile.snapshot import Input
from dspy_operator.rollout.capacity import LoadState
from dspy_operator.rollout.model import Program, Share, Split, Table, Unmeasured

STABLE = Program("a", "w1", "a" * 64, "m:M")
CANARY = Program("b", "w1", "b" * 64, "m:M")
TABLE = Table(Split(Share(STABLE, 0, 90), Share(CANARY, 1, 10)), 12, "r", 1, 1)
PODS = (build_pod("one", told="12.1"), build_pod("two", told="12.1"))
READY = frozenset({"one", "two"})
AWAY = Unmeasured("PrometheusUnreachable", "no answer")


def read(**pods: PodReading) -> Reading:
    return Reading(NOW, {KEY: pods})


def build_reading(generation: int = 12, *, at: float = NOW, b: str = "loaded") -> PodReading:
    states = {"a": "loaded", "b": b}
    loaded = {revision: state == "loaded" for revision, state in states.items()}
    return PodReading(generation=generation, sampled_at=at, loaded=loaded, states=states)


def confirm(reading: Any, memory: Memory | None = None, now: float = NOW, **parts: Any) -> Any:
    snapshot = build_snapshot(pods=parts.get("pods", PODS))
    ready = parts.get("ready", READY)
    return build_confirmation(snapshot, memory or Memory(), build_given(reading, now), TABLE, ready)


def test_a_table_is_confirmed_at_the_last_pods_sample() -> None:
    seen = confirm(read(one=build_reading(at=NOW - 3), two=build_reading(at=NOW - 1)))
    assert (seen.at, seen.presumed, seen.refreshed) == (NOW - 1, False, True)


@pytest.mark.parametrize(
    "two",
    [
        build_reading(generation=11),
        build_reading(b="loading"),
        build_reading(at=NOW - 31),
        PodReading(),
    ],
)
def test_one_pod_that_lags_is_enough_to_confirm_nothing(two: PodReading) -> None:
    assert confirm(read(one=build_reading(), two=two)).at is None
    assert confirm(read(one=build_reading())).at is None


def test_without_a_ready_pod_nothing_is_confirmed_nor_presumed() -> None:
    assert confirm(read(), ready=frozenset()).at is None
    assert not confirm(AWAY, Memory(refreshing=Refreshing(12, 0.0, 9)), ready=frozenset()).presumed


@pytest.mark.parametrize(
    ("reading", "seconds", "presumed"),
    [
        (AWAY, PRESUMED_AFTER, True),
        (None, PRESUMED_AFTER, True),
        (Reading(NOW, unmeasured={KEY: AWAY}), PRESUMED_AFTER, True),
        (AWAY, PRESUMED_AFTER - 1, False),
        (read(one=build_reading(), two=build_reading(generation=11)), 9 * PRESUMED_AFTER, False),
    ],
)
def test_a_table_is_presumed_only_when_prometheus_cannot_say_and_the_pods_were_told_long_ago(
    reading: Any, seconds: float, *, presumed: bool
) -> None:
    memory = Memory(refreshing=Refreshing(12, NOW - seconds, 6))
    assert confirm(reading, memory).presumed is presumed


def test_a_pod_that_was_not_told_is_told() -> None:
    memory = Memory(refreshing=Refreshing(12, NOW, 1))
    assert confirm(None, memory).refreshed
    for told in ("", "11.4", "120.1"):
        assert not confirm(None, memory, pods=(PODS[0], build_pod("two", told=told))).refreshed


def test_pods_are_told_again_at_growing_distances() -> None:
    refreshing = Refreshing()
    told = []
    for second in (half / 2 for half in range(400)):
        if refreshing.is_due(12, NOW + second):
            refreshing.note(12, NOW + second)
            told.append(second)
    assert told == list(REFRESH_AT)
    assert refreshing.is_due(13, NOW + 200)


def test_after_a_while_without_a_pass_pods_are_told_once_and_not_as_often_as_was_missed() -> None:
    refreshing = Refreshing()
    refreshing.note(12, NOW)
    assert refreshing.is_due(12, NOW + 20)
    refreshing.note(12, NOW + 20)
    assert not refreshing.is_due(12, NOW + 20)
    assert refreshing.is_due(12, NOW + 30)


def test_a_new_process_tells_nobody_again_what_everybody_was_told() -> None:
    memory = Memory()
    assert confirm(None, memory).refreshed
    assert memory.refreshing.generation == 12
    assert not memory.refreshing.is_due(12, NOW + 3.9), "Prometheus says first whether anybody must be told"
    assert memory.refreshing.is_due(12, NOW + 4)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("digest", Reason.DIGEST_MISMATCH),
        ("refused", Reason.ARTIFACT_REFUSED),
        ("signature", Reason.SIGNATURE_MISMATCH),
        ("module", Reason.MODULE_NOT_LOADABLE),
    ],
)
def test_one_pod_that_refuses_a_program_refuses_it(state: str, reason: Reason) -> None:
    load = build_load(
        read(one=build_reading(), two=build_reading(b=state)), build_snapshot(pods=PODS), CANARY, READY
    )
    assert (load.state, load.reason) == (LoadState.REFUSED, reason)
    assert "revision b" in load.message


def test_a_program_is_loaded_when_every_ready_pod_has_it() -> None:
    snapshot = build_snapshot(pods=PODS)

    def load(**pods: PodReading) -> LoadState:
        return build_load(read(**pods), snapshot, CANARY, READY).state

    assert load(one=build_reading(), two=build_reading()) is LoadState.LOADED
    assert load(one=build_reading(), two=build_reading(b="loading")) is LoadState.LOADING
    assert load(one=build_reading()) is LoadState.UNKNOWN
    assert load() is LoadState.UNKNOWN


ELSEWHERE = Input(digest=CANARY.sha256, uri="s3://models/triage.json")


@pytest.mark.parametrize("ready", [READY, frozenset()])
def test_a_pod_that_waits_for_bytes_that_lie_elsewhere_is_told_of(ready: frozenset[str]) -> None:
    reading = read(one=build_reading(b="loading"), two=build_reading(b="waiting"))
    load = build_load(reading, build_snapshot(pods=PODS, artifact=ELSEWHERE), CANARY, ready)
    assert (load.state, load.reason) == (LoadState.LOADING, Reason.WAITING_FOR_ARTIFACT)
    assert load.message == (
        "Pod two waits for the bytes of program bbbbbbbbbbbb (spec.program.artifact.uri); its log says why"
    )


@pytest.mark.parametrize(
    ("artifact", "ready", "b"),
    [
        (Input(digest=CANARY.sha256, name="b", key="program.json"), READY, "waiting"),
        (Input(digest="c" * 64, uri=ELSEWHERE.uri), READY, "waiting"),
        (ELSEWHERE, READY, "loading"),
        (ELSEWHERE, frozenset({"one"}), "waiting"),
    ],
)
def test_pods_that_wait_for_a_volume_or_for_another_program_or_are_not_ready_are_not(
    artifact: Input, ready: frozenset[str], b: str
) -> None:
    reading = read(one=build_reading(), two=build_reading(b=b))
    load = build_load(reading, build_snapshot(pods=PODS, artifact=artifact), CANARY, ready)
    assert (load.reason, load.message) == (Reason.PREPARING, "")
    assert load.state is (LoadState.LOADING if ready == READY else LoadState.LOADED)


def test_what_a_pod_said_that_is_gone_does_not_count() -> None:
    snapshot = build_snapshot(pods=PODS)
    reading = read(one=build_reading(), two=build_reading(), gone=build_reading(b="refused"))
    assert build_load(reading, snapshot, CANARY, READY).state is LoadState.LOADED


@pytest.mark.parametrize("reading", [None, AWAY])
def test_nothing_is_known_while_prometheus_is_away(reading: Any) -> None:
    assert build_load(reading, build_snapshot(pods=PODS), CANARY, READY).state is LoadState.UNKNOWN


def test_a_pod_that_no_node_takes_is_told_in_the_schedulers_words() -> None:
    pod = build_pod("sick", ready=False)
    refused = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/1 nodes are available: 1 Insufficient cpu.",
    }
    pod["status"]["conditions"].append(refused)
    told = find_waiting(build_snapshot(pods=(build_pod("one"), pod)), STABLE)
    assert told == "pod sick: Unschedulable: 0/1 nodes are available: 1 Insufficient cpu."
    pod["status"]["waiting"] = {"reason": "CrashLoopBackOff"}
    assert find_waiting(build_snapshot(pods=(pod,)), STABLE) == "pod sick: CrashLoopBackOff"
    assert find_waiting(build_snapshot(pods=PODS), STABLE) == ""


def test_a_pod_that_runs_unready_is_told_in_the_kubelets_words() -> None:
    pod = build_pod("sick", ready=False)
    unready = "containers with unready status: [server]"
    pod["status"]["conditions"] += [
        {"type": "PodScheduled", "status": "True"},
        {"type": "ContainersReady", "status": "False", "reason": "ContainersNotReady", "message": unready},
    ]
    told = find_waiting(build_snapshot(pods=(build_pod("one"), pod)), STABLE)
    assert told == f"pod sick: ContainersNotReady: {unready}"


def test_ready_pods_are_those_of_the_workload() -> None:
    pods = (*PODS, build_pod("old", workload="w0"), build_pod("sick", ready=False))
    assert list_ready_pods(build_snapshot(pods=pods), STABLE) == READY
    assert list_ready_pods(build_snapshot(pods=pods), None) == frozenset()
    assert not is_ready({"metadata": {}})
