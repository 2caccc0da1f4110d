"""What the model takes for granted of the shell: the record first, and every write bound to what was read."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from dspy_operator.errors import Conflict
from dspy_operator.kube.resources import CONFIGMAPS, DSPYROLLOUTS
from dspy_operator.manifests.owner import Owner
from dspy_operator.reconcile.execute import Executor
from dspy_operator.reconcile.memory import Given, Memory
from dspy_operator.reconcile.parts import Parts, Timing
from dspy_operator.reconcile.reconciler import Reconciler
from dspy_operator.reconcile.record import Recorder
from dspy_operator.reconcile.snapshot import Snapshot
from dspy_operator.rollout.actions import Decision, Restamp
from dspy_operator.rollout.model import DeploymentRecord, Observation, Program, Share, Split, Table

if TYPE_CHECKING:
    from dspy_operator.kube.client import Client
    from dspy_operator.reconcile.programs import Programs

META = {"name": "triage-routes", "namespace": "demo", "uid": "u-1", "resourceVersion": "41"}
READ = {"metadata": META}
BOUND = {"uid": "u-1", "resource_version": "41"}


class Scribe:
    """Notes every call by its name; `refuses` is the one that ends in a conflict."""

    def __init__(self, refuses: str = "") -> None:
        self.calls: list[str] = []
        self.bound: list[dict[str, Any]] = []
        self._refuses = refuses

    def __getattr__(self, name: str) -> Any:
        async def call(*_: object, **options: object) -> dict[str, Any]:
            self.calls.append(name)
            self.bound.append(options)
            if name == self._refuses:
                raise Conflict("somebody else wrote first")
            return {"metadata": {**META, "resourceVersion": "42"}}

        return call


async def act(scribe: Scribe, decision: Decision) -> None:
    """The shell's part of a pass: its writes, in its order."""
    parts = cast("Parts", SimpleNamespace(recorder=scribe, executor=scribe))
    reconciler = Reconciler(parts, Timing(), "image")
    seen = Observation(now=0.0, epoch=1, name="triage")
    snapshot = Snapshot(Owner("demo", "triage", "u-0"), {}, None)
    given = Given(0.0, 1, "image", 60.0, 30.0, None)
    await reconciler._act(seen, decision, snapshot, Memory(), given)


BOTH = Decision("Reason", "message", deployment=DeploymentRecord(), action=Restamp(), wait=0)


async def test_the_record_is_written_before_the_effect() -> None:
    scribe = Scribe()
    await act(scribe, BOTH)
    assert scribe.calls == ["record", "execute"]


async def test_after_a_conflict_of_the_record_nothing_is_done() -> None:
    scribe = Scribe(refuses="record")
    with pytest.raises(Conflict):
        await act(scribe, BOTH)
    assert scribe.calls == ["record"]


def always() -> None:
    """The Lease is ours."""


async def test_an_effect_on_what_is_there_is_bound_to_the_reading_and_else_a_post() -> None:
    scribe = Scribe()
    executor = Executor(cast("Client", scribe), cast("Programs", None), always)
    wanted = {"metadata": {"name": "triage-routes", "namespace": "demo"}}
    await executor._put(CONFIGMAPS, wanted, READ)
    await executor._put(CONFIGMAPS, wanted, None)
    await executor._delete(CONFIGMAPS, READ)
    assert scribe.calls == ["apply", "create", "delete"]
    assert scribe.bound == [BOUND, {}, BOUND]


async def test_what_routes_is_stamped_before_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    executor = Executor(cast("Client", Scribe()), cast("Programs", None), always)
    steps = ("_route", "_put_table", "_refresh_pods")
    called: list[str] = []

    def note(step: str) -> Any:
        async def call(*_: object) -> None:
            called.append(step)

        return call

    for step in steps:
        monkeypatch.setattr(executor, step, note(step))
    program = Program("a", "w1", "a" * 64, "triage:Triage")
    table = Table(Split(Share(program, 0, 100)), 7, "a-1", 3, 1)
    seen = Observation(now=0.0, epoch=2, name="triage", table=table)
    snapshot = Snapshot(Owner("demo", "triage", "u-0"), {}, None)
    given = Given(0.0, 2, "image", 60.0, 30.0, None)
    await executor._restamp(seen, snapshot, Memory(), given)
    assert called == list(steps)


async def test_a_record_is_bound_to_the_reading() -> None:
    scribe = Scribe()
    recorder = Recorder(cast("Client", scribe), always)
    read = {"metadata": dict(META)}
    await recorder._write(DSPYROLLOUTS, read, {"phase": "Stepping"}, Memory())
    assert scribe.bound == [BOUND]
    assert read["metadata"]["resourceVersion"] == "42"


async def test_no_write_without_the_lease() -> None:
    scribe = Scribe()

    def never() -> None:
        raise Conflict("the Lease is not ours")

    executor = Executor(cast("Client", scribe), cast("Programs", None), never)
    with pytest.raises(Conflict):
        await executor._put(CONFIGMAPS, READ, READ)
    with pytest.raises(Conflict):
        await Recorder(cast("Client", scribe), never)._write(DSPYROLLOUTS, READ, {}, Memory())
    assert scribe.calls == []
