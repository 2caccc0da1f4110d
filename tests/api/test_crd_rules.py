"""Every rule of the definitions, each broken once: the API server tells it by its own sentence and field."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.api.wire import NAMESPACE, Object, Wire, list_causes
from tests.unit.operator.api.examples import SHA256, changed, minimal

from dspy_operator.api.crd import build_crds

pytestmark = pytest.mark.api

STEPS = "spec.strategy.canary.steps"
METRICS = "spec.strategy.canary.analysis.metrics"


def metric(**fields: Any) -> list[Object]:
    return [{"name": "m", **fields}]


HERE = changed(minimal(), "metadata.namespace", NAMESPACE)
LAST = {"weight": 100}
BARE = "the last step takes nothing but its weight: no minDuration, minSamples, deadline or approval"
NAME = (
    "metadata.name must have at most 40 characters: a-z, 0-9 and '-', "
    "beginning with a letter and not ending with '-'"
)
TOLERANCE = "tolerance is a percentage for type Score, points for ErrorRate and Ratio, and for no other type"
CEILING = (
    "max is a duration for type LatencyP95, a percentage for ErrorRate and Ratio, US dollars for CostPerRequest, "
    "and for no other type"
)
BAD_RULES = [
    (
        "metadata.name",
        "1-triage",
        "<nil>",
        NAME,
    ),
    (
        "metadata.name",
        "a" * 41,
        "<nil>",
        NAME,
    ),
    ("spec.program.source", ..., "spec", "image is required unless program.source brings the code"),
    (
        "spec.revisionHistoryLimit",
        3,
        "spec",
        "revisionHistoryLimit (or 10) must be above strategy.rollbackWindow.revisions (or 3)",
    ),
    (
        "spec.strategy.rollbackWindow.revisions",
        10,
        "spec",
        "revisionHistoryLimit (or 10) must be above strategy.rollbackWindow.revisions (or 3)",
    ),
    (
        "spec.strategy",
        {"canary": {}, "blueGreen": {}},
        "spec.strategy",
        "strategy takes canary or blueGreen, not both",
    ),
    (
        "spec.program.artifact.configMap",
        ...,
        "spec.program.artifact",
        "artifact takes exactly one of configMap and uri",
    ),
    (
        "spec.program.artifact.uri",
        "s3://b/p",
        "spec.program.artifact",
        "artifact takes exactly one of configMap and uri",
    ),
    (
        "spec.program.artifact",
        {"sha256": SHA256, "uri": "oci://r/p:latest"},
        "spec.program.artifact",
        "an oci uri must end in @sha256:<64 hex>",
    ),
    (
        "spec.program.artifact",
        {"sha256": SHA256, "uri": "https://user:password@models.example.com/p.json"},
        "spec.program.artifact",
        "a uri holds no user or password: use pullSecret",
    ),
    (
        "spec.program.artifact.pullSecret",
        {"name": "x"},
        "spec.program.artifact",
        "pullSecret is for uri only",
    ),
    ("spec.lm.timeout", "99ms", "spec.lm.timeout", "timeout must be at least 100ms"),
    (STEPS, [{"weight": 10}], STEPS, "the last step must have weight 100"),
    (STEPS, [{"weight": 50}, {"weight": 10}, LAST], STEPS, "weights must strictly increase"),
    (STEPS, [{"weight": 50}, {"weight": 50}, LAST], STEPS, "weights must strictly increase"),
    *[
        (
            STEPS,
            [{"weight": 100, **field}],
            STEPS,
            BARE,
        )
        for field in ({"minDuration": "1h"}, {"deadline": "1h"}, {"minSamples": 1}, {"approval": "Manual"})
    ],
    (
        STEPS,
        [{"weight": 1, "minDuration": "61m", "deadline": "1h"}, LAST],
        f"{STEPS}[0]",
        "deadline must not be shorter than minDuration",
    ),
    (
        "spec.strategy.canary.analysis.interval",
        "999ms",
        "spec.strategy.canary.analysis.interval",
        "interval must be at least 1s",
    ),
    (
        "spec.strategy.canary.readyDeadline",
        "0s",
        "spec.strategy.canary.readyDeadline",
        "readyDeadline must be at least 1s",
    ),
    (METRICS, metric(type="LatencyP95", maxDrop="5%"), f"{METRICS}[0]", "maxDrop is for type Score only"),
    (
        METRICS,
        metric(type="Score", maxIncrease="5%"),
        f"{METRICS}[0]",
        "maxIncrease is for types LatencyP95 and CostPerRequest only",
    ),
    (
        METRICS,
        metric(type="Score", maxIncreasePoints="5"),
        f"{METRICS}[0]",
        "maxIncreasePoints is for types ErrorRate and Ratio only",
    ),
    (
        METRICS,
        metric(type="Ratio"),
        f"{METRICS}[0]",
        "series is required for type Ratio and is for no other type",
    ),
    (
        METRICS,
        metric(type="Score", series="a_total"),
        f"{METRICS}[0]",
        "series is required for type Ratio and is for no other type",
    ),
    (
        METRICS,
        metric(type="CostPerRequest"),
        f"{METRICS}[0]",
        "type CostPerRequest needs dryRun: true, it never decides",
    ),
    (
        METRICS,
        metric(type="CostPerRequest", dryRun=False),
        f"{METRICS}[0]",
        "type CostPerRequest needs dryRun: true, it never decides",
    ),
    (METRICS, metric(type="ErrorRate", source="Auto"), f"{METRICS}[0]", "source is for type Score only"),
    *[
        (
            METRICS,
            metric(**fields),
            f"{METRICS}[0]",
            TOLERANCE,
        )
        for fields in (
            {"type": "Score", "tolerance": "3"},
            {"type": "ErrorRate", "tolerance": "0.5%"},
            {"type": "LatencyP95", "tolerance": "1"},
        )
    ],
    *[
        (
            METRICS,
            metric(**fields),
            f"{METRICS}[0]",
            "tolerance must not exceed the allowed change, maxDrop or maxIncreasePoints",
        )
        for fields in (
            {"type": "Score", "tolerance": "5.1%"},
            {"type": "Score", "maxDrop": "2%", "tolerance": "3%"},
            {"type": "ErrorRate", "tolerance": "1.1"},
            {"type": "ErrorRate", "maxIncreasePoints": "0.5", "tolerance": "0.6"},
        )
    ],
    *[
        (METRICS, metric(**fields), f"{METRICS}[0]", "min is for type Score only, a number from 0 to 1")
        for fields in (
            {"type": "LatencyP95", "min": "1s"},
            {"type": "Score", "min": "70%"},
            {"type": "Score", "min": "1.1"},
        )
    ],
    *[
        (
            METRICS,
            metric(**fields),
            f"{METRICS}[0]",
            CEILING,
        )
        for fields in (
            {"type": "LatencyP95", "max": "10"},
            {"type": "ErrorRate", "max": "5"},
            {"type": "CostPerRequest", "dryRun": True, "max": "5s"},
            {"type": "Score", "max": "1"},
        )
    ],
]


@pytest.mark.parametrize(("path", "value", "field", "sentence"), BAD_RULES)
def test_a_broken_rule_is_told_in_its_own_words(
    wire: Wire, path: str, value: object, field: str, sentence: str
) -> None:
    answer = wire.create(changed(HERE, path, value))
    (cause,) = list_causes(answer)
    assert cause[0] == field
    assert cause[1].endswith(f": {sentence}")


def list_rules(schema: Object) -> Iterator[str]:
    yield from (rule["message"] for rule in schema.get("x-kubernetes-validations", []))
    for part in schema.get("properties", {}).values():
        yield from list_rules(part)
    if isinstance(schema.get("items"), dict):
        yield from list_rules(schema["items"])


def test_every_rule_has_a_resource_that_only_it_refuses() -> None:
    crd = build_crds()["dspydeployments"]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert set(list_rules(crd)) == {sentence for *_, sentence in BAD_RULES}
