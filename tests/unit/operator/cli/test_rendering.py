"""What people read, as golden text: `UPDATE_GOLDEN=1 pytest …` writes it anew, git shows what changed."""

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from tests.unit.operator.cli import samples

from dspy_operator.api.names import Command
from dspy_operator.cli.render.data import Format, dump
from dspy_operator.cli.render.explain import explain_lines
from dspy_operator.cli.render.glyphs import bar
from dspy_operator.cli.render.outcome import outcome_lines
from dspy_operator.cli.render.plain import deployment_lines, status_line, watch_line
from dspy_operator.cli.render.tables import deployments_table, history_table
from dspy_operator.cli.render.tree import deployment_tree
from dspy_operator.cli.views.build import deployment_view, rollout_view
from dspy_operator.cli.views.model import Deployment

GOLDEN = Path(__file__).parent / "golden"
NOW = samples.NOW

WORLDS = {
    "canary": (samples.deployment(), samples.rollout()),
    "rolled-back": (samples.rolled_back(), samples.ended_rollout()),
    "healthy": (samples.healthy(), None),
}


def view_of(world: str) -> Deployment:
    deployment, rollout = WORLDS[world]
    return deployment_view(deployment, rollout, samples.pods())


def assert_golden(name: str, lines: Sequence[str]) -> None:
    file, written = GOLDEN / f"{name}.txt", "\n".join(line.rstrip() for line in lines) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(written, encoding="utf-8")
    assert written == file.read_text(encoding="utf-8")


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("wide", [False, True])
def test_the_tree(world: str, *, wide: bool) -> None:
    drawn = io.StringIO()
    console = Console(file=drawn, width=130, color_system=None)
    console.print(deployment_tree(view_of(world), NOW, wide=wide))
    assert_golden(f"tree-{world}{'-wide' if wide else ''}", drawn.getvalue().splitlines())


@pytest.mark.parametrize("world", WORLDS)
def test_the_plain_lines(world: str) -> None:
    view = view_of(world)
    assert_golden(f"plain-{world}", [*deployment_lines(view, NOW), status_line(view), watch_line(view, NOW)])


@pytest.mark.parametrize("world", ["canary", "rolled-back"])
def test_the_explanation(world: str) -> None:
    rollout = view_of(world).rollout
    assert rollout is not None
    assert_golden(f"explain-{world}", explain_lines(rollout, NOW))


def test_the_tables() -> None:
    views = [view_of(world) for world in WORLDS]
    rollouts = [rollout_view(samples.ended_rollout()), rollout_view(samples.rollout())]
    assert_golden(
        "tables",
        [
            *deployments_table(views, NOW),
            *deployments_table(views, NOW, namespaces=True, wide=True),
            *history_table(rollouts, NOW),
        ],
    )


def test_json_and_yaml_say_the_same_in_camel_case() -> None:
    view = view_of("canary")
    data = json.loads(dump(view, Format.JSON))
    assert data == yaml.safe_load(dump(view, Format.YAML))
    assert data["stable"]["weight"] == 90
    assert data["rollout"]["metrics"][0]["canarySamples"] == 214
    assert data["rollout"]["steps"][0]["state"] == "current"
    assert json.loads(dump([view], Format.JSON)) == [data]


@pytest.mark.parametrize(
    ("share", "drawn"),
    [(0.0, "░░░░"), (0.01, "█░░░"), (0.5, "██░░"), (0.99, "███░"), (1.0, "████"), (7, "████")],
)
def test_a_bar_is_full_only_when_evidence_fires(share: float, drawn: str) -> None:
    assert bar(share, 4) == drawn


def test_a_command_says_what_it_changed() -> None:
    after = samples.rollout()
    after["status"] |= {"step": 2, "weight": 50, "message": "Promoted to step 2 by a person"}
    before = deployment_view(samples.deployment(), samples.rollout())
    lines = outcome_lines(Command.PROMOTE, before, deployment_view(samples.deployment(), after))
    assert lines == [
        "support-triage: promote was handled: step 1 → 2, weight 10 % → 50 %",
        "  Promoted to step 2 by a person",
    ]


def test_a_command_that_changed_nothing_says_what_is() -> None:
    view = deployment_view(samples.healthy())
    lines = outcome_lines(Command.ABORT, view, view)
    assert lines == ["support-triage: abort was handled", "  aaaaaaaaaaaa serves"]


def test_resume_says_when_the_manifest_wins() -> None:
    paused = samples.deployment()
    paused["spec"]["paused"] = True
    view = deployment_view(paused)
    assert "spec.paused is true and wins" in outcome_lines(Command.RESUME, view, view)[-1]
    assert len(outcome_lines(Command.PAUSE, view, view)) == 2
