"""Every metric, type and label that the contract promises, written out, against the page that the server renders."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dspy_server import contract
from dspy_server.contract import Label, Metric, ProgramState, ScoreSource
from dspy_server.metrics import Metrics, RoutesView

COMMON = "program revision"
PROMISED = {
    "dspy_http_requests_total": ("counter", f"{COMMON} route code"),
    "dspy_request_duration_seconds": ("histogram", f"{COMMON} cache"),
    "dspy_program_errors_total": ("counter", f"{COMMON} class"),
    "dspy_score_samples_total": ("counter", f"{COMMON} source"),
    "dspy_score_sum_total": ("counter", f"{COMMON} source"),
    "dspy_score_sumsq_total": ("counter", f"{COMMON} source"),
    "dspy_score_distribution": ("histogram", f"{COMMON} source"),
    "dspy_requests_total": ("counter", f"{COMMON} model status"),
    "dspy_tokens_total": ("counter", f"{COMMON} model kind"),
    "dspy_lm_cost_usd_total": ("counter", f"{COMMON} model"),
    "dspy_lm_unpriced_calls_total": ("counter", f"{COMMON} model"),
    "dspy_lm_duration_seconds": ("histogram", f"{COMMON} model"),
    "dspy_fallbacks_total": ("counter", f"{COMMON} from to reason"),
    "dspy_breaker_state": ("gauge", "program model"),
    "dspy_cache_requests_total": ("counter", f"{COMMON} tier result"),
    "dspy_rejected_total": ("counter", f"{COMMON} reason"),
    "dspy_inflight": ("gauge", COMMON),
    "dspy_cache_disk_bytes": ("gauge", "program"),
    "dspy_route_weight": ("gauge", f"{COMMON} track"),
    "dspy_routes_generation": ("gauge", "program"),
    "dspy_routes_applied_timestamp_seconds": ("gauge", "program"),
    "dspy_program_loaded": ("gauge", COMMON),
    "dspy_route_fallback_total": ("counter", COMMON),
    "dspy_program_state": ("gauge", f"{COMMON} state"),
    "dspy_route_errors_total": ("counter", f"{COMMON} reason"),
    "dspy_parse_retries_total": ("counter", COMMON),
    "dspy_scoring_dropped_total": ("counter", f"{COMMON} reason"),
    "dspy_degraded_total": ("counter", f"{COMMON} kind"),
    "dspy_build_info": ("gauge", "program dspy_version"),
    "dspy_artifact_info": ("gauge", f"{COMMON} sha256 dspy_version"),
}
VALUES = {
    "CacheLabel": "hit miss bypass",
    "ErrorClass": "parse rate_limit timeout transport server auth context_window deadline breaker_open internal",
    "ScoreSource": "metric judge feedback",
    "TokenKind": "prompt completion cached reasoning",
    "CacheTier": "business memory disk",
    "CacheResult": "hit miss error",
    "Rejection": "queue user_rate user_budget size",
    "Track": "stable canary",
    "ProgramState": "waiting loading loaded digest refused signature module",
    "RouteError": "table fetch digest refused module warmup",
}


def build_page() -> Metrics:
    """A page on which every family has a child."""
    metrics = Metrics("triage", ["openai/gpt"], dspy_version="3.4.1")
    metrics.add_revision("rev0", list(ScoreSource))
    for family in metrics._list_families():
        if not next(iter(family.collect())).samples:
            family.labels("triage", "rev0", *["x"] * (len(family._labelnames) - 2))
    weights = (("rev0", "stable", 100),)
    view = RoutesView(3, 1.5, weights, {"rev0": ProgramState.LOADED}, {"rev0": ("abc", "3.4.1")})
    metrics.bind(lambda: view)
    metrics.bind_breakers(lambda: {"openai/gpt": 0})
    metrics.bind_disk_cache(lambda: 0.0)
    return metrics


def test_the_names_are_those_of_the_contract() -> None:
    assert {str(name) for name in Metric} == set(PROMISED)


def test_each_promised_metric_is_on_the_page_with_its_type_and_labels() -> None:
    families = list(text_string_to_metric_families(build_page().render().decode()))
    found = {
        family.name + "_total" * (family.type == "counter"): (
            family.type,
            {label for sample in family.samples for label in sample.labels} - {"le"},
        )
        for family in families
    }
    ours = {name: value for name, value in found.items() if name.startswith("dspy_")}
    assert ours == {name: (kind, set(labels.split())) for name, (kind, labels) in PROMISED.items()}
    assert {label for _, labels in ours.values() for label in labels} == {str(label) for label in Label}


@pytest.mark.parametrize("name", VALUES)
def test_a_label_has_the_promised_values(name: str) -> None:
    assert {str(value) for value in getattr(contract, name)} == set(VALUES[name].split())
