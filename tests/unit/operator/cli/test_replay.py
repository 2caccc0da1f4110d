"""`explain --replay`: every verdict again from the record, and any disagreement with status is found."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.unit.operator.rollout.telling import Teller
from tests.unit.operator.rollout.test_stories import STORIES
from tests.unit.operator.rollout.world import World

from dspy_operator.cli.exits import Exit
from dspy_operator.cli.main import run
from dspy_operator.cli.offline import replaying
from dspy_operator.cli.offline.replaying import build_replay
from dspy_operator.rollout.actions import Decision
from dspy_operator.rollout.judging import Action
from dspy_operator.rollout.judging.record import fold, from_text, start_record, to_text
from dspy_operator.rollout.model import Observation
from dspy_operator.rollout.records import build_rollout_record
from dspy_operator.rollout.status import build_evidence

Wire = dict[str, Any]
Recorder = Callable[..., dict[str, Wire]]


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Tell a story; what the API server would hold of each attempt, by name."""
    saved: dict[str, Wire] = {}
    make_pass = World.make_pass

    def make_recorded_pass(world: World, *, kill: bool = False) -> tuple[Observation, Decision]:
        seen, decision = make_pass(world, kill=kill)
        if decision.rollout is not None and seen.rollout is not None:
            written = build_rollout_record(decision.rollout) | build_evidence(seen, decision)
            saved.setdefault(seen.rollout.name, {}).update(json.loads(json.dumps(written)))
        return seen, decision

    def tell(story: str, *, kill: bool = False) -> dict[str, Wire]:
        monkeypatch.setattr(World, "make_pass", make_recorded_pass)
        teller = Teller(kill=kill)
        STORIES[story](teller)
        teller.settle()
        return {name: build_rollout(name, status) for name, status in saved.items()}

    return tell


def build_rollout(name: str, status: Wire) -> Wire:
    return {
        "apiVersion": "dspy-operator.io/v1alpha1",
        "kind": "DSPyRollout",
        "metadata": {"name": name},
        "status": status,
    }


GOOD = "a-good-artifact-is-promoted"
BAD = "a-bad-artifact-is-rolled-back-and-stays-so"


@pytest.mark.parametrize("story", STORIES)
def test_every_attempt_of_every_story_gives_the_same_verdicts_again(record: Recorder, story: str) -> None:
    assert_replayed(record(story))


@pytest.mark.parametrize("story", [GOOD, BAD])
def test_so_does_one_whose_operator_was_killed_at_every_pass(record: Recorder, story: str) -> None:
    assert_replayed(record(story, kill=True))


def assert_replayed(rollouts: dict[str, Wire]) -> None:
    judged = [rollout for rollout in rollouts.values() if rollout["status"].get("looks")]
    replays = [build_replay(rollout) for rollout in judged]
    assert [(replay.difference, replay.older) for replay in replays] == [("", 0)] * len(judged)


@pytest.fixture
def promoted(record: Recorder) -> Wire:
    return record(GOOD)["b-1"]


@pytest.fixture
def rolled_back(record: Recorder) -> Wire:
    return record(BAD)["b-1"]


def test_the_looks_and_the_decisions_that_they_caused_are_named(promoted: Wire) -> None:
    replay = build_replay(promoted)
    assert len(replay.verdicts) == 18
    assert [(one.reason, one.look) for one in replay.decisions] == [
        ("GateOpen", 6),
        ("EvidenceOfQuality", 12),
    ]
    assert replay.verdicts[-1].action is Action.PROMOTE


def change_numbers(rollout: Wire) -> None:
    entry = next(e for e in rollout["status"]["decisions"] if e["reason"] == "GateOpen")
    entry["message"] = entry["message"].replace("600", "601")


def change_reason(rollout: Wire) -> None:
    entry = next(e for e in rollout["status"]["decisions"] if e["reason"] == "EvidenceOfQuality")
    entry["reason"] = "DeadlineThresholdPassed"


def change_step(rollout: Wire) -> None:
    entry = next(e for e in rollout["status"]["decisions"] if e["reason"] == "GateOpen")
    entry["step"] = 3


def change_metric(rollout: Wire) -> None:
    rollout["status"]["metrics"][0]["evidence"]["promote"] = "9.99"


def change_look(rollout: Wire) -> None:
    looks = json.loads(rollout["status"]["looks"])
    look = next(event for event in looks["events"] if event[0] == "look")
    look[6]["score"][0][1] -= 30
    rollout["status"]["looks"] = json.dumps(looks)


def drop_looks(rollout: Wire) -> None:
    looks = json.loads(rollout["status"]["looks"])
    first = next(event for event in looks["events"] if event[0] == "look")
    looks["events"].remove(first)
    rollout["status"]["looks"] = json.dumps(looks)


