"""`backtest`: recorded looks in, the core's verdicts out, in the published format."""

import json
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.unit.operator.cli.recorded import GOLDEN_PROMOTE, GOLDEN_ROLLBACK, REFERENCE, SCORE, build_manifest

from dspy_operator.cli.exits import Exit
from dspy_operator.cli.main import run

Line = dict[str, Any]


class Bench:
    """Files in, lines out."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys
        self.error = ""

    def run(self, lines: list[Line] | str, *options: str, **manifest: Any) -> list[Line]:
        end = self.end(lines, *options, **manifest)
        written = self.capsys.readouterr()
        self.error = written.err
        assert end == Exit.HEALTHY, written.err
        return [json.loads(line) for line in written.out.splitlines()]

    def refuse(self, lines: list[Line] | str, **manifest: Any) -> str:
        assert self.end(lines, **manifest) == Exit.USAGE
        return self.capsys.readouterr().err

    def end(self, lines: list[Line] | str, *options: str, **manifest: Any) -> int:
        config, looks = self.folder / "cr.yaml", self.folder / "looks.jsonl"
        config.write_text(json.dumps(build_manifest(**manifest)))
        looks.write_text(lines if isinstance(lines, str) else "\n".join(map(json.dumps, lines)))
        return run(["backtest", "--config", str(config), "--looks", str(looks), *options])


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    return Bench(tmp_path, capsys)


def test_the_published_rollback_comes_out_to_six_digits(bench: Bench) -> None:
    rows = bench.run([REFERENCE, *GOLDEN_ROLLBACK])
    assert [row["action"] for row in rows] == ["Hold"] * 4 + ["RollBack"]
    assert [round(row["lnE"]["rollback"], 6) for row in rows] == [
        0.211799,
        1.741566,
        1.741566,
        2.224502,
        3.878737,
    ]
    assert round(rows[-1]["drop"], 6) == 0.209334
    assert list(rows[0]) == [
        *("run", "t", "step", "weight", "action", "metric", "drop", "evidence", "lnE", "reason")
    ]
    assert rows[-1]["evidence"]["rollback"] == pytest.approx(3.878737 / 2.995732, abs=1e-6)
    assert (rows[0]["t"], rows[0]["step"], rows[0]["weight"], rows[0]["metric"]) == (30, 1, 10, "score")


def test_the_published_promotion_advances_and_promotes(bench: Bench) -> None:
    rows = bench.run([REFERENCE, *GOLDEN_PROMOTE])
    assert [row["action"] for row in rows] == ["Hold", "Advance", "Hold", "Hold", "Promote"]
    assert [row["weight"] for row in rows] == [10, 10, 50, 50, 50]
    assert round(rows[-1]["lnE"]["promote"], 6) == 4.816061


def test_a_summary_says_how_each_run_ended_and_after_which_samples(bench: Bench) -> None:
    lines = [REFERENCE, *GOLDEN_ROLLBACK, {**REFERENCE, "run": "r1"}]
    lines += [{**line, "run": "r1"} for line in GOLDEN_PROMOTE]
    lines += [{**line, "run": "r2"} for line in GOLDEN_PROMOTE[:2]]
    assert bench.run(lines, "--summary") == [
        {
            "run": "r0",
            "outcome": "RolledBack",
            "reason": "EvidenceOfRegression",
            "t": 150,
            "step": 1,
            "canarySamples": 83,
            "stableSamples": 720,
        },
        {
            "run": "r1",
            "outcome": "Promoted",
            "reason": "EvidenceOfQuality",
            "t": 180,
            "step": 2,
            "canarySamples": 249,
            "stableSamples": 679,
        },
        {
            "run": "r2",
            "outcome": "Undecided",
            "reason": "GateOpen",
            "t": 60,
            "step": 1,
            "canarySamples": 55,
            "stableSamples": 495,
        },
    ]


def test_interleaved_runs_are_judged_apart_and_a_run_needs_no_name(bench: Bench) -> None:
    alone = bench.run([REFERENCE, *GOLDEN_PROMOTE])
    nameless = [{k: v for k, v in line.items() if k != "run"} for line in [REFERENCE, *GOLDEN_PROMOTE]]
    mixed = [line for pair in zip(nameless, [REFERENCE, *GOLDEN_PROMOTE], strict=True) for line in pair]
    rows = bench.run(mixed)
    assert [row for row in rows if row["run"] == "r0"] == alone
    assert [{**row, "run": "r0"} for row in rows if row["run"] is None] == alone


def test_a_reference_without_a_run_is_everybodys(bench: Bench) -> None:
    shared = {k: v for k, v in REFERENCE.items() if k != "run"}
    assert bench.run([*GOLDEN_ROLLBACK, shared]) == bench.run([REFERENCE, *GOLDEN_ROLLBACK])
    assert bench.run(GOLDEN_ROLLBACK) != bench.run([REFERENCE, *GOLDEN_ROLLBACK])


def test_lines_of_one_time_form_one_look_and_the_telling_metric_is_shown(bench: Bench) -> None:
    errors = {"name": "errors", "type": "ErrorRate", "maxIncreasePoints": "1"}
    latency = {"name": "latency", "type": "LatencyP95", "maxIncrease": "20%"}
    looks = [
        line
        for k in range(1, 6)
        for line in (
            {**GOLDEN_PROMOTE[0], "t": 30 * k},
            {
                "run": "r0",
                "t": 30 * k,
                "metric": "errors",
                "canary": {"n": 50, "bad": 15},
                "stable": {"n": 450, "bad": 4},
            },
            {
                "run": "r0",
                "t": 30 * k,
                "metric": "latency",
                "canary": {"n": 50, "slow": 2},
                "stable": {"n": 450, "slow": 9, "slowT2": 20},
            },
        )
    ]
    rows = bench.run(looks, metrics=[SCORE, latency, errors])
    assert rows[-1]["action"] == "RollBack"
    assert rows[-1]["metric"] == "errors"
    assert len(rows) == rows[-1]["t"] // 30


def test_unsettled_looks_and_outages_hold(bench: Bench) -> None:
    unsettled = bench.run([{**GOLDEN_ROLLBACK[0], "settled": False}])
    assert unsettled[0]["reason"] == "WeightNotEffective"
    failing = {**GOLDEN_ROLLBACK[0], "requests": [20, 180], "provider_errors": [2, 90]}
    assert bench.run([failing, GOLDEN_ROLLBACK[1]])[1]["reason"] == "LMOutage"


def test_requests_that_contradict_the_weight_hold(bench: Bench) -> None:
    lines = [
        {**GOLDEN_PROMOTE[0], "t": 30 * k, "requests": {"canary": 60, "stable": 140}} for k in range(1, 9)
    ]
    assert bench.run(lines)[-1]["reason"] == "SampleRatioMismatch"


def test_times_may_be_unix_seconds(bench: Bench) -> None:
    later = [{**line, "t": line["t"] + 1_800_000_000} for line in GOLDEN_PROMOTE]
    shifted = [{**row, "t": row["t"] - 1_800_000_000} for row in bench.run([REFERENCE, *later])]
    assert shifted == bench.run([REFERENCE, *GOLDEN_PROMOTE])


def test_the_bake_goes_on_after_a_promotion_and_may_take_it_back(bench: Bench) -> None:
    bad = [
        {**GOLDEN_PROMOTE[0], "t": 180 + 30 * k, "canary": {"n": 60, "sum": 20, "sumsq": 18}}
        for k in range(1, 9)
    ]
    rows = bench.run([REFERENCE, *GOLDEN_PROMOTE, *bad], bake="10m")
    assert rows[4]["action"] == "Promote"
    assert rows[-1]["action"] == "RollBack"
    assert rows[-1]["weight"] == 100
    summary = bench.run([REFERENCE, *GOLDEN_PROMOTE, *bad], "--summary", bake="10m")
    assert summary[0]["outcome"] == "RolledBack"
    summary = bench.run([REFERENCE, *GOLDEN_PROMOTE], "--summary", bake="10m")
    assert (summary[0]["outcome"], summary[0]["t"]) == ("Promoted", 180)


def test_a_metric_that_no_look_has_is_warned_of(bench: Bench) -> None:
    errors = {"name": "errors", "type": "ErrorRate", "maxIncreasePoints": "1"}
    rows = bench.run(GOLDEN_PROMOTE, metrics=[SCORE, errors])
    assert {row["action"] for row in rows} == {"Hold"}
    assert "no look has errors" in bench.error


def test_a_manifest_without_metrics_judges_a_score_when_there_are_scores(bench: Bench) -> None:
    bench.run(GOLDEN_PROMOTE, metrics=None)
    assert "no look has latency and errors" in bench.error


LOOK = GOLDEN_ROLLBACK[0]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2: no JSON"),
        ("[]", "line 2: not a JSON object"),
        (
            {**LOOK, "metric": "scores"},
            "line 2, metric: 'scores' is no metric of the configuration, which has score",
        ),
        ({**LOOK, "t": "60"}, "line 2, t: '60' is no finite number"),
        ({k: v for k, v in LOOK.items() if k != "t"}, "line 2, t: is missing"),
        ({**LOOK, "t": 10}, "line 2, t: 10 is earlier than 30"),
        (LOOK, "line 2, metric: score comes twice at t = 30"),
        ({**LOOK, "t": 60, "canary": 5}, "line 2, canary: must be an object"),
        ({**LOOK, "t": 60, "canary": {"n": -1}}, "line 2, canary.n: -1 is below 0"),
        ({**LOOK, "t": 60, "canary": {"n": 20}}, "line 2, canary.sum: is missing"),
        ({**LOOK, "t": 60, "canary": {"n": 1, "summ": 1}}, "line 2, canary.summ: unknown field"),
        ({**LOOK, "t": 60, "stable": {"n": 2, "sum": 3}}, "line 2, stable: these cannot be the sums"),
        ({**LOOK, "t": 60, "settled": 1}, "line 2, settled: 1 is neither true nor false"),
        ({**LOOK, "t": 60, "requests": 5}, "line 2, requests: must be [canary, stable]"),
        ({**LOOK, "t": 60, "weigth": 5}, "line 2, weigth: unknown field"),
        ({**LOOK, "t": 60, "run": 1}, "line 2, run: 1 is no string"),
        ({**REFERENCE, "reference": {"n": 0, "sum": 0}}, "line 2, reference.n: must be above 0"),
        ({**REFERENCE, "reference": {"n": 1, "sum": 4}}, "line 2, reference: these cannot be the sums"),
        ('{"run": "r0", "t": NaN, "metric": "score"}', "line 2, t: nan is no finite number"),
    ],
)
def test_an_error_names_the_line_and_the_field(bench: Bench, line: Line | str, said: str) -> None:
    second = line if isinstance(line, str) else json.dumps(line)
    assert said in bench.refuse(f"{json.dumps(LOOK)}\n{second}\n")


def test_an_error_of_the_manifest_names_its_field(bench: Bench) -> None:
    wrong = [{**SCORE, "maxDrop": "five"}]
    assert "spec.strategy.canary.analysis.metrics[0].maxDrop" in bench.refuse(GOLDEN_ROLLBACK, metrics=wrong)
    steps = [{"weight": 50}, {"weight": 10}]
    assert "weights must rise to 100, not 50, 10" in bench.refuse(GOLDEN_ROLLBACK, steps=steps)


def test_files_that_are_not_there_or_hold_no_manifest_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "pod.yaml"
    file.write_text("kind: Pod")
    assert run(["backtest", "--config", str(file), "--looks", str(tmp_path / "none")]) == Exit.USAGE
    assert "none cannot be read" in capsys.readouterr().err
    assert run(["backtest", "--config", str(file), "--looks", str(file)]) == Exit.USAGE
    (tmp_path / "looks").write_text("")
    assert run(["backtest", "--config", str(file), "--looks", str(tmp_path / "looks")]) == Exit.USAGE
    assert "holds no DSPyDeployment or DSPyRollout" in capsys.readouterr().err


def test_a_table_is_for_people(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.end([REFERENCE, *GOLDEN_ROLLBACK], "-o", "table") == Exit.HEALTHY
    head, *rows = capsys.readouterr().out.splitlines()
    assert " ".join(head.split()) == "RUN T STEP WEIGHT ACTION METRIC DROP ROLLBACK PROMOTE REASON"
    said = "r0 150 1 10 % RollBack score +20.9 % 1.29 0.00 EvidenceOfRegression"
    assert " ".join(rows[-1].split()) == said


def test_it_reads_standard_input_and_needs_no_kubernetes_client(tmp_path: Path) -> None:
    config = tmp_path / "cr.yaml"
    config.write_text(json.dumps(build_manifest()))
    program = (
        "import sys; from dspy_operator.cli.main import run;"
        f"run(['backtest', '--config', {str(config)!r}, '--looks', '-', '--summary']);"
        "print(sorted({'kubernetes', 'rich', 'kopf', 'requests', 'aiohttp'} & set(sys.modules)))"
    )
    lines = "\n".join(map(json.dumps, [REFERENCE, *GOLDEN_ROLLBACK]))
    done = subprocess.run(
        [sys.executable, "-c", program], input=lines, capture_output=True, text=True, check=True
    )
    summary, imported = done.stdout.splitlines()
    assert json.loads(summary)["outcome"] == "RolledBack"
    assert imported == "[]"


def test_thousands_of_looks_of_many_runs_keep_their_order(bench: Bench) -> None:
    random = Random(4)
    lines = [
        {
            "run": f"r{k % 40}",
            "t": 30 * (1 + k // 40),
            "metric": "score",
            "canary": {"n": 1, "sum": c, "sumsq": c},
            "stable": {"n": 9, "sum": 7, "sumsq": 7},
        }
        for k in range(2000)
        for c in [int(random.random() < 0.8)]
    ]
    rows = bench.run(lines)
    assert [row["run"] for row in bench.run(lines, "--summary")] == [f"r{k}" for k in range(40)]
    for name in ("r0", "r39"):
        times = [row["t"] for row in rows if row["run"] == name]
        assert times == [30 * (k + 1) for k in range(len(times))]
