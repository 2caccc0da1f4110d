"""A live resource becomes a typed one, or an error that names the field."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.operator.api.examples import changed, minimal, whole

from dspy_operator.api.choices import MetricType
from dspy_operator.api.quantities import parse_duration
from dspy_operator.api.rollout import parse_rollout
from dspy_operator.api.spec import parse_deployment
from dspy_operator.errors import InvalidSpec


def test_the_minimal_resource_is_read() -> None:
    deployment = parse_deployment(minimal())
    assert deployment.metadata.name == "support-triage"
    assert deployment.spec.replicas == 2
    assert deployment.spec.strategy is None
    assert deployment.status.stable is None


def test_every_field_of_the_contract_is_read_and_written_back() -> None:
    resource = whole()
    wire = parse_deployment(resource).spec.to_wire()
    del resource["spec"]["traffic"]["canaryReplicas"]  # null and absent are the same
    assert wire == changed(resource, "spec.regression.minScore", "0.7")["spec"]


def test_quantities_are_typed() -> None:
    spec = parse_deployment(whole()).spec
    assert spec.lm.timeout == parse_duration("30s")
    assert spec.strategy is not None
    assert spec.strategy.canary is not None
    assert spec.strategy.canary.analysis is not None
    score, latency, errors, *_ = spec.strategy.canary.analysis.metrics or []
    assert (score.margin, score.tolerance_fraction, score.floor) == (
        Decimal("0.05"),
        Decimal("0.03"),
        Decimal("0.70"),
    )
    assert (latency.type, latency.margin, latency.ceiling) == (
        MetricType.LATENCY_P95,
        Decimal("0.2"),
        Decimal(10),
    )
    assert (errors.margin, errors.ceiling) == (Decimal("0.01"), Decimal("0.05"))


def test_fields_that_this_version_does_not_know_are_left_alone() -> None:
    resource = changed(minimal(), "spec.fromTheFuture", {"a": 1})
    assert parse_deployment(changed(resource, "metadata.managedFields", [])).spec.replicas == 2


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("spec.program.artifact.sha256", "abc", "should match pattern"),
        ("spec.program.module", "no-colon", "should match pattern"),
        ("spec.lm.timeout", "30", "'30' is not a duration such as 30s, 5m or 24h"),
        ("spec.replicas", "two", "valid integer"),
        ("spec.strategy.canary.steps[1].minDuration", 5, "5 must be a string"),
        ("spec.strategy.canary.analysis.confidence", "1.0", "'1.0' is not a confidence"),
        ("spec.strategy.canary.analysis.metrics[0].type", "Speed", "Input should be 'Score'"),
        ("spec.program.artifact", ..., "Field required"),
    ],
)
def test_a_bad_field_is_named_with_a_sentence(path: str, value: object, sentence: str) -> None:
    with pytest.raises(InvalidSpec, match=sentence) as caught:
        parse_deployment(changed(whole(), path, value))
    assert caught.value.field == path
    assert str(caught.value).startswith(path)


def test_several_bad_fields_are_counted() -> None:
    resource = changed(changed(minimal(), "spec.replicas", -1), "spec.paused", "maybe")
    with pytest.raises(InvalidSpec, match=r"spec\.replicas: .* \(and 1 more\)"):
        parse_deployment(resource)


@given(
    st.recursive(st.none() | st.booleans() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x))
)
def test_nothing_but_an_invalid_spec_comes_of_nonsense(nonsense: object) -> None:
    with pytest.raises(InvalidSpec):
        parse_deployment({"metadata": {"name": "x"}, "spec": nonsense})


def test_an_empty_rollout_status_is_read() -> None:
    with pytest.raises(InvalidSpec) as caught:
        parse_rollout({"metadata": {"name": "x"}, "spec": {}})
    assert caught.value.field == "spec.deployment"
