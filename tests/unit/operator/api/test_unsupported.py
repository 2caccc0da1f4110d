"""What is in the contract and not carried out yet is named, field by field."""

import pytest
from tests.unit.operator.api.examples import changed, minimal, whole

from dspy_operator.api.spec import parse_deployment
from dspy_operator.api.unsupported import list_unsupported


def test_the_minimal_resource_is_carried_out() -> None:
    assert list_unsupported(parse_deployment(minimal()).spec) == []


def test_all_that_is_missing_is_named_at_once() -> None:
    assert list_unsupported(parse_deployment(whole()).spec) == ["spec.traffic.gateway"]


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("spec.traffic.isolation", "Pod", "spec.traffic.isolation"),
        ("spec.traffic.canaryReplicas", 3, "spec.traffic.canaryReplicas"),
        ("spec.strategy.blueGreen", {}, "spec.strategy.blueGreen"),
        (
            "spec.strategy.canary.analysis.metrics",
            [{"name": "cost", "type": "CostPerRequest"}],
            "spec.strategy.canary.analysis.metrics[0].dryRun",
        ),
    ],
)
def test_each_missing_field_is_named(path: str, value: object, named: str) -> None:
    assert list_unsupported(parse_deployment(changed(minimal(), path, value)).spec) == [named]
