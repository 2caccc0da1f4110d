"""TelemetryReady, also while idle: trouble with the scraping is seen before a canary hangs on it."""

from dspy_operator.api.reasons import Reason
from dspy_operator.metrics.readings import IdleReading
from dspy_operator.reconcile.snapshot import Snapshot
from dspy_operator.reconcile.worklist import Key
from dspy_operator.rollout.model import Unmeasured
from dspy_operator.rollout.status import Telemetry
from dspy_operator.traffic.view import is_ready


def build_telemetry(key: Key, snapshot: Snapshot, reading: IdleReading | Unmeasured) -> Telemetry:
    """Whether Prometheus sees every ready serving pod of a resource, and why not."""
    if isinstance(reading, Unmeasured):
        return Telemetry("Unknown", Reason.PROMETHEUS_UNREACHABLE, reading.message)
    pods = {pod["metadata"]["name"] for pod in snapshot.pods if is_ready(pod)}
    seen = reading.generations.get(key, {}).keys()
    if not pods:
        return Telemetry("Unknown", Reason.NOT_SCRAPED, "There are no ready pods to scrape")
    missing = sorted(pods - seen)
    if not missing:
        return Telemetry("True", Reason.SCRAPED, f"Prometheus scrapes all {len(pods)} pods")
    if key[1] in reading.unlabelled:
        message = "The series have no namespace and pod labels: add them by relabelling"
        return Telemetry("False", Reason.NO_NAMESPACE_LABEL, message)
    if not seen:
        message = f"Prometheus has no series of program {key[1]} in namespace {key[0]}"
        return Telemetry("False", Reason.NOT_SCRAPED, message)
    return Telemetry("False", Reason.PODS_MISSING, f"Prometheus does not scrape {', '.join(missing[:3])}")
