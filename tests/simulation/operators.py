"""Processes of the operator: the real reconciler, sampler and Lease on simulated ports; killed, stopped, started again.

Called by `run.py`. What happens to a request on its way is here too.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from tests.simulation.answers import Answer, fail
from tests.simulation.client import SimClient
from tests.simulation.plan import LATEST, STALLED, Fault, FaultKind
from tests.simulation.prometheus import SimPrometheus
from tests.simulation.store import Change, Object
from tests.simulation.weather import Weather

from dspy_operator.api import names
from dspy_operator.handlers.watch import CHILDREN
from dspy_operator.kube.client import Call
from dspy_operator.kube.lease import Elector
from dspy_operator.kube.resources import DSPYDEPLOYMENTS, LEASES, Resource
from dspy_operator.reconcile.assembly import Ports, build_reconciler
from dspy_operator.reconcile.memory import Version, get_version
from dspy_operator.settings import OperatorSettings
from dspy_operator.telemetry import Telemetry

if TYPE_CHECKING:
    from dspy_operator.metrics.reader import PrometheusReader
    from dspy_operator.reconcile.reconciler import Reconciler

SETTINGS = OperatorSettings(serving_image="example.org/server:1", look_tick=5.0, checkpoint_interval=30.0)
TELEMETRY = Telemetry()
TIMEOUT = 10.0
"""Seconds until the client gives an answer up."""
EVENT = 0.01
"""Seconds until a watch tells of a write."""
RESTART = 1.0
WATCHED = (DSPYDEPLOYMENTS, *CHILDREN)
HURT = {
    FaultKind.CONFLICT: 0.3,
    FaultKind.PRECONDITION: 0.3,
    FaultKind.BUSY: 0.3,
    FaultKind.ERROR: 0.3,
    FaultKind.LOST: 0.3,
    FaultKind.LATE: 0.15,
}
"""How likely a write is hit while the fault is on."""


class Process:
    """One process of the operator, from its start to its death."""

    def __init__(self, weather: Weather, prometheus: SimPrometheus, number: int) -> None:
        self.who = f"operator-{number}"
        self.client = SimClient(weather.store, self.who, Network(weather, self))
        self.dead = False
        self.stalled = False
        self.doomed: FaultKind | None = None
        """Whether it dies at its next write, and on which side of it."""
        self.perish: Callable[[], None] = self.kill
        self._leases = SimClient(weather.store, self.who, Network(weather, self))
        self._weather = weather
        self._prometheus = prometheus
        self._tasks: list[asyncio.Task[Any]] = []
        self._resumed = asyncio.Event()
        self._reconciler: Reconciler | None = None
        self._elector = self._build_elector()

    def start(self) -> None:
        """Wait for the Lease, then work."""
        self._tasks.append(asyncio.ensure_future(self._run()))

    def _build_elector(self) -> Elector:
        loop = asyncio.get_running_loop()
        return Elector(
            self._leases,
            SETTINGS.lease_namespace,
            SETTINGS.lease_name,
            self.who,
            duration=SETTINGS.lease_duration,
            renew_deadline=SETTINGS.lease_renew_deadline,
            retry=SETTINGS.lease_retry,
            die=self.kill,
            monotonic=loop.time,
        )

    async def _run(self) -> None:
        await self._elector.acquire()
        ports = Ports(
            self.client, cast("PrometheusReader", self._prometheus), self._elector, _Silent(), TELEMETRY
        )
        self._reconciler = build_reconciler(
            ports,
            SETTINGS,
            monotonic=asyncio.get_running_loop().time,
            jitter=lambda: self._weather.rng.uniform(0.8, 1.2),
        )
        self._tasks += [asyncio.ensure_future(work) for _, work in self._reconciler.list_tasks(2)]
        self.list_again()

    def notice(self, change: Change) -> None:
        """A watch's event."""
        version = get_version(change.after) if change.after is not None else None
        self._tell(change.resource, change.live, version)

    def _tell(self, resource: Resource, obj: Object, version: Version | None) -> None:
        """What a watch's handler does: it notes whose object that is."""
        if self._reconciler is None or self.dead:
            return
        meta = obj["metadata"]
        if resource is DSPYDEPLOYMENTS:
            name = meta["name"]
        else:
            labels = meta.get("labels") or {}
            if labels.get(names.LABEL_MANAGED_BY) != names.MANAGED_BY or names.LABEL_INSTANCE not in labels:
                return
            name = labels[names.LABEL_INSTANCE]
        self._reconciler.note((meta["namespace"], name), version)

    def list_again(self) -> None:
        """The watches begin, or begin again: everything that there is is told of, and nothing that is not."""
        for resource in WATCHED:
            for obj in self._weather.store.list_(resource):
                self._tell(resource, obj, get_version(obj))

    def kill(self) -> None:
        """Nothing of this process runs any more; what it has sent may still land."""
        self.dead = True
        tasks = [*self._tasks, *([self._elector._renewing] if self._elector._renewing else [])]
        for task in tasks:
            task.cancel()

    async def end(self) -> None:
        """Kill it and wait until it is gone."""
        self.kill()
        tasks = [*self._tasks, *([self._elector._renewing] if self._elector._renewing else [])]
        await asyncio.gather(*tasks, return_exceptions=True)

    def find_failure(self) -> BaseException | None:
        """What ended a task that should run for ever."""
        for task in self._tasks[1:]:
            if task.done() and not task.cancelled() and not self.dead:
                return task.exception()
        return None

    def stall(self, seconds: float) -> None:
        """Stopped like by SIGSTOP: what was on its way waits, and goes on later."""
        self.stalled = True
        self._resumed.clear()

        def resume() -> None:
            self.stalled = False
            self._resumed.set()

        self._weather.later(seconds, resume)

    async def wait_while_stalled(self) -> None:
        """Requests of a stopped process leave when it goes on."""
        while self.stalled:
            await self._resumed.wait()


