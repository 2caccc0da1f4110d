"""The stories' fixtures: one installation for all, one world for each file, and what was there to see on a failure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.e2e.harness.installation import Installation, open_installation
from tests.e2e.harness.replay import Ledger
from tests.e2e.harness.world import World, delete_abandoned, open_world

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

WORLD = pytest.StashKey[World]()
LEDGER = pytest.StashKey[Ledger]()
WORKERS = pytest.StashKey["Workers"]()
LONGEST = 1800  # the first story of all may have to build the images first


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.timeout(LONGEST))


@pytest.fixture(scope="session")
def installation() -> Iterator[Installation]:
    with open_installation() as found:
        delete_abandoned(found.api)
        yield found


@pytest.fixture(scope="module")
def world(installation: Installation, request: pytest.FixtureRequest) -> Iterator[World]:
    """A world for this file, whose stories follow one another."""
    story = request.path.stem.removeprefix("test_").replace("_", "-")
    with open_world(installation, story) as opened:
        request.session.stash[WORLD] = opened
        yield opened


@pytest.fixture(autouse=True)
def every_rollout_gives_the_same_verdicts_again(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each story with an operator: whatever attempts there are, anywhere in the cluster."""
    if "installation" not in request.fixturenames:
        yield
        return
    installation: Installation = request.getfixturevalue("installation")
    yield
    ledger = request.config.stash.setdefault(LEDGER, Ledger())
    assert ledger.replay(installation.api.list_("DSPyRollout")) == []


class Workers:
    """What the processes of pytest-xdist have replayed: told when they end, printed by the first process."""

    def __init__(self) -> None:
        self.told: list[str] = []

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """A process is over."""
        if "ledger" in getattr(node, "workeroutput", {}):
            self.told.append(node.workeroutput["ledger"])


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(config.stash.setdefault(WORKERS, Workers()))


def pytest_sessionfinish(session: pytest.Session) -> None:
    ledger, output = session.config.stash.get(LEDGER, None), getattr(session.config, "workeroutput", None)
    if ledger is not None and output is not None:
        output["ledger"] = ledger.tell()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    ledger = config.stash.get(LEDGER, None)
    for line in [*config.stash[WORKERS].told, *([ledger.tell()] if ledger else [])]:
        terminalreporter.write_line(line)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    opened = item.session.stash.get(WORLD, None)
    if report.failed and report.when == "call" and opened is not None:
        report.sections.append(("the world", opened.tell()))
    return report