@pytest.mark.parametrize(
    "change", [change_numbers, change_reason, change_step, change_metric, change_look, drop_looks]
)
def test_a_record_or_a_status_that_was_changed_is_found_out(
    promoted: Wire, change: Callable[[Wire], None]
) -> None:
    changed = copy.deepcopy(promoted)
    change(changed)
    assert build_replay(changed).difference != ""


def test_a_rollback_that_status_does_not_know_is_a_difference(rolled_back: Wire) -> None:
    entries = rolled_back["status"]["decisions"]
    rolled_back["status"]["decisions"] = [e for e in entries if e["phase"] != "RollingBack"]
    assert "status knows of no rollback" in build_replay(rolled_back).difference


def test_decisions_from_before_the_record_begins_are_counted_not_compared(promoted: Wire) -> None:
    record = from_text(promoted["status"]["looks"])
    begins = next(i for i, event in enumerate(record.events) if '"step",2' in event)
    older = start_record(fold(replace(record, events=record.events[:begins])))
    promoted["status"]["looks"] = to_text(replace(older, events=record.events[begins:]))
    replay = build_replay(promoted)
    assert (replay.difference, replay.older) == ("", 1)
    assert [one.reason for one in replay.decisions] == ["EvidenceOfQuality"]


def test_a_deadline_that_acted_without_a_look_is_judged_again_at_its_time_whoever_told_it(
    record: Recorder,
) -> None:
    rollout = record("prometheus-is-away-and-the-deadline-rolls-back")["b-1"]
    entry = next(e for e in rollout["status"]["decisions"] if e["reason"] == "DeadlineRollback")
    entry["at"] = (datetime.fromisoformat(entry["at"]) - timedelta(minutes=10)).isoformat()
    replay = build_replay(rollout)
    assert ("DeadlineRollback", None) in [(one.reason, one.look) for one in replay.decisions]
    assert replay.difference == ""
    entry["at"] = (datetime.fromisoformat(entry["at"]) - timedelta(hours=2)).isoformat()
    assert "status says DeadlineRollback" in build_replay(rollout).difference


def test_a_message_that_was_cut_is_compared_as_far_as_it_goes(
    promoted: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = next(e for e in promoted["status"]["decisions"] if e["reason"] == "GateOpen")
    entry["message"] = "In short: " + entry["message"][:22]
    assert build_replay(promoted).difference != ""
    monkeypatch.setattr(replaying, "CUT", 32)
    assert build_replay(promoted).difference == ""
    entry["message"] = entry["message"].replace("600", "601")
    assert build_replay(promoted).difference != ""


def explain(rollout: Wire, folder: Path, *options: str) -> int:
    file = folder / "rollout.json"
    file.write_text(json.dumps(rollout))
    return run(["explain", "--file", str(file), *options])


def test_the_command_shows_changes_and_the_last_looks_and_says_that_all_is_the_same(
    promoted: Wire, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert explain(promoted, tmp_path, "--replay") == Exit.HEALTHY
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "18 looks, the same verdict at every look"
    assert "4 more alike" in out
    assert "GateOpen  same, look 6" in out


def test_the_command_ends_with_1_and_the_first_difference(
    promoted: Wire, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change_numbers(promoted)
    assert explain(promoted, tmp_path, "--replay") == Exit.DEGRADED
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("18 looks, DIFFERENT: decision 3: status says GateOpen (score +0.0 % on 601 of 50")


def test_scripts_get_every_look_as_json(
    promoted: Wire, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert explain(promoted, tmp_path, "--replay", "-o", "json") == Exit.HEALTHY
    data = json.loads(capsys.readouterr().out)
    assert (data["same"], len(data["looks"]), data["older"]) == (True, 18, 0)
    assert data["looks"][5]["action"] == "Advance"


def test_a_saved_rollout_is_explained_without_a_cluster(
    rolled_back: Wire, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert explain(rolled_back, tmp_path) == Exit.HEALTHY
    assert "EvidenceOfRegression" in capsys.readouterr().out


def test_without_a_record_or_with_a_strange_one_it_says_so(
    promoted: Wire, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    promoted["status"]["looks"] = '{"version": 99}'
    assert explain(promoted, tmp_path, "--replay") == Exit.USAGE
    assert "of a version known here" in capsys.readouterr().err
    del promoted["status"]["looks"]
    assert explain(promoted, tmp_path, "--replay") == Exit.USAGE
    assert "no record of looks" in capsys.readouterr().err


def test_a_name_and_a_file_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain"]) == Exit.USAGE
    assert run(["explain", "name", "--file", "f"]) == Exit.USAGE
    assert "NAME or --file" in capsys.readouterr().err
