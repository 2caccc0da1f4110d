"""Puts a reconciler together from its ports."""

from collections.abc import Callable
from dataclasses import dataclass

from dspy_operator.errors import Transient
from dspy_operator.kube.client import Client
from dspy_operator.metrics.reader import PrometheusReader
from dspy_operator.reconcile.clock import ServerClock
from dspy_operator.reconcile.digests import Digests
from dspy_operator.reconcile.execute import Executor
from dspy_operator.reconcile.parts import Leads, Parts, Timing
from dspy_operator.reconcile.programs import Programs
from dspy_operator.reconcile.reconciler import Reconciler
from dspy_operator.reconcile.record import Recorder
from dspy_operator.reconcile.reporting import RecordsEvents, Reporter
from dspy_operator.reconcile.sampler import Sampler
from dspy_operator.reconcile.snapshot import Reader
from dspy_operator.reconcile.worklist import Worklist
from dspy_operator.settings import OperatorSettings
from dspy_operator.telemetry import Telemetry


@dataclass(frozen=True)
class Ports:
    """The world: API server, Prometheus, Lease, Events, our own metrics."""

    client: Client
    prometheus: PrometheusReader
    leads: Leads
    events: RecordsEvents
    telemetry: Telemetry


def build_reconciler(
    ports: Ports, settings: OperatorSettings, *, monotonic: Callable[[], float], jitter: Callable[[], float]
) -> Reconciler:
    """A reconciler that is not running yet.

    Args:
        ports: the world.
        settings: of the operator.
        monotonic: seconds of a clock that never goes back.
        jitter: a factor around 1 for delays after failures.
    """
    digests = Digests(ports.client)
    worklist = Worklist(monotonic, jitter)
    sampler = Sampler(ports.prometheus, worklist.add, tick=settings.look_tick, monotonic=monotonic)

    def check() -> None:
        if not ports.leads.is_valid():
            raise Transient("this process does not hold the Lease", retry_after=1.0)

    parts = Parts(
        reader=Reader(ports.client, digests),
        prometheus=ports.prometheus,
        sampler=sampler,
        recorder=Recorder(ports.client, check),
        executor=Executor(ports.client, Programs(digests, ports.prometheus), check),
        reporter=Reporter(ports.events, ports.telemetry),
        worklist=worklist,
        clock=ServerClock(monotonic),
        leads=ports.leads,
        server_time=lambda: ports.client.server_time,
    )
    timing = Timing(
        checkpoint=settings.checkpoint_interval,
        confirm=settings.confirm_poll,
        resync=settings.resync,
        open_resync=settings.open_resync,
        stale_after=settings.sample_stale_after,
        tick=settings.look_tick,
        idle=min(60.0, settings.checkpoint_interval),
    )
    return Reconciler(parts, timing, settings.serving_image)
