"""One plan, carried out: the world is put together, everything happens, then calm must come and stay.

Called by `__main__.py` and the tests.
"""

import asyncio
import gc
import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial

from tests.simulation.calm import find_unrest, is_analysing
from tests.simulation.controllers import Controllers
from tests.simulation.dataplane import DataPlane
from tests.simulation.eager import ask_in_a_row
from tests.simulation.endpoints import Endpoints, GatewayController
from tests.simulation.hand import Hand
from tests.simulation.jobs import Jobs
from tests.simulation.loop import VirtualLoop
from tests.simulation.memos import remember
from tests.simulation.operators import Operators
from tests.simulation.paths import Paths
from tests.simulation.plan import Fault, FaultKind, Plan
from tests.simulation.pods import Kubelet
from tests.simulation.prometheus import SimPrometheus
from tests.simulation.records import Records
from tests.simulation.referee import Referee
from tests.simulation.store import Change
from tests.simulation.user import NAME, NAMESPACE, People, get_digest
from tests.simulation.weather import Weather

from dspy_operator.api import names
from dspy_operator.kube.resources import DSPYDEPLOYMENTS, DSPYROLLOUTS, LEASES
from dspy_operator.manifests.owner import Owner
from dspy_operator.traffic.table import read_table

PATIENCE, FOR_OWN_PODS = 30.0, 15.0
"""Seconds in a row without an analysis in which calm must come (L1); pods of a canary's own are waited for besides.

They start, are given 5 s to be reached, and after each change what routes is given 5 s more.
"""
UNDECIDED = 150.0
"""Seconds after which a person ends what holds for ever."""
LONGEST = 600.0
NOTICED = 2.0
"""Seconds until the last act of a person shows."""
QUIET = 120.0
SETTLING = 65.0
"""Seconds until the last tellings of the pods are over and the telemetry was looked at."""


@dataclass
class Outcome:
    """What came of a plan. `broken` names the invariant and says what was seen; empty if all held."""

    broken: list[str] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    ended: str = ""
    seconds: float = 0.0
    writes: int = 0

    @property
    def digest(self) -> str:
        """The same for the same plan."""
        return hashlib.sha256("\n".join(self.trace).encode()).hexdigest()[:16]


def run(plan: Plan, *, memos: bool = True) -> Outcome:
    """Carry a plan out; `memos` makes it faster and nothing else."""
    with _collect_once():
        return _run(plan, memos=memos)


def _run(plan: Plan, *, memos: bool) -> Outcome:
    logging.disable(logging.CRITICAL)
    loop = VirtualLoop()
    try:
        with remember() if memos else nullcontext():
            return loop.run_until_complete(_live(plan, loop))
    finally:
        loop.close()
        logging.disable(logging.NOTSET)


