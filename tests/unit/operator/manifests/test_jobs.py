"""The Job of the regression gate: the serving pods' image, code and keys, and nothing that belongs to serving."""

from dataclasses import replace
from typing import Any

from tests.unit.operator.api.examples import changed, minimal
from tests.unit.operator.manifests.test_workload import OWNER, WORKLOAD, server_of

from dspy_operator.api import names
from dspy_operator.api.choices import Mode
from dspy_operator.api.defaults import analysis_with_defaults, regression_with_defaults
from dspy_operator.api.spec import parse_deployment
from dspy_operator.manifests.jobs import Comparison, build_gate
from dspy_operator.manifests.owner import is_owned
from dspy_operator.manifests.workload import Workload

GATE = {
    "dataset": {"configMap": {"name": "canary-set", "key": "examples.jsonl"}},
    "metric": "support_triage:metric",
    "maxDrop": "2.5%",
    "deadline": "10m",
}
SPEC = parse_deployment(changed(minimal(), "spec.regression", GATE)).spec
CANARY, STABLE = "c" * 64, "a" * 64


def compare(stable: str | None = STABLE, **gate: Any) -> Comparison:
    frozen = regression_with_defaults(SPEC)
    assert frozen is not None
    confidence = analysis_with_defaults(SPEC).confidence
    name = names.gate_name("triage", "cccccccccc", 2)
    return Comparison(name, frozen.model_copy(update=gate), Mode.EVIDENCE, confidence, CANARY, stable)


def pod_of(job: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = job["spec"]["template"]["spec"]
    return pod


def asking(workload: Workload = WORKLOAD, comparison: Comparison | None = None) -> dict[str, Any]:
    containers = pod_of(build_gate(workload, comparison or compare()))["containers"]
    return next(dict(c) for c in containers if c["name"] == names.CONTAINER)


def test_it_runs_once_and_never_longer_than_the_gate() -> None:
    job = build_gate(WORKLOAD, compare())
    assert job["metadata"]["name"] == "triage-gate-cccccccccc-2"
    assert is_owned(job, OWNER)
    assert job["spec"]["backoffLimit"] == 0
    assert job["spec"]["activeDeadlineSeconds"] == 600
    assert pod_of(job)["restartPolicy"] == "Never"


def test_it_asks_both_programs_by_the_rules_of_the_attempt() -> None:
    assert asking()["args"] == [
        "eval",
        *("--dataset", "/etc/dspy/gate/examples/examples.jsonl"),
        *("--canary", "/etc/dspy/gate/canary/program.json"),
        *("--metric", "support_triage:metric"),
        *("--stable", "/etc/dspy/gate/stable/program.json"),
        *("--max-drop", "2.5%", "--mode", "Evidence", "--confidence", "0.95"),
    ]  # fmt: skip


def test_each_path_that_it_asks_for_is_mounted_from_a_copy_that_cannot_change() -> None:
    pod, container = pod_of(build_gate(WORKLOAD, compare())), asking()
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    maps = {
        mount["mountPath"]: volumes[mount["name"]]["configMap"]["name"]
        for mount in container["volumeMounts"]
        if mount["mountPath"].startswith("/etc/dspy/gate/")
    }
    assert maps == {
        "/etc/dspy/gate/examples": "canary-set",
        "/etc/dspy/gate/canary": names.program_name("triage", CANARY),
        "/etc/dspy/gate/stable": names.program_name("triage", STABLE),
    }
    assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes)


def test_the_first_revision_is_compared_with_nothing_but_its_floor() -> None:
    frozen = changed(minimal(), "spec.regression", {**GATE, "minScore": "0.7"})
    gate = regression_with_defaults(parse_deployment(frozen).spec)
    assert gate is not None
    comparison = replace(compare(None), gate=gate)
    arguments = asking(comparison=comparison)["args"]
    assert "--stable" not in arguments
    assert arguments[-2:] == ["--min-score", "0.7"]
    pod = pod_of(build_gate(WORKLOAD, comparison))
    assert "gate-stable" not in {volume["name"] for volume in pod["volumes"]}


def test_it_has_the_code_the_keys_and_the_security_of_the_serving_pods() -> None:
    serving, container = server_of(WORKLOAD), asking()
    assert container["env"] == serving["env"]
    assert container["image"] == serving["image"]
    assert container["securityContext"] == serving["securityContext"]
    assert names.SOURCE_DIR in {mount["mountPath"] for mount in container["volumeMounts"]}


def test_no_service_selects_it_nobody_scrapes_or_probes_it_and_it_sees_no_table() -> None:
    template = build_gate(WORKLOAD, compare())["spec"]["template"]
    assert names.LABEL_COMPONENT not in template["metadata"]["labels"]
    assert names.LABEL_WORKLOAD not in template["metadata"]["labels"]
    assert template["metadata"]["labels"][names.LABEL_INSTANCE] == "triage"
    assert template["metadata"]["annotations"] == {}
    container = asking()
    assert not {"ports", "startupProbe", "livenessProbe", "readinessProbe"} & set(container)
    assert names.ROUTES_DIR not in {mount["mountPath"] for mount in container["volumeMounts"]}


def test_what_the_user_asks_of_pods_holds_for_it_too() -> None:
    sidecar = {"name": "proxy", "image": "proxy:1"}
    users = {
        "spec": {"nodeSelector": {"pool": "llm"}, "containers": [sidecar]},
        "metadata": {"labels": {"team": "ml"}},
    }
    job = build_gate(replace(WORKLOAD, pod_template=users), compare())
    assert pod_of(job)["nodeSelector"] == {"pool": "llm"}
    assert [container["name"] for container in pod_of(job)["containers"]] == [names.CONTAINER, "proxy"]
    assert job["spec"]["template"]["metadata"]["labels"]["team"] == "ml"
