"""An API server that is away for a moment: who watches or waits goes on, who asks once is told."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from tests.unit.operator.cli import samples

from dspy_operator.cli import asking, reading
from dspy_operator.cli.access import Cluster, Target, explain
from dspy_operator.cli.exits import Exit
from dspy_operator.cli.main import run
from dspy_operator.errors import Conflict, Permanent, Transient
from dspy_operator.kube.resources import Resource

Object = dict[str, Any]
AWAY = Transient("get dspydeployments support-triage: the API server cannot be reached")


class Scripted:
    """A client whose reads of the DSPyDeployment go by a script: an object, None (gone) or an error."""

    server_time = samples.NOW

    def __init__(self, script: Iterable[Object | Exception | None]) -> None:
        self.script = iter(script)
        self.annotations: list[dict[str, str]] = []

    async def find(self, resource: Resource, namespace: str, name: str) -> Object | None:
        if resource.kind != "DSPyDeployment":
            return None
        found = next(self.script)
        if isinstance(found, Exception):
            raise found
        return found

    async def list_(self, resource: Resource, namespace: str | None, **_: Any) -> list[Object]:
        return []

    async def annotate(self, resource: Resource, namespace: str, name: str, values: dict[str, str]) -> None:
        self.annotations.append(values)


def play(monkeypatch: pytest.MonkeyPatch, *script: Object | Exception | None) -> Scripted:
    client = Scripted(script)

    @asynccontextmanager
    async def open_scripted(target: Target) -> AsyncIterator[Cluster]:
        yield Cluster(cast("Any", client), target.namespace or "ml")

    for module in (reading, asking):
        monkeypatch.setattr(module, "open_cluster", open_scripted)
        monkeypatch.setattr(module, "POLL", 0.0)
    monkeypatch.setattr(asking, "SETTLE", 0.0)
    return client


def test_a_watch_goes_on_and_ends_when_the_object_is_gone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    play(monkeypatch, AWAY, samples.deployment(), AWAY, samples.healthy(), None)
    assert run(["get", "support-triage", "-w"]) == Exit.USAGE
    shown = capsys.readouterr()
    assert shown.out.splitlines()[-1].endswith("Healthy  0 %  aaaaaaaaaaaa serves")
    assert "There is no DSPyDeployment support-triage" in shown.err


def test_who_asks_once_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, AWAY)
    with pytest.raises(Transient):
        run(["get", "support-triage"])


def test_status_waits_through_it(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, AWAY, samples.deployment(), AWAY, samples.healthy())
    assert run(["status", "support-triage", "--wait"]) == Exit.HEALTHY


def test_a_command_waits_through_it(monkeypatch: pytest.MonkeyPatch) -> None:
    nonce = "2026-11-23T10:12:30Z"
    done = samples.healthy()
    done["status"]["handledCommands"] = {"retry": [nonce]}
    client = play(monkeypatch, samples.healthy(), AWAY, samples.healthy(), done, AWAY, done)
    assert run(["retry", "support-triage"]) == Exit.HEALTHY
    assert client.annotations == [{"dspy-operator.io/retry": nonce}]


def test_an_object_that_goes_while_a_command_waits_ends_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    play(monkeypatch, samples.healthy(), None)
    assert run(["retry", "support-triage"]) == Exit.USAGE
    assert "There is no DSPyDeployment" in capsys.readouterr().err


def test_errors_of_the_api_server_say_what_to_do() -> None:
    assert "Try again" in explain(AWAY)
    assert "Is the operator installed" in explain(Conflict("list dspydeployments: 404"))
    assert "refused: list dspydeployments: 403" in explain(Permanent("list dspydeployments: 403"))
