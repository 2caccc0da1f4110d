"""`dspy-server eval` on the in-context learner: artifacts that are equal, worse by a planted 5 %, and no provider."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dspy
import pytest
from tests.provider.icl_lm import Provider
from tests.unit.serving.programs import Triage
from tests.unit.serving.worlds import MODULE, dump_program

from dspy_server.cli import main

ROOT = Path(__file__).parents[3]
METRIC = "tests.unit.serving.test_eval:metric"
QUEUES = ("billing", "shipping", "account")
WORDS = tuple(f"thing{letter}" for letter in "abcdefghijklmnopqrst")
"""Twenty things: who answers wrongly about one of them is 5 % worse."""


def metric(example: dspy.Example, prediction: dspy.Prediction, trace: object = None) -> float:
    assert set(example.inputs().keys()) == {"ticket"}
    return float(prediction.queue == example.queue)


def fail(example: dspy.Example, prediction: dspy.Prediction) -> float:
    raise KeyError(prediction.queue)


def get_queue(word: str) -> str:
    return QUEUES[WORDS.index(word) % 3]


def build_demos(wrong: tuple[str, ...]) -> list[dspy.Example]:
    return [
        dspy.Example(ticket=word, queue=QUEUES[(WORDS.index(word) + (word in wrong)) % 3]) for word in WORDS
    ]


@dataclass
class Gate:
    """A folder with a set and artifacts, and the command on it."""

    root: Path
    base_url: str
    capsys: pytest.CaptureFixture[str]
    model: str = "icl-100"
    timeout: str = "5s"

    def write_artifact(self, name: str, *wrong: str) -> Path:
        program = Triage()
        program.route.demos = build_demos(wrong)
        path = self.root / name
        path.write_bytes(dump_program(program, self.root))
        return path

    def write_set(self, count: int = 40, **changes: Any) -> Path:
        words = [WORDS[n % len(WORDS)] for n in range(count)]
        lines = [
            {
                "inputs": {"ticket": f"{w} number{n}"},
                "gold": {"queue": get_queue(w)},
                "date": "2026-11-02",
                **changes,
            }
            for n, w in enumerate(words)
        ]
        path = self.root / "set.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return path

    def write_config(self) -> Path:
        lm = {
            "primary": {"model": f"openai/{self.model}", "apiBase": f"{self.base_url}/v1"},
            "timeout": self.timeout,
        }
        path = self.root / "config.json"
        path.write_text(json.dumps({"module": MODULE, "lm": lm}))
        return path

    def list_arguments(self, options: Mapping[str, Any]) -> list[str]:
        defaults = {"metric": METRIC, "dataset": self.root / "set.jsonl", "config": self.write_config()}
        pairs = {"termination_log": self.root / "none", **defaults, **options}
        flags = pairs.pop("flags", ())
        return ["eval", *(f"--{name.replace('_', '-')}={value}" for name, value in pairs.items()), *flags]

    def run(self, **options: Any) -> tuple[int, dict[str, Any]]:
        code = main(self.list_arguments(options))
        result: dict[str, Any] = json.loads(self.capsys.readouterr().out.splitlines()[-1])
        return code, result


@pytest.fixture
def gate(
    tmp_path: Path, base_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Gate:
    monkeypatch.setattr("dspy_server.compat.configure", lambda: None)  # only one task may, and a test did
    monkeypatch.setattr("dspy_server.logs.configure", lambda *_, **__: None)
    gate = Gate(tmp_path, base_url, capsys)
    gate.write_set()
    return gate


@pytest.fixture
def faults(provider: Provider) -> Iterator[Provider]:
    yield provider
    provider.set_faults({})


def test_a_planted_drop_of_5_percent_fails(gate: Gate) -> None:
    gate.write_set(200)
    good, bad = gate.write_artifact("good.json"), gate.write_artifact("bad.json", WORDS[3])
    code, result = gate.run(stable=good, canary=bad)
    assert code == 1
    assert (result["verdict"], result["reason"]) == ("Fail", "DropExceeded")
    assert result["drop"] == 0.05
    assert result["mean"] == {"canary": 0.95, "stable": 1.0}
    assert result["p"] == pytest.approx(2**-10, abs=0.002)
    assert result["worstLines"] == list(range(4, 200, 20))


def test_equal_artifacts_pass(gate: Gate) -> None:
    good = gate.write_artifact("good.json")
    code, result = gate.run(stable=good, canary=good)
    assert (code, result["verdict"], result["drop"], result["p"]) == (0, "Pass", 0.0, 1.0)
    assert result["pairs"] == 40


def test_a_better_artifact_passes(gate: Gate) -> None:
    stable, canary = gate.write_artifact("bad.json", *WORDS[:5]), gate.write_artifact("good.json")
    code, result = gate.run(stable=stable, canary=canary, mode="Threshold")
    assert (code, result["drop"]) == (0, pytest.approx(-1 / 3, abs=1e-5))


def test_few_examples_cannot_tell_a_drop_from_chance_unless_the_literal_rule_is_asked_for(gate: Gate) -> None:
    gate.write_set(20)
    good, bad = gate.write_artifact("good.json"), gate.write_artifact("bad.json", WORDS[3])
    assert gate.run(stable=good, canary=bad)[0] == 0
    assert gate.run(stable=good, canary=bad, mode="Threshold")[0] == 1
    assert gate.run(stable=good, canary=bad, mode="Threshold", max_drop="5%")[0] == 0


def test_a_first_revision_is_gated_by_its_floor(gate: Gate) -> None:
    bad = gate.write_artifact("bad.json", WORDS[3])
    assert gate.run(canary=bad, min_score="0.95")[0] == 0
    code, result = gate.run(canary=bad, min_score="0.96")
    assert (code, result["reason"], result["stableSha256"]) == (1, "BelowMinScore", None)


def test_a_provider_that_is_down_gives_no_verdict_and_is_not_asked_for_ever(
    gate: Gate, faults: Provider
) -> None:
    faults.set_faults({"*": {"fault": "fail500"}})
    before = sum(faults.calls.values())
    good, bad = gate.write_artifact("good.json"), gate.write_artifact("bad.json", WORDS[3])
    code, result = gate.run(stable=good, canary=bad)
    assert (code, result["verdict"], result["reason"]) == (3, "NoVerdict", "ProviderErrors")
    assert sum(faults.calls.values()) - before < 60
    assert result["lost"] < 40, "it ends when there can be no verdict any more"


def test_a_tenth_of_failed_calls_is_no_outage(gate: Gate, faults: Provider) -> None:
    faults.set_faults({"*": {"fault": "fail500", "rate": 0.1}})
    good = gate.write_artifact("good.json")
    code, result = gate.run(stable=good, canary=good)
    assert code == 0
    assert result["lost"] <= 4, "a failed call is made once more"
    assert result["lost"] + result["pairs"] == 40


def test_an_answer_that_cannot_be_read_is_a_failed_example_not_a_lost_one(
    gate: Gate, faults: Provider
) -> None:
    faults.set_faults({"*": {"fault": "garbage"}})
    code, result = gate.run(canary=gate.write_artifact("good.json"), min_score="0.5")
    assert (code, result["lost"], result["failed"]) == (1, 0, {"canary": 40})


def test_a_metric_that_never_gives_a_score_is_the_fault_of_the_metric(gate: Gate) -> None:
    good = gate.write_artifact("good.json")
    code, result = gate.run(stable=good, canary=good, metric="tests.unit.serving.test_eval:fail")
    assert (code, result["reason"]) == (2, "MetricFailed")
    assert "KeyError at line" in result["message"]


@pytest.mark.parametrize(
    ("changes", "reason", "says"),
    [
        ({"dataset": "/no/such/set"}, "SetRefused", "No such file"),
        ({"canary": "/no/such/artifact"}, "ProgramRefused", "/no/such/artifact"),
        ({"metric": "no_such:thing"}, "ProgramRefused", "no_such"),
        ({"module": "tests.unit.serving.programs:Other"}, "ProgramRefused", "route"),
        ({"config": "/no/such/config"}, "SettingsRefused", "/no/such/config"),
    ],
)
def test_what_cannot_be_used_is_named_and_is_no_verdict_on_the_program(
    gate: Gate, changes: dict[str, Any], reason: str, says: str
) -> None:
    code, result = gate.run(**{"canary": gate.write_artifact("good.json"), **changes})
    assert (code, result["verdict"], result["reason"]) == (2, "Invalid", reason)
    assert says in result["message"]


def test_inputs_that_the_program_does_not_take_are_named_before_a_model_is_asked(
    gate: Gate, provider: Provider
) -> None:
    before = sum(provider.calls.values())
    gate.write_set(3, inputs={"tikcet": "x"})
    path = gate.root / "set.jsonl"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    code, result = gate.run(canary=gate.write_artifact("good.json"))
    assert (code, result["reason"]) == (2, "SetRefused")
    assert "line 1: ticket: Field required; tikcet" in result["message"]
    assert sum(provider.calls.values()) == before


def test_the_result_is_left_where_the_kubelet_reads_it(gate: Gate) -> None:
    log = gate.root / "termination-log"
    log.touch()
    _, result = gate.run(canary=gate.write_artifact("good.json"), termination_log=log)
    assert json.loads(log.read_text()) == result
    assert len(result["setSha256"]) == 64


def refer(gate: Gate, uri: str, sha256: str) -> Path:
    """As the operator mounts a program that lies elsewhere."""
    folder = gate.root / "canary"
    folder.mkdir()
    (folder / "program.ref").write_text(json.dumps({"uri": uri, "sha256": sha256}))
    return folder / "program.json"


def test_a_program_that_lies_elsewhere_is_fetched_and_its_digest_checked(gate: Gate) -> None:
    good = gate.write_artifact("good.json")
    digest = hashlib.sha256(good.read_bytes()).hexdigest()
    code, result = gate.run(canary=refer(gate, f"file://{good}", digest))
    assert (code, result["canarySha256"]) == (0, digest)
    shutil.rmtree(gate.root / "canary")
    code, result = gate.run(canary=refer(gate, f"file://{good}", "0" * 64))
    assert (code, result["reason"]) == (2, "ProgramRefused")


def test_a_store_that_does_not_answer_gives_no_verdict(gate: Gate) -> None:
    code, result = gate.run(canary=refer(gate, f"file://{gate.root}/gone.json", "0" * 64))
    assert (code, result["verdict"], result["reason"]) == (3, "NoVerdict", "SourceUnavailable")


@pytest.mark.parametrize("option", ["--max-drop=2", "--min-score=70", "--confidence=x", "--concurrency=0"])
def test_a_wrong_number_is_wrong_usage(gate: Gate, option: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*gate.list_arguments({"canary": "x"}), option])
    assert caught.value.code == 2


def test_as_a_process_it_prints_the_result_and_nothing_else_and_its_exit_code_is_the_verdict(
    gate: Gate,
) -> None:
    gate.base_url = "http://127.0.0.1:9"  # the discard port: nobody listens
    good = gate.write_artifact("good.json")
    command = [sys.executable, "-m", "dspy_server.cli", *gate.list_arguments({"canary": good})]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT, check=False)
    assert ended.returncode == 3, ended.stderr
    assert json.loads(ended.stdout)["verdict"] == "NoVerdict"
    assert "breaker_opened" in ended.stderr


def write_other_signature(gate: Gate) -> Path:
    """An artifact of a program with another field than the module's."""
    program = dspy.Predict("ticket, customer -> queue")
    holder = Triage()
    holder.route = program
    path = gate.root / "other.json"
    path.write_bytes(dump_program(holder, gate.root))
    return path


