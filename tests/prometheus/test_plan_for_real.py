"""`kubectl dspy plan` against a real Prometheus: today's traffic, stable's past, and trouble with the telemetry."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.prometheus.conftest import Prometheus, wait_until

from dspy_operator.cli.exits import Exit
from dspy_operator.cli.main import run
from dspy_operator.metrics import traffic

pytestmark = pytest.mark.tools

Plan = Callable[..., tuple[int, dict[str, object]]]
PROGRAM = "planned"


def build_page(seconds: float) -> str:
    """A pod that was asked 20 times a second, half of it scored, since `seconds`."""
    asked = round(20 * seconds)
    labels = f'program="{PROGRAM}",revision="aaaa"'
    lines = [f'dspy_routes_generation{{program="{PROGRAM}"}} 1']
    for code, n in (("200", asked), ("400", 7 * asked)):
        lines.append(f'dspy_http_requests_total{{{labels},route="/ask",code="{code}"}} {n}')
    lines.append(f'dspy_http_requests_total{{{labels},route="/feedback",code="200"}} {9 * asked}')
    for cache, n in (("miss", asked), ("hit", 5 * asked)):
        for le in ("0.5", "1.0", "2.0", "+Inf"):
            within = n * (0.9 if le == "0.5" else 1)
            lines.append(
                f'dspy_request_duration_seconds_bucket{{{labels},cache="{cache}",le="{le}"}} {within}'
            )
        lines.append(f'dspy_request_duration_seconds_count{{{labels},cache="{cache}"}} {n}')
    for name, share in (("samples", 0.5), ("sum", 0.4), ("sumsq", 0.4)):
        lines.append(f'dspy_score_{name}_total{{{labels},source="metric"}} {share * asked}')
    return "\n".join(lines) + "\n"


@pytest.fixture
def plan(tmp_path: Path, capsys: pytest.CaptureFixture[str], prometheus: Prometheus) -> Plan:
    def call(program: str = PROGRAM, *options: str) -> tuple[int, dict[str, object]]:
        file = tmp_path / "cr.json"
        file.write_text(
            json.dumps(
                {
                    "kind": "DSPyDeployment",
                    "metadata": {"name": program, "namespace": "ml"},
                    "spec": {"scoring": {"function": "m:score"}},
                }
            )
        )
        end = run(["plan", "-f", str(file), "--prometheus", prometheus.url, "-o", "json", *options])
        written = capsys.readouterr()
        return end, json.loads(written.out) if written.out else {"error": written.err}

    return call


def test_a_plan_reads_the_rates_that_count_and_stables_past(
    prometheus: Prometheus, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic, "LEAST_HISTORY", 3.0)
    monkeypatch.setattr(traffic, "STEP", "1s")
    prometheus.pods.texts["/planned"] = build_page(0)
    prometheus.scrape([{"path": "/planned", "namespace": "ml", "pod": "p0"}])
    wait_until(lambda: prometheus.ask(f'dspy_routes_generation{{program="{PROGRAM}"}}'), "a first scrape")
    began = time.monotonic()

    def serve() -> bool:
        prometheus.pods.texts["/planned"] = build_page(time.monotonic() - began)
        return time.monotonic() - began > 12

    wait_until(serve, "twelve seconds of traffic")
    end, data = plan()
    assert end == Exit.HEALTHY, data
    rates = data["ratesPerMinute"]
    assert isinstance(rates, dict)
    assert rates["score"] == pytest.approx(600, rel=0.3)
    assert rates["errors"] == pytest.approx(1200, rel=0.3)
    assert rates["latency"] == pytest.approx(1200, rel=0.3)
    assert data["troubles"] == []
    end, data = plan(PROGRAM, "--rate", "1/h")
    assert end == Exit.IN_PROGRESS
    assert data["ratesPerMinute"] == pytest.approx({"score": 1 / 60, "latency": 1 / 60, "errors": 1 / 60})


def test_a_program_that_is_not_scraped_is_a_trouble_and_not_decidable(plan: Plan) -> None:
    end, data = plan("elsewhere")
    assert end == Exit.IN_PROGRESS
    troubles = data["troubles"]
    assert isinstance(troubles, list)
    assert "Prometheus has no series of program elsewhere in namespace ml" in troubles[0]
    assert data["decidable"] is False
