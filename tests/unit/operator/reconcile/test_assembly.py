"""A reconciler has the clock and the dice that it is given, and no others: the simulator lives by that."""

import ast
from pathlib import Path
from typing import Any

import dspy_operator.reconcile
from dspy_operator.reconcile.assembly import Ports, build_reconciler
from dspy_operator.settings import OperatorSettings
from dspy_operator.telemetry import Telemetry

OWN_TIME = {"time", "random", "datetime"}


def list_imports(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    plain = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    return plain | {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}


def test_queue_and_clocks_go_by_the_time_and_the_jitter_that_were_given() -> None:
    now, nobody = [100.0], object()
    ports: Any = Ports(nobody, nobody, nobody, nobody, Telemetry())  # type: ignore[arg-type]  # never asked
    built = build_reconciler(ports, OperatorSettings(), monotonic=lambda: now[0], jitter=lambda: 1.5)
    parts = built._parts
    assert parts.worklist.failed(("ml", "triage")) == 1.5
    for clock in (parts.clock, parts.sampler.clock):
        clock.learn(1_800_000_000.0)
    now[0] += 30
    assert parts.worklist.find_next() == 1.5 - 30
    assert (parts.clock.now(), parts.sampler.clock.now()) == (1_800_000_030.0, 1_800_000_030.0)


def test_no_module_of_the_shell_brings_a_clock_or_dice_of_its_own() -> None:
    shell = Path(dspy_operator.reconcile.__file__).parent
    found = {path.name: list_imports(path) & OWN_TIME for path in shell.glob("*.py")}
    assert found
    assert {name: own for name, own in found.items() if own} == {}