@contextmanager
def _collect_once() -> Iterator[None]:
    """What a run leaves in cycles is little: it is collected after the run, and not looked for during it."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.collect(0)


async def _live(plan: Plan, loop: VirtualLoop) -> Outcome:
    weather = Weather(plan, loop)
    outcome = Outcome()
    scores = {get_digest(letter): score for letter, score in plan.scores}
    unfit = {get_digest(letter) for letter in plan.unfit}
    kubelet = Kubelet(weather, Hand(weather.store, "kubelet"), scores, unfit, plan.rate)
    controllers = Controllers(weather, Hand(weather.store, "controllers"))
    people = People(weather, Hand(weather.store, "people"))
    prometheus = SimPrometheus(weather, kubelet, NAMESPACE)
    operators = Operators(weather, prometheus)

    plane = DataPlane(weather, kubelet)
    endpoints = Endpoints(weather, Hand(weather.store, "endpoints controller"))
    gateway = GatewayController(weather, Hand(weather.store, "gateway controller"))

    jobs = Jobs(weather, Hand(weather.store, "job controller"), scores)
    referee = Referee(weather, kubelet, people, jobs, plane, outcome.broken)
    records, paths = Records(referee), Paths(referee)

    def trace(change: Change) -> None:
        if change.resource is not LEASES:
            outcome.trace.append(_describe(change, weather.elapsed))

    weather.store.listeners += [
        trace,
        referee.check,
        records.check,
        paths.check,
        kubelet.notice,
        controllers.notice,
        jobs.notice,
        endpoints.notice,
        gateway.notice,
        plane.notice,
        operators.notice,
    ]
    with ask_in_a_row(weather.is_calm):
        return await _unfold(plan, weather, referee, operators, outcome)


async def _unfold(
    plan: Plan, weather: Weather, referee: Referee, operators: Operators, outcome: Outcome
) -> Outcome:
    """Everything happens."""
    people = referee.people
    people.begin()
    operators.start()
    if plan.standby:
        operators.start()
    for act in plan.acts:
        weather.later(act.at, partial(people.act, act))
    for fault in plan.faults:
        weather.later(fault.at, partial(strike, fault, referee, operators))
        weather.later(fault.until, operators.list_again)
    try:
        await _watch(referee, operators, plan)
    finally:
        outcome.seconds, outcome.writes = weather.elapsed, weather.store.writes
        outcome.ended = _describe_end(people)
        await operators.end()
    return outcome


def strike(fault: Fault, referee: Referee, operators: Operators) -> None:
    """What a fault does at once, at its beginning."""
    kubelet = referee.kubelet
    match fault.kind:
        case FaultKind.CRASH:
            kubelet.crash()
        case FaultKind.EVICT:
            kubelet.evict()
        case FaultKind.CANARY_CRASH:
            kubelet.crash_canary()
        case FaultKind.ROUTE_EDITED | FaultKind.ROUTE_DELETED | FaultKind.ROLE_EDITED:
            referee.people.meddle(fault.kind)
        case _:
            operators.strike(fault)


async def _watch(referee: Referee, operators: Operators, plan: Plan) -> None:
    """Until calm has come and stayed, or something is broken."""
    weather = referee.weather
    await _pass(referee, operators, plan.healed_at)
    if operators.crashes:
        referee.say("L1", f"a part of the operator ended: {operators.crashes[0]}")
    if referee.broken:
        return
    if referee.people.mend():
        operators.list_again()
    await asyncio.sleep(NOTICED)
    waited, helped = 0.0, False
    patience = PATIENCE + (FOR_OWN_PODS if plan.has_own_pods else 0.0)
    while not referee.broken and (unrest := find_unrest(referee)):
        operators.revive()
        if is_analysing(referee):
            waited = 0.0
        else:
            waited += 1.0
        if waited > patience:
            referee.say("L1", f"{waited:.0f} s after everything was mended: {unrest}")
        if not helped and weather.elapsed > plan.healed_at + UNDECIDED:
            helped = True
            referee.people.give_up()
        if weather.elapsed > plan.healed_at + LONGEST:
            referee.say("L2", f"no end: {unrest}")
        await asyncio.sleep(1.0)
    if not referee.broken:
        await _stay(referee, operators)


async def _pass(referee: Referee, operators: Operators, until: float) -> None:
    """Let the time pass, up to the first violation."""
    while referee.weather.elapsed < until and not referee.broken:
        operators.revive()
        await asyncio.sleep(min(2.0, until - referee.weather.elapsed + 0.001))


async def _stay(referee: Referee, operators: Operators) -> None:
    """L5: calm lasts, and who has nothing to do writes nothing."""
    is_long = referee.weather.plan.seed % 20 == 0
    await asyncio.sleep(SETTLING if is_long else 1.0)
    written: list[str] = []

    def note(change: Change) -> None:
        if change.who.startswith("operator") and change.resource is not LEASES:
            written.append(_describe(change, referee.weather.elapsed))

    if is_long:
        referee.weather.store.listeners.append(note)
        await _pass(referee, operators, referee.weather.elapsed + QUIET)
    if written:
        referee.say("L5", f"{len(written)} writes in {QUIET:.0f} s of calm, the first: {written[0]}")
    if unrest := find_unrest(referee):
        referee.say("L5", f"calm did not last: {unrest}")


def _describe(change: Change, elapsed: float) -> str:
    meta = change.live["metadata"]
    verb = "deletes" if change.after is None else "creates" if change.before is None else "changes"
    line = f"{elapsed:8.3f} {change.who} {verb} {change.resource.plural}/{meta['name']}"
    status = (change.after or {}).get("status") or {}
    if change.resource is DSPYROLLOUTS:
        return f"{line} {status.get('phase')} {status.get('step')} {status.get('weight')} % {status.get('reason')}"
    if change.resource is DSPYDEPLOYMENTS:
        stable = (status.get("stable") or {}).get("revision")
        return f"{line} stable {stable} canary {(status.get('canary') or {}).get('revision')}: {status.get('message')}"
    if meta["name"] == names.routes_name(NAME) and change.after is not None:
        table = read_table(change.after, Owner(NAMESPACE, NAME, ""), None)
        shares = [f"{s.program.revision} {s.weight} %" for s in table.split.shares] if table else []
        return f"{line} generation {table and table.generation}: {', '.join(shares)}"
    return line


def _describe_end(people: People) -> str:
    status = (people.find_deployment() or {}).get("status") or {}
    return f"{(status.get('stable') or {}).get('revision')} is stable: {status.get('message')}"