class Network:
    """Between one process and the API server."""

    def __init__(self, weather: Weather, process: Process) -> None:
        self._weather = weather
        self._process = process

    def is_clear(self) -> bool:
        """Whether the process lives and no fault is on."""
        process = self._process
        is_well = not (process.dead or process.doomed or process.stalled)
        return is_well and self._weather.is_calm()

    async def send(self, call: Call, deliver: Callable[[], Answer]) -> Answer:
        """The answer, or what becomes of the request instead."""
        if self._process.dead:
            await asyncio.Event().wait()
        if self._process.doomed and call.mutating and call.resource is not LEASES:
            if self._process.doomed is FaultKind.KILL_AFTER_WRITE:
                deliver()
            self._weather.later(0.0, self._process.perish)
            await asyncio.Event().wait()
        if self._process.stalled:
            await self._process.wait_while_stalled()
        for fault in self._weather.list_on():
            answer = await self._suffer(fault, call, deliver)
            if answer is not None:
                return answer
        return deliver()

    async def _suffer(self, fault: Fault, call: Call, deliver: Callable[[], Answer]) -> Answer | None:
        """What a fault makes of the request; None: nothing."""
        rng = self._weather.rng
        match fault.kind:
            case FaultKind.DOWN:
                await asyncio.sleep(0.2)
                raise ConnectionRefusedError
            case FaultKind.SLOW:
                await asyncio.sleep(rng.uniform(0.0, 0.5))
            case FaultKind.READS if not call.mutating and rng.random() < 0.2:
                return fail(500, "InternalError", "etcdserver: request timed out")
            case kind if kind in HURT and call.mutating and rng.random() < HURT[kind]:
                return await self._hurt(kind, deliver)
            case _:
                pass
        return None

    async def _hurt(self, kind: FaultKind, deliver: Callable[[], Answer]) -> Answer:
        rng = self._weather.rng
        match kind:
            case FaultKind.CONFLICT:
                return fail(409, "Conflict", "the object has been modified")
            case FaultKind.PRECONDITION:
                return fail(
                    422,
                    "Invalid",
                    "metadata.resourceVersion: must match",
                    causes=["metadata.resourceVersion"],
                )
            case FaultKind.BUSY:
                return fail(429, "TooManyRequests", "try again", retry_after=1.0)
            case FaultKind.LOST:
                deliver()
            case FaultKind.LATE:
                self._weather.later(rng.uniform(0.0, LATEST), lambda: _ignore(deliver()))
                await asyncio.sleep(TIMEOUT)
            case _:
                return fail(500, "InternalError", "etcdserver: leader changed")
        raise TimeoutError


def _ignore(answer: Answer) -> None:
    """Nobody waits for it any more."""
    assert answer.status


class _Silent:
    """Events for people are not simulated."""

    def record(self, obj: dict[str, Any], type_: str, reason: str, note: str) -> None:
        assert obj
        assert type_
        assert reason
        assert note


class Operators:
    """All processes, dead ones included."""

    def __init__(self, weather: Weather, prometheus: SimPrometheus) -> None:
        self.processes: list[Process] = []
        self.crashes: list[str] = []
        self._weather = weather
        self._prometheus = prometheus

    def start(self) -> None:
        """One more process."""
        process = Process(self._weather, self._prometheus, len(self.processes) + 1)
        self.processes.append(process)
        process.start()

    def list_live(self) -> list[Process]:
        return [process for process in self.processes if not process.dead]

    def notice(self, change: Change) -> None:
        """Tell the watches, as well as they work."""
        weather = self._weather
        if change.resource not in WATCHED:
            return
        if weather.is_on(FaultKind.COMPACTED):
            return  # the watch has ended with 410 Gone; what happened until it lists again it is never told
        if weather.is_on(FaultKind.WATCH_DROP) and weather.rng.random() < 0.5:
            return
        late = weather.rng.uniform(0.0, 10.0) if weather.is_on(FaultKind.WATCH_LATE) else EVENT
        weather.later(late, lambda: self._tell(change))
        if weather.is_on(FaultKind.WATCH_TWICE):
            weather.later(late + weather.rng.uniform(0.0, 5.0), lambda: self._tell(change))

    def _tell(self, change: Change) -> None:
        for process in self.processes:
            process.notice(change)

    def list_again(self) -> None:
        """Watches that failed begin again."""
        for process in self.list_live():
            process.list_again()

    def strike(self, fault: Fault) -> None:
        """What happens to processes at the beginning of a fault."""
        live = self.list_live()
        match fault.kind:
            case FaultKind.KILL if live:
                self.kill(live[0])
            case FaultKind.KILL_BEFORE_WRITE | FaultKind.KILL_AFTER_WRITE if live:
                process = live[0]
                process.doomed, process.perish = fault.kind, lambda: self.kill(process)
            case FaultKind.STALL if live:
                live[0].stall(STALLED)
                self._weather.later(RESTART, self.start)
            case _:
                pass

    def kill(self, process: Process) -> None:
        """Kill it; another one starts soon."""
        if process.dead:
            return
        process.kill()
        self._weather.later(RESTART, self._replace)

    def _replace(self) -> None:
        if len(self.list_live()) < 2:
            self.start()

    def revive(self) -> None:
        """A process that ended itself, or of which a part has ended, is started again, as the kubelet would."""
        for process in self.list_live():
            failure = process.find_failure()
            if failure is not None:
                self.crashes.append(repr(failure))
                process.kill()
        if not self.list_live():
            self.start()

    async def end(self) -> None:
        for process in self.processes:
            with contextlib.suppress(asyncio.CancelledError):
                await process.end()
