"""What is in the contract and not carried out yet is named, field by field."""

import pytest
from tests.unit.operator.api.examples import changed, minimal, whole

from dspy_operator.api.spec import parse_deployment
from dspy_operator.api.unsupported import list_unsupported


def test_the_minimal_resource_is_carried_out() -> None:
    assert list_unsupported(parse_deployment(minimal()).spec) == []


def test_a_resource_with_every_field_is_carried_out() -> None:
    assert list_unsupported(parse_deployment(whole()).spec) == []


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (
            "spec.strategy.blueGreen.analysis.metrics",
            [{"name": "cost", "type": "CostPerRequest"}],
            "spec.strategy.blueGreen.analysis.metrics[0].dryRun",
        ),
        (
            "spec.strategy.canary.analysis.metrics",
            [{"name": "cost", "type": "CostPerRequest"}],
            "spec.strategy.canary.analysis.metrics[0].dryRun",
        ),
    ],
)
def test_each_missing_field_is_named(path: str, value: object, named: str) -> None:
    assert list_unsupported(parse_deployment(changed(minimal(), path, value)).spec) == [named]
