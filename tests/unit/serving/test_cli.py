import json
from pathlib import Path

import pytest
from tests.unit.serving.programs import Other
from tests.unit.serving.worlds import World, dump_program

from dspy_server.cli import main

MODULE = "tests.unit.serving.programs:Triage"


def test_verify_accepts_what_the_server_would_load(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(world.slot_path(0))
    assert main(["verify", path, "--sha256", world.shas[0], "--module", MODULE]) == 0
    assert main(["verify", path, "--sha256", world.shas[0]]) == 0
    assert capsys.readouterr().err == ""


def test_verify_refuses_with_one_reason_a_line(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    state = json.loads(world.slot_path(0).read_bytes())
    state["route"] |= {"engine": 1, "hook": 2}
    sha256 = world.fill_slot(2, json.dumps(state).encode())
    assert main(["verify", str(world.slot_path(2)), "--sha256", sha256, "--module", MODULE]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "route: unknown key 'engine'",
        "route: unknown key 'hook'",
    ]


@pytest.mark.parametrize(
    "arguments", [["--sha256", "0" * 64], ["--sha256", "x", "--module", "no_such:Thing"]]
)
def test_verify_refuses_other_bytes_and_missing_code(
    world: World, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(world.slot_path(0)), *arguments]) == 1
    assert capsys.readouterr().err


def test_verify_without_a_digest_is_wrong_usage(world: World) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["verify", str(world.slot_path(0))])
    assert caught.value.code == 2


def test_inspect_says_what_an_artifact_holds(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(world.slot_path(0))]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["sha256"] == world.shas[0]
    assert report["predictors"]["route"]["demos"] == 2
    assert report["predictors"]["route"]["fields"] == ["Ticket:", "Queue:"]


def test_inspect_refuses_what_is_no_artifact(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.json"
    path.write_text("{}")
    assert main(["inspect", str(path)]) == 1
    assert main(["inspect", str(tmp_path / "missing.json")]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 2


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ('{"modle": 1, "lm": {"primary": {"model": "openai/x"}}}', "modle: unknown setting"),
        ('{"lm": {"primary": {"model": "openai/x", "maxToken": 1}}}', "lm.primary.maxToken: unknown setting"),
        ('{"lm": {"primary": {"model": "unheard-of/x"}}}', "lm.primary.model"),
        ("{", "not JSON"),
    ],
)
def test_serve_ends_with_2_and_names_the_wrong_setting(
    config: str,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dspy_server.compat.configure", lambda: None)  # only one task may, and a test did
    monkeypatch.setattr("dspy_server.logs.configure", lambda *_, **__: None)
    path = tmp_path / "config.json"
    path.write_text(config)
    assert main(["serve", "--config", str(path)]) == 2
    assert message in capsys.readouterr().err


def test_serve_wants_a_module_for_an_artifact(
    world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"lm": {"primary": {"model": "openai/x"}}}')
    assert main(["serve", "--config", str(path), "--artifact", str(world.slot_path(0))]) == 2
    assert "--module" in capsys.readouterr().err


def test_verify_answers_in_json_for_machines(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(world.slot_path(0))
    assert main(["verify", path, "--sha256", world.shas[0], "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"accepted": True, "reasons": [], "notes": []}
    assert main(["verify", path, "--sha256", "0" * 64, "--json"]) == 1
    answer = capsys.readouterr()
    assert (json.loads(answer.out)["accepted"], answer.err) == (False, "")
    assert len(json.loads(answer.out)["reasons"]) == 1


def test_verify_compares_with_the_stable_program(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = dump_program(Other(), tmp_path)
    sha256 = world.fill_slot(2, other)
    stable, candidate = str(world.slot_path(0)), str(world.slot_path(2))
    assert main(["verify", candidate, "--sha256", sha256, "--stable", stable]) == 1
    assert capsys.readouterr().err == "route: 3 fields, the stable program has 2\n"
    assert main(["verify", str(world.slot_path(1)), "--sha256", world.shas[1], "--stable", stable]) == 0
    state = json.loads(other)
    state["answer"] = state.pop("route")
    sha256 = world.fill_slot(2, json.dumps(state).encode())
    assert main(["verify", candidate, "--sha256", sha256, "--stable", stable]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "no predictor route, which the stable program has",
        "answer: the stable program has no such predictor",
    ]


def test_verify_and_inspect_take_a_uri_as_a_pod_does(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = f"file://{world.slot_path(0)}"
    assert main(["verify", uri, "--sha256", world.shas[0], "--module", MODULE]) == 0
    assert main(["inspect", uri]) == 0
    assert json.loads(capsys.readouterr().out)["sha256"] == world.shas[0]
    assert main(["inspect", "https://127.0.0.1/program.json"]) == 1
    assert "may not come from" in capsys.readouterr().err
