"""The weekly workflow of the examples: its commands are real ones, and its pull request holds what was harvested."""

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from dspy_server.cli import _build_parser

WORKFLOW = Path(__file__).parents[3] / "examples/workflows/canary-set.yaml"
LINE = json.dumps({"inputs": {"ticket": "a"}, "proposed": {"queue": "x"}, "date": "2026-11-23"}) + "\n"


@pytest.fixture(scope="module")
def steps() -> dict[str, str]:
    job = yaml.safe_load(WORKFLOW.read_text())["jobs"]["harvest"]
    return {step["name"]: step["run"] for step in job["steps"] if "run" in step}


def test_its_harvest_is_a_command_of_the_server(steps: dict[str, str]) -> None:
    words = shlex.split(steps["Harvest"].partition(">")[0])
    options = _build_parser().parse_args(words[words.index("eval") :])
    assert options.harvest == 20
    assert [path.name for path in (options.dataset, *options.against)] == [
        "canary.jsonl",
        "train.jsonl",
        "dev.jsonl",
    ]


def run_git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=x", "-c", "user.email=x@example.com", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("fresh", [LINE, ""])
def test_it_opens_a_pull_request_with_the_fresh_lines_if_there_are_any(
    steps: dict[str, str], tmp_path: Path, fresh: str
) -> None:
    origin, clone, tools = (tmp_path / name for name in ("origin", "clone", "tools"))
    run_git(tmp_path, "init", "-q", "--bare", "-b", "main", str(origin))
    run_git(tmp_path, "clone", "-q", str(origin), str(clone))
    (clone / "data").mkdir()
    (clone / "data/canary.jsonl").write_text("{}\n")
    (clone / "fresh.jsonl").write_text(fresh)
    run_git(clone, "add", "data")
    run_git(clone, "commit", "-qm", "set")
    tools.mkdir()
    (tools / "gh").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    (tools / "gh").chmod(0o755)
    subprocess.run(
        ["bash", "-c", steps["Open the pull request"]],
        cwd=clone,
        check=True,
        capture_output=True,
        env={"PATH": f"{tools}:{os.environ['PATH']}", "DATA": "data", "HOME": str(tmp_path)},
    )
    assert (tmp_path / "asked").exists() == bool(fresh)
    branches = run_git(origin, "branch", "--format=%(refname:short)").split()
    assert len(branches) == bool(fresh)
    if fresh:
        assert run_git(origin, "show", f"{branches[0]}:data/canary.jsonl") == "{}\n" + LINE
        assert "pr create" in (tmp_path / "asked").read_text()
