"""The end of the story: what was measured, in a few lines, and how to look around afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.e2e.harness.artifacts import ROOT
from tests.e2e.harness.specs import NAME

if TYPE_CHECKING:
    from pathlib import Path

    from tests.demo.screen import Screen
    from tests.e2e.harness.api import Object

NAMESPACE = "dspy-demo"


def tell_summary(screen: Screen, summary: Object) -> None:
    """The summary for people."""
    screen.head("What was measured")
    for entry in summary["rollouts"]:
        screen.plain(f"  {entry['from']} → {entry['to']}  {entry['outcome']}")
        for step in entry["steps"]:
            to_canary = f"{step['canary_requests']} of {step['requests']} requests went to the canary"
            screen.plain(f"    {step['weight']} %: {to_canary}; judged on {step['canary_samples']} scores")
        score, p95 = entry["score"], entry["p95_seconds"]
        screen.plain(f"    score {score['canary']} against {score['stable']}")
        screen.plain(f"    p95 {p95['canary']} s against {p95['stable']} s")
        screen.plain(f"    {entry['requests_sent']} requests sent, {entry['requests_failed']} failed")
        if entry["verdict_to_zero_seconds"] is not None:
            screen.plain(f"    verdict to weight 0 in every pod: {entry['verdict_to_zero_seconds']} s")
    screen.plain(f"  {summary['seconds']} s in all, on the {summary['cluster']} cluster")


def tell_what_next(screen: Screen, summary: Path, kubeconfig: Path) -> None:
    """Everything still runs: the commands to look at it, and the one that ends it."""
    screen.plain(f"  The same numbers: {summary.relative_to(ROOT)}")
    screen.head("It still runs. Look around:")
    inside = kubeconfig.is_relative_to(ROOT)
    place = f"$PWD/{kubeconfig.relative_to(ROOT)}" if inside else str(kubeconfig)
    screen.plain(f"  export KUBECONFIG={place} PATH=$PWD/.venv/bin:$PATH")
    screen.plain(f"  kubectl-dspy get {NAME} -n {NAMESPACE}")
    screen.plain(f"  kubectl-dspy explain {NAME} -n {NAMESPACE}")
    screen.plain("  make demo-down    removes it all")
