"""Watch the routing table, load its programs off the loop, swap: what a request sees is one immutable `Snapshot`.

All state here belongs to the event loop; only reading and loading happen in threads.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, repeat
from pathlib import Path
from typing import Final

from dspy_server import artifact, buckets, logs
from dspy_server.contract import ProgramState, RouteError, ScoreSource
from dspy_server.errors import DigestError, ForbiddenSourceError, LoadError, SourceError, WarmupError
from dspy_server.metrics import Metrics, RoutesView
from dspy_server.program import Program
from dspy_server.routes import MAX_TABLE_BYTES, Route, Table, TableError, parse_table
from dspy_server.slots import read_slot
from dspy_server.uris import is_uri

POLL_SECONDS: Final = 0.1
SLOT_POLL_SECONDS: Final = 0.25
LATE_SLOT_POLL_SECONDS: Final = 2.0
FETCH_PAUSES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
"""Seconds between fetches, the last for ever: an outage of seconds costs seconds, a long one little traffic."""
WARM_SECONDS: Final = 600.0
METRICS_SECONDS: Final = 1800.0
MAX_PROGRAMS: Final = 4

Loader = Callable[[bytes, Route], Program]
Rehearse = Callable[[Program], Awaitable[None]]
Fetch = Callable[[str], Awaitable[bytes]]
"""URI -> bytes; raises `SourceError` or `DigestError`."""


@dataclass(frozen=True)
class Choice:
    """Who answers one request.

    Attributes:
        judged: False for a request sent by `overrideHeader`, which counts nowhere.
        instead_of: the unloaded revision whose share stable answers, else empty.
    """

    route: Route
    program: Program
    judged: bool = True
    instead_of: str = ""


@dataclass(frozen=True)
class Snapshot:
    """A table in force with the programs that answer; a request keeps the one it began with."""

    table: Table
    generation: int
    routes: tuple[Route, ...]
    programs: Mapping[str, Program]
    applied_at: float

    def choose(self, user: str) -> Choice:
        """The route of a user (or of a request id): sticky, by weight, never an unloaded program."""
        first = self.routes[0]
        for route in self.routes[1:]:
            if buckets.is_canary(self.table.program, route.revision, user, route.weight):
                if route.revision in self.programs:
                    return Choice(route, self.programs[route.revision])
                return Choice(first, self.programs[first.revision], instead_of=route.revision)
        return Choice(first, self.programs[first.revision])

    def find_override(self, value: str) -> Choice | None:
        """The route that an override header names, by revision or track, whatever its weight."""
        for route in self.routes:
            if value in {route.revision, route.track} and route.revision in self.programs:
                return Choice(route, self.programs[route.revision], judged=False)
        return None


@dataclass
class _Entry:
    """One revision that the process knows."""

    route: Route
    state: ProgramState = ProgramState.WAITING
    program: Program | None = None
    reasons: tuple[str, ...] = ()
    is_remote: bool = False
    task: asyncio.Task[None] | None = None
    dropped_at: float | None = None


@dataclass(frozen=True)
class KeeperConfig:
    """Where the table and the programs are, and how long a slot may lag behind the table."""

    routes: Path
    programs_root: Path
    workload: str
    slot_wait: float
    sources: tuple[ScoreSource, ...] = ()


@dataclass
class RouteKeeper:
    """Keeps `current` true to the newest valid table.

    Attributes:
        rehearse: asks a loaded program once before it serves; raises nothing.
        current: what requests read, once, at their begin; None until the first program is warm.
        seen_generation: of the newest valid table, in force or not.
        error: why the newest file is not in force, for `/ready`.
    """

    config: KeeperConfig
    load: Loader
    fetch: Fetch
    metrics: Metrics
    clock: Callable[[], float]
    rehearse: Rehearse | None = None
    current: Snapshot | None = None
    seen_generation: int = 0
    error: str = ""
    _pending: Table | None = None
    _entries: dict[str, _Entry] = field(default_factory=dict)
    _gone: dict[str, float] = field(default_factory=dict)
    _mark: tuple[object, ...] | None = None

    async def run(self) -> None:
        """Watch for ever."""
        self.metrics.bind(self.get_view)
        while True:
            self.poll()
            await asyncio.sleep(POLL_SECONDS)

    def poll(self) -> None:
        """Look once: take a changed table, forget what is long gone."""
        mark = _get_mark(self.config.routes)
        if mark is not None and mark != self._mark:
            self._mark = mark
            self._read()
        self.sweep()

    def reload(self) -> None:
        """Look once, and take the table again even if its file seems the same.

        Raises:
            TableError: it is not in force, and why.
        """
        self._mark = None
        self.poll()
        if self.error:
            raise TableError(self.error)

    def take(self, table: Table) -> None:
        """Put a valid table into force, as soon as its first program is loaded."""
        if table == self._pending:
            return
        if self._pending is not None and table.generation <= self._pending.generation:
            raise TableError(f"generation {table.generation} is not newer than {self._pending.generation}")
        self._pending = table
        self.seen_generation = table.generation
        own = table.list_own(self.config.workload)
        self._drop_others({route.revision for route in own})
        for route in own:
            self._ensure(route)
        self._settle()

    async def close(self) -> None:
        """End all loads."""
        tasks = [entry.task for entry in self._entries.values() if entry.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def get_states(self) -> dict[str, ProgramState]:
        """The state of each known revision."""
        return {revision: entry.state for revision, entry in self._entries.items()}

    def get_reasons(self) -> dict[str, tuple[str, ...]]:
        """Why revisions do not serve."""
        return {revision: entry.reasons for revision, entry in self._entries.items() if entry.reasons}

    def get_view(self) -> RoutesView:
        """What is true now, for a scrape."""
        programs = [entry.program for entry in self._entries.values() if entry.program is not None]
        artifacts = {program.revision: (program.sha256, program.dspy_version) for program in programs}
        if self.current is None:
            return RoutesView(states=self.get_states(), artifacts=artifacts)
        return RoutesView(
            generation=self.current.generation,
            applied_at=self.current.applied_at,
            weights=tuple((route.revision, route.track, route.weight) for route in self.current.routes),
            states=self.get_states(),
            artifacts=artifacts,
        )

    def _read(self) -> None:
        try:
            with self.config.routes.open("rb") as file:
                data = file.read(MAX_TABLE_BYTES + 1)
            self.take(parse_table(data, str(self.config.programs_root)))
            self.error = ""
        except OSError:
            self._mark = None  # replaced while it was being read: look again
        except TableError as exc:
            self.error = str(exc)
            self._count(RouteError.TABLE, "")
            logs.get_logger().error("table_refused", reason=self.error, generation=self.seen_generation)

    def _ensure(self, route: Route) -> None:
        """Start loading a route's program, unless it is loaded, being loaded from there, or refused for good."""
        entry = self._entries.get(route.revision)
        if entry is not None and (entry.program is not None or entry.route.path == route.path):
            entry.dropped_at = None
            return
        if entry is not None:
            _cancel(entry)
        entry = _Entry(route)
        self._entries[route.revision] = entry
        self._gone.pop(route.revision, None)
        entry.task = asyncio.create_task(self._load(entry), name=f"load-{route.revision}")

    async def _load(self, entry: _Entry) -> None:
        """Wait for the bytes, load them off the loop, settle."""
        try:
            data = await self._wait_for_bytes(entry)
            entry.state = ProgramState.LOADING
            program = await asyncio.to_thread(self.load, data, entry.route)
            if self.rehearse is not None:
                await self.rehearse(program)
        except LoadError as exc:
            self._refuse(entry, exc)
        except Exception as exc:  # noqa: BLE001 - whatever user code raises, the other revision goes on
            self._refuse(entry, WarmupError(f"{type(exc).__name__} while loading"))
        else:
            self.metrics.add_revision(program.revision, self.config.sources)
            entry.program, entry.state, entry.reasons = program, ProgramState.LOADED, ()
            logs.get_logger().info("program_loaded", revision=program.revision, notes=program.notes)
        self._settle()

    async def _wait_for_bytes(self, entry: _Entry) -> bytes:
        """The bytes of a route's program; what is not there yet is waited for, and read again even after that.

        Volumes are refreshed one by one, so a slot may hold other bytes for a while. A remote source that is away says
        nothing of the program, however long it lasts; what another try cannot change is said at once.
        """
        deadline = self.clock() + self.config.slot_wait
        pauses = chain(FETCH_PAUSES, repeat(FETCH_PAUSES[-1]))
        while True:
            try:
                return await self._read_bytes(entry)
            except (SourceError, DigestError) as exc:
                is_final = isinstance(exc, (ForbiddenSourceError, DigestError))
                is_late = is_final if entry.is_remote else self.clock() >= deadline
                if is_late and (entry.state, entry.reasons) != (exc.state, exc.reasons):
                    self._refuse(entry, exc)
                    self._settle()
                elif entry.is_remote and not is_late:
                    self._tell_failure(entry, exc)
            if entry.is_remote:
                await asyncio.sleep(FETCH_PAUSES[-1] if is_late else next(pauses))
            else:
                await asyncio.sleep(LATE_SLOT_POLL_SECONDS if is_late else SLOT_POLL_SECONDS)

    async def _read_bytes(self, entry: _Entry) -> bytes:
        """Read the slot, or fetch what the table or the slot refers to."""
        route, entry.is_remote = entry.route, is_uri(entry.route.path)
        uri = route.path
        if not entry.is_remote:
            content = await asyncio.to_thread(read_slot, Path(route.path))
            if isinstance(content, bytes):
                artifact.verify_digest(content, route.sha256)
                return content
            if content.sha256 != route.sha256:
                raise DigestError(f"the slot refers to sha256 {content.sha256}, expected {route.sha256}")
            uri, entry.is_remote = content.uri, True
        data = await self.fetch(uri)
        await asyncio.to_thread(artifact.verify_digest, data, route.sha256)
        return data

    def _tell_failure(self, entry: _Entry, error: LoadError) -> None:
        """The source does not answer, but may yet: say why the program waits, once."""
        if (entry.state, entry.reasons) == (ProgramState.WAITING, error.reasons):
            return
        entry.state, entry.reasons = ProgramState.WAITING, error.reasons
        self._count(error.reason, entry.route.revision)
        logs.get_logger().warning("program_not_fetched", revision=entry.route.revision, reasons=error.reasons)

    def _refuse(self, entry: _Entry, error: LoadError) -> None:
        entry.state, entry.reasons = error.state, error.reasons
        self._count(error.reason, entry.route.revision)
        logs.get_logger().error(
            "program_refused", revision=entry.route.revision, state=error.state, reasons=error.reasons
        )

    def _settle(self) -> None:
        """Swap, if the pending table can serve and differs from what serves."""
        if self._pending is None:
            return
        routes = self._pending.list_own(self.config.workload)
        if not routes:  # of other workloads only: the programs here stay until the pod goes
            if self.current is not None and self.current.generation != self._pending.generation:
                self.current = replace(
                    self.current, generation=self._pending.generation, applied_at=self.clock()
                )
            return
        programs = {
            revision: entry.program for revision, entry in self._entries.items() if entry.program is not None
        }
        programs = {
            route.revision: programs[route.revision] for route in routes if route.revision in programs
        }
        if routes[0].revision not in programs:
            return
        old = self.current
        if old is not None and (old.table, old.routes, old.programs) == (self._pending, routes, programs):
            return
        self.current = Snapshot(self._pending, self._pending.generation, routes, programs, self.clock())
        logs.get_logger().info(
            "routes_applied",
            generation=self._pending.generation,
            weights={route.revision: route.weight for route in routes},
            loaded=sorted(programs),
        )

    def _drop_others(self, wanted: set[str]) -> None:
        """Cancel loads that nobody wants any more; keep dropped programs warm for a while."""
        for revision, entry in list(self._entries.items()):
            if revision in wanted:
                continue
            if entry.program is None:
                _cancel(entry)
                self._forget(revision)
            elif entry.dropped_at is None:
                entry.dropped_at = self.clock()

    def sweep(self) -> None:
        """Let go of programs dropped ten minutes ago or too many, and of their counters half an hour later."""
        now = self.clock()
        dropped = sorted(
            (entry.dropped_at, revision)
            for revision, entry in self._entries.items()
            if entry.dropped_at is not None
        )
        surplus = len(self._entries) - MAX_PROGRAMS
        for index, (dropped_at, revision) in enumerate(dropped):
            if (index < surplus or now - dropped_at > WARM_SECONDS) and not self._is_serving(revision):
                self._forget(revision)
        for revision, gone_at in list(self._gone.items()):
            if now - gone_at > METRICS_SECONDS:
                del self._gone[revision]
                self.metrics.remove_revision(revision)

    def _is_serving(self, revision: str) -> bool:
        return self.current is not None and revision in self.current.programs

    def _forget(self, revision: str) -> None:
        del self._entries[revision]
        self._gone[revision] = self.clock()

    def _count(self, reason: RouteError, revision: str) -> None:
        self.metrics.route_errors.labels(self.metrics.program, revision, reason).inc()


def _cancel(entry: _Entry) -> None:
    if entry.task is not None:
        entry.task.cancel()


def _get_mark(path: Path) -> tuple[object, ...] | None:
    """What changes when the file does: kubelet's `..data` link, else size, inode and time of a plain file."""
    try:
        return (str((path.parent / "..data").readlink()),)
    except OSError:
        pass
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_size, status.st_ino)