def test_stable_of_other_code_leaves_the_floor_to_decide(gate: Gate) -> None:
    good, other = gate.write_artifact("good.json"), write_other_signature(gate)
    alone = {"stable": other, "canary": good, "flags": ("--stable-may-differ",)}
    code, result = gate.run(**alone, min_score="0.9")
    assert (code, result["verdict"]) == (0, "Pass")
    assert result["stableSha256"] is None
    assert "stable's artifact does not fit this code" in result["message"]
    bad = gate.write_artifact("bad.json", *WORDS[:4])
    code, result = gate.run(**(alone | {"canary": bad}), min_score="0.9")
    assert (code, result["verdict"]) == (1, "Fail")


def test_stable_of_other_code_without_a_floor_is_no_comparison(gate: Gate) -> None:
    good, other = gate.write_artifact("good.json"), write_other_signature(gate)
    code, result = gate.run(stable=other, canary=good, flags=("--stable-may-differ",))
    assert (code, result["verdict"], result["reason"]) == (2, "Invalid", "ProgramRefused")
    assert "give a minScore" in result["message"]


def test_stable_of_the_same_code_must_fit(gate: Gate) -> None:
    good, other = gate.write_artifact("good.json"), write_other_signature(gate)
    code, result = gate.run(stable=other, canary=good, min_score="0.9")
    assert (code, result["verdict"]) == (2, "Invalid")
    assert "minScore" not in result["message"]
