"""What is kept of a live pod, and which of them Prometheus is expected to see."""

from tests.unit.operator.reconcile.objects import KEY, NOW, build_pod, build_snapshot

from dspy_operator.api.reasons import Reason
from dspy_operator.metrics.readings import IdleReading
from dspy_operator.reconcile.scraping import build_telemetry
from dspy_operator.reconcile.snapshot import slim_pod


def test_a_container_that_crashes_is_told_with_the_end_of_its_last_process() -> None:
    pod = build_pod("sick", ready=False)
    pod["status"]["containerStatuses"] = [
        {
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
            "lastState": {"terminated": {"exitCode": 3, "reason": "Error"}},
        }
    ]
    waiting = slim_pod(pod)["status"]["waiting"]
    assert waiting == {
        "reason": "CrashLoopBackOff",
        "message": "the last process ended with code 3 (Error); back-off 10s",
    }


def test_a_container_that_waits_for_the_first_time_is_told_in_the_kubelets_words() -> None:
    pod = build_pod("new", ready=False)
    waiting = {"reason": "ErrImagePull", "message": "not found"}
    pod["status"]["containerStatuses"] = [{"state": {"running": {}}}, {"state": {"waiting": waiting}}]
    assert slim_pod(pod)["status"]["waiting"] == waiting
    assert "waiting" not in slim_pod(build_pod("well"))["status"]


def test_a_pod_that_is_not_ready_is_not_missed_by_prometheus() -> None:
    reading = IdleReading(NOW, {KEY: {"one": 12}}, {}, frozenset())
    pods = (build_pod("one"), build_pod("starting", ready=False))
    assert build_telemetry(KEY, build_snapshot(pods=pods), reading).reason == Reason.SCRAPED
    two = (build_pod("one"), build_pod("two"))
    assert build_telemetry(KEY, build_snapshot(pods=two), reading).reason == Reason.PODS_MISSING
