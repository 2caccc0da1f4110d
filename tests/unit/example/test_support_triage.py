"""The example: its tickets repeat, its ruler follows the truth, its artifacts are as good as the table says."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.provider.icl_lm import run_provider
from tests.provider.manifest import build_provider_objects
from tests.traffic.expected import EXAMPLE, WORTH, load_example, measure

if TYPE_CHECKING:
    from pathlib import Path

ROOT = EXAMPLE.parents[1]
tickets = load_example("tickets")


@pytest.fixture(scope="module")
def triage() -> Any:
    return load_example("support_triage")


def compile_into(out: Path, *only: str) -> dict[str, dict[str, Any]]:
    with run_provider() as url:
        command = [sys.executable, str(EXAMPLE / "compile.py"), "--api-base", f"{url}/v1", "--out", str(out)]
        more = ["--only", *only] if only else []
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        subprocess.run(
            [*command, *more], check=True, env=environment, cwd=ROOT, capture_output=True, timeout=300
        )
    rows: dict[str, dict[str, Any]] = json.loads((out / "artifacts.json").read_text())
    return rows


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Any]]]:
    out = tmp_path_factory.mktemp("artifacts")
    return out, compile_into(out)


def test_the_committed_data_is_what_the_script_writes(tmp_path: Path) -> None:
    script = [sys.executable, "-B", str(EXAMPLE / "make_data.py"), "--out", str(tmp_path)]
    subprocess.run(script, check=True, capture_output=True)
    for name in ("train", "dev", "canary"):
        assert (tmp_path / f"{name}.jsonl").read_bytes() == (EXAMPLE / f"data/{name}.jsonl").read_bytes()


def get_ticket(row: dict[str, Any]) -> dict[str, str]:
    return row["inputs"] | row["gold"] if "gold" in row else row


def test_no_ticket_is_in_two_sets_and_every_queue_is_in_each() -> None:
    rows = {
        n: [get_ticket(json.loads(x)) for x in (EXAMPLE / f"data/{n}.jsonl").read_text().splitlines()]
        for n in ("train", "dev", "canary")
    }
    texts = [row["ticket"] for lines in rows.values() for row in lines]
    assert len(set(texts)) == len(texts) == 480
    assert len(rows["train"]) >= 60
    assert len(rows["canary"]) == 200
    assert all({row["queue"] for row in lines} == set(tickets.THINGS) for lines in rows.values())


def test_a_stream_of_tickets_repeats_for_its_seed_and_never_repeats_a_text() -> None:
    stream = [tickets.build_ticket(1000, n) for n in range(3000)]
    assert stream == [tickets.build_ticket(1000, n) for n in range(3000)]
    assert stream != [tickets.build_ticket(1001, n) for n in range(3000)]
    assert len({t["ticket"] for t in stream}) == 3000
    assert min(Counter(t["queue"] for t in stream).values()) > 500


def judge(triage: Any, ticket: str, queue: str) -> float:
    value: float = triage.score({"ticket": ticket}, SimpleNamespace(queue=queue))
    return value


def test_the_ruler_gives_one_half_or_nothing_by_the_words_of_the_ticket(triage: Any) -> None:
    text = "The courier lost my parcel. The invoice was fine."
    assert judge(triage, text, "shipping") == 1.0
    assert judge(triage, text, "billing") == 0.5
    assert judge(triage, text, "sales") == 0.0
    assert judge(triage, "The demo of my profile", "sales") == 0.5
    assert judge(triage, text, "no such queue") == 0.0


def test_the_ruler_needs_no_label_and_yet_follows_it(triage: Any) -> None:
    stream = [tickets.build_ticket(2000, n) for n in range(2000)]
    right = sum(judge(triage, t["ticket"], t["queue"]) for t in stream) / len(stream)
    queues = list(tickets.THINGS)
    wrong = [(t["ticket"], queues[(queues.index(t["queue"]) + 1 + n % 4) % 5]) for n, t in enumerate(stream)]
    assert right > 0.98
    assert sum(judge(triage, *w) for w in wrong) / len(wrong) < 0.05


def test_every_artifact_is_as_good_on_the_canary_set_as_its_table_says(
    artifacts: tuple[Path, dict[str, dict[str, Any]]],
) -> None:
    accuracy = {name: row["accuracy"] for name, row in artifacts[1].items()}
    assert accuracy == {"v1": 0.745, "v2": 0.885, "v3": 0.73, "v2-minus2": 0.865, "v2-slow": 0.885}


@pytest.mark.parametrize(
    ("canary", "mode", "code", "drop", "p"),
    [
        ("v3", "Evidence", 1, 0.175141, 0.0001),
        ("v2-minus2", "Evidence", 0, 0.022599, 0.113),
        ("v2-minus2", "Threshold", 1, 0.022599, 0.113),
    ],
)
def test_the_regression_gate_refuses_the_worse_artifact_and_not_the_one_that_chance_explains(
    artifacts: tuple[Path, dict[str, dict[str, Any]]],
    tmp_path: Path,
    canary: str,
    mode: str,
    code: int,
    drop: float,
    p: float,
) -> None:
    with run_provider() as url:
        lm = {"primary": {"model": "openai/icl-95", "apiBase": f"{url}/v1"}}
        config = tmp_path / "config.json"
        config.write_text(json.dumps({"module": "support_triage:Triage", "lm": lm}))
        options = {
            "config": config,
            "dataset": "data/canary.jsonl",
            "metric": "support_triage:metric",
            "stable": artifacts[0] / "v2.json",
            "canary": artifacts[0] / f"{canary}.json",
            "mode": mode,
        }
        command = [sys.executable, "-B", "-m", "dspy_server.cli", "eval"]
        ended = subprocess.run(
            [*command, *(f"--{name}={value}" for name, value in options.items())],
            capture_output=True,
            cwd=EXAMPLE,
            timeout=120,
            check=False,
        )
    assert ended.returncode == code, ended.stderr
    result = json.loads(ended.stdout)
    assert (result["drop"], result["p"], result["examples"]) == (drop, p, 200)
    assert result["canarySha256"] == artifacts[1][canary]["sha256"]


def test_over_a_long_stream_each_artifact_is_worth_what_the_end_to_end_tests_expect(
    artifacts: tuple[Path, dict[str, dict[str, Any]]],
) -> None:
    for name, worth in WORTH.items():
        found = measure(artifacts[0] / f"{name}.json", 3000)
        assert found.accuracy == pytest.approx(worth.accuracy, abs=0.025), name
        assert found.score == pytest.approx(worth.score, abs=0.025), name
        assert found.prompt_tokens == pytest.approx(worth.prompt_tokens, rel=0.01), name


def test_the_table_tells_the_stories_that_the_artifacts_are_for() -> None:
    def get_drop(name: str) -> float:
        return 1 - WORTH[name].score / WORTH["v2"].score

    assert get_drop("v1") > 0.1
    assert 0.18 <= get_drop("v3") <= 0.22
    assert 0.0 < get_drop("v2-minus2") <= 0.03
    assert get_drop("v2-slow") == 0.0
    assert WORTH["v2-slow"].prompt_tokens / WORTH["v2"].prompt_tokens > 2.2


def test_compiling_again_gives_the_same_bytes(
    artifacts: tuple[Path, dict[str, dict[str, Any]]], tmp_path: Path
) -> None:
    again = compile_into(tmp_path, "v2")
    assert again["v2"] == artifacts[1]["v2"]
    digest = hashlib.sha256((tmp_path / "v2.json").read_bytes()).hexdigest()
    assert again["v2"]["sha256"] == digest


def test_artifacts_embed_no_lm_and_the_bad_ones_are_bad(
    artifacts: tuple[Path, dict[str, dict[str, Any]]], triage: Any
) -> None:
    out = artifacts[0]
    for name in WORTH:
        assert json.loads((out / f"{name}.json").read_text())["route"]["lm"] is None
    program = triage.Triage()
    good, other = (json.loads((out / f).read_text()) for f in ("v1.json", "bad/other-signature.json"))
    assert len(other["route"]["signature"]["fields"]) != len(good["route"]["signature"]["fields"])
    with pytest.raises(KeyError):
        program.load(out / "bad/not-a-program.json")


async def test_the_program_answers_blocking_and_not(triage: Any) -> None:
    import dspy  # noqa: PLC0415 - only this test needs it here

    with run_provider() as url:
        lm = dspy.LM("openai/icl-100", api_base=f"{url}/v1", api_key="k", cache=False, num_retries=0)
        with dspy.context(lm=lm):
            answer = await triage.Triage().acall(ticket="a question for sales")
    assert answer.queue == "sales"


def test_the_providers_manifest_takes_its_image_code_and_latency() -> None:
    objects = build_provider_objects("ml", "localhost/python:1", {"LATENCY": "0.5"})
    code, deployment, service = objects
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    assert {o["metadata"]["namespace"] for o in objects} == {"ml"}
    assert set(code["data"]) == {"icl_lm.py", "learner.py"}
    assert container["image"] == "localhost/python:1"
    assert {"name": "LATENCY", "value": "0.5"} in container["env"]
    assert service["metadata"]["name"] == "lm-provider"


def test_the_manifests_agree_about_names_and_leave_only_the_artifact_blank() -> None:
    folder = EXAMPLE / "manifests"
    documents = [d for f in sorted(folder.glob("*.yaml")) for d in yaml.safe_load_all(f.read_text())]
    by_kind = {d["kind"]: d for d in documents}
    spec = by_kind["DSPyDeployment"]["spec"]
    primary = spec["lm"]["primary"]
    assert primary["apiKeySecret"]["key"] in by_kind["Secret"]["stringData"]
    assert primary["apiKeySecret"]["name"] == by_kind["Secret"]["metadata"]["name"]
    assert primary["apiBase"] == f"http://{by_kind['Service']['metadata']['name']}/v1"
    assert spec["program"]["artifact"]["sha256"] == "SHA256"
