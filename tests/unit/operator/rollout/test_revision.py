"""What makes another workload or revision, what does not, and hashes that must never change."""

from typing import Any

import pytest
from tests.unit.operator.api.examples import SHA256, changed, minimal, whole

from dspy_operator.api.spec import parse_deployment
from dspy_operator.rollout.revision import (
    get_template_part,
    replace_template_part,
    revision_hash,
    workload_hash,
)

IMAGE = "registry/server:1"
TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": {"team": "support"}},
    "spec": {
        "serviceAccountName": "triage",
        "nodeSelector": {"disk": "ssd"},
        "containers": [
            {
                "name": "server",
                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                "envFrom": [{"configMapRef": {"name": "x"}}, {"configMapRef": {"name": "y"}}],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                "resources": {"limits": {"memory": "1Gi"}},
            }
        ],
        "volumes": [{"name": "data", "emptyDir": {}}, {"name": "more", "emptyDir": {}}],
    },
}


def hash_of(resource: dict[str, Any], image: str = IMAGE, source: str = "c0de") -> str:
    return workload_hash(parse_deployment(resource).spec, image, source)


def with_template(template: dict[str, Any]) -> dict[str, Any]:
    return changed(minimal(), "spec.serving.podTemplate", template)


BASE = with_template(TEMPLATE)
CONTAINER = "spec.serving.podTemplate.spec.containers[0]"


def test_hashes_never_change() -> None:
    assert hash_of(minimal(), source="") == "c74d18a1"
    assert hash_of(minimal()) == "9ede2fd0"
    assert hash_of(whole()) == "0d0cc7fa"
    assert hash_of(BASE) == "6f9a9fb5"
    assert revision_hash("0a1b2c3d", SHA256) == "1659fab516"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.program.module", "support_triage:Other"),
        ("spec.lm.primary.model", "openai/gpt-4o"),
        ("spec.lm.primary.maxTokens", 5),
        ("spec.lm.primary.apiKeySecret.key", "other"),
        ("spec.lm.fallbacks", [{"model": "anthropic/x"}]),
        ("spec.lm.timeout", "31s"),
        (f"{CONTAINER}.env[0].value", "2"),
        (f"{CONTAINER}.envFrom", [{"configMapRef": {"name": "y"}}, {"configMapRef": {"name": "x"}}]),
        (f"{CONTAINER}.volumeMounts[0].mountPath", "/other"),
        ("spec.serving.podTemplate.spec.volumes[0].emptyDir", {"medium": "Memory"}),
        ("spec.serving.podTemplate.spec.serviceAccountName", "other"),
        (f"{CONTAINER}.resources.limits.memory", "2Gi"),
    ],
)
def test_what_a_pod_runs_makes_another_workload(path: str, value: object) -> None:
    assert hash_of(changed(BASE, path, value)) != hash_of(BASE)


def test_another_image_or_other_code_makes_another_workload() -> None:
    assert len({hash_of(BASE), hash_of(BASE, image="registry/server:2"), hash_of(BASE, source="beef")}) == 3


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.replicas", 7),
        ("spec.program.artifact.sha256", "0" * 64),
        ("spec.serving.limits.concurrency", 1),
        ("spec.serving.cache.ttl", "1h"),
        ("spec.scoring.sample", "5%"),
        ("spec.traffic.userHeader", "X-User-Id"),
        ("spec.strategy.canary.bake", "1m"),
        ("spec.paused", True),
        ("spec.serving.podTemplate.metadata.labels.team", "sales"),
        ("spec.serving.podTemplate.spec.nodeSelector.disk", "hdd"),
        ("spec.lm.primary.apiBase", ""),
        (f"{CONTAINER}.env", TEMPLATE["spec"]["containers"][0]["env"][::-1]),
        ("spec.serving.podTemplate.spec.volumes", TEMPLATE["spec"]["volumes"][::-1]),
    ],
)
def test_everything_else_leaves_the_workload_as_it_is(path: str, value: object) -> None:
    assert hash_of(changed(BASE, path, value)) == hash_of(BASE)


def test_durations_that_are_equal_are_one_workload() -> None:
    one, other = (changed(minimal(), "spec.lm.timeout", text) for text in ("60s", "1m"))
    assert hash_of(one) == hash_of(other)


def test_the_order_of_variables_counts_where_one_refers_to_another() -> None:
    env = [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)"}]
    assert hash_of(changed(BASE, f"{CONTAINER}.env", env)) != hash_of(
        changed(BASE, f"{CONTAINER}.env", env[::-1])
    )


def test_a_revision_is_a_workload_and_an_artifact() -> None:
    one = revision_hash("0a1b2c3d", SHA256)
    assert len(one) == 10
    assert len({one, revision_hash("0a1b2c3e", SHA256), revision_hash("0a1b2c3d", "0" * 64)}) == 3


def test_a_template_with_an_earlier_workloads_part_hashes_as_that_workload() -> None:
    now = changed(BASE, f"{CONTAINER}.env[0].value", "changed")["spec"]["serving"]["podTemplate"]
    now = {**now, "metadata": {"labels": {"team": "sales"}}}
    replaced = replace_template_part(now, get_template_part(TEMPLATE))
    assert hash_of(with_template(replaced)) == hash_of(BASE)
    assert replaced["metadata"] == {"labels": {"team": "sales"}}
    assert replaced["spec"]["containers"][0]["resources"] == {"limits": {"memory": "1Gi"}}


def test_a_part_can_be_put_into_an_empty_template_and_taken_out_of_a_full_one() -> None:
    part = get_template_part(TEMPLATE)
    assert get_template_part(replace_template_part({}, part)) == part
    assert get_template_part(replace_template_part(TEMPLATE, {})) == {}


@pytest.mark.parametrize("template", [{}, {"spec": None}, {"spec": []}, {"spec": {"containers": "x"}}])
def test_a_template_without_sense_has_no_part(template: dict[str, Any]) -> None:
    assert get_template_part(template) == {}
