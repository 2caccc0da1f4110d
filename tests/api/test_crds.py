"""The definitions before a real API server: what it accepts, and the very sentence with which it refuses."""

from pathlib import Path
from typing import Any

import pytest
from tests.api.wire import GROUP, NAMESPACE, Object, Wire, list_causes
from tests.unit.operator.api.examples import SHA256, changed, minimal, whole

from dspy_operator.api.crd import build_crds
from dspy_operator.api.defaults import strategy_with_defaults
from dspy_operator.api.spec import parse_deployment

pytestmark = pytest.mark.api

STEPS = "spec.strategy.canary.steps"
METRICS = "spec.strategy.canary.analysis.metrics"


def named(resource: Object, name: str = "triage") -> Object:
    return changed(changed(resource, "metadata.namespace", NAMESPACE), "metadata.name", name)


def rollout() -> Object:
    strategy = strategy_with_defaults(parse_deployment(whole()).spec).to_wire()
    program = {"workload": "0a1b2c3d", "module": "a:B", "sha256": SHA256, "version": SHA256[:12]}
    return {
        "apiVersion": "dspy-operator.io/v1alpha1",
        "kind": "DSPyRollout",
        "metadata": {"name": "triage-81c0ab34ef-1", "namespace": NAMESPACE},
        "spec": {
            "deployment": "triage",
            "attempt": 1,
            "from": program | {"revision": "3f9a12c4d5"},
            "to": program | {"revision": "81c0ab34ef"},
            "fast": False,
            "strategy": strategy,
        },
    }


@pytest.mark.parametrize("crd", build_crds().values(), ids=list(build_crds()))
def test_every_field_of_a_definition_is_known_to_the_api_server(wire: Wire, crd: Object) -> None:
    renamed = changed(
        changed(crd, "spec.group", "example.org"),
        "metadata.name",
        f"{crd['spec']['names']['plural']}.example.org",
    )
    answer = wire.create(renamed)
    assert answer["kind"] == "CustomResourceDefinition", answer["message"][:2000]
    schema = answer["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert schema == crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


COST = {"name": "cost", "type": "CostPerRequest", "dryRun": True}
GOOD = {
    "the minimal resource": minimal(),
    "every field of the contract": whole(),
    "a name of 40 characters": changed(minimal(), "metadata.name", "a" * 40),
    "an artifact from a registry": changed(
        minimal(),
        "spec.program.artifact",
        {"sha256": SHA256, "uri": f"oci://r/p@sha256:{SHA256}", "pullSecret": {"name": "x"}},
    ),
    "an artifact from a bucket": changed(
        minimal(), "spec.program.artifact", {"sha256": SHA256, "uri": "s3://b/p.json"}
    ),
    "an image and no source": changed(changed(minimal(), "spec.image", "r/x:1"), "spec.program.source", ...),
    "one step": changed(minimal(), STEPS, [{"weight": 100}]),
    "a deadline as long as the duration": changed(
        minimal(), STEPS, [{"weight": 1, "minDuration": "60m", "deadline": "1h"}, {"weight": 100}]
    ),
    "blue-green": changed(minimal(), "spec.strategy.blueGreen", {"autoPromote": False}),
    "a history just above the window": changed(
        changed(minimal(), "spec.revisionHistoryLimit", 4), "spec.strategy.onNewRevision", "Queue"
    ),
    "a strict tolerance": changed(minimal(), METRICS, [{"name": "s", "type": "Score", "tolerance": "0%"}]),
    "a tolerance as wide as the margin": changed(
        minimal(), METRICS, [{"name": "e", "type": "ErrorRate", "tolerance": "1"}]
    ),
    "a ceiling of cost": changed(minimal(), METRICS, [COST | {"max": "0.002"}]),
    "a template": changed(minimal(), "spec.serving.podTemplate", {"spec": {"anything": [{"goes": 1}]}}),
}


@pytest.mark.parametrize("resource", GOOD.values(), ids=list(GOOD))
def test_what_is_right_is_accepted(wire: Wire, resource: Object) -> None:
    answer = wire.create(changed(resource, "metadata.namespace", NAMESPACE))
    assert answer["kind"] == "DSPyDeployment", answer["message"]
    assert parse_deployment(answer).spec.replicas == 2


BAD_FIELDS = [
    ("spec.program.artifact.sha256", "ABC", "should match '^[a-f0-9]{64}$'"),
    ("spec.program.artifact.sha256", ..., "Required value"),
    ("spec.program.module", "support_triage", "should match"),
    ("spec.lm.primary.model", "gpt-4o", "should match"),
    ("spec.lm.timeout", "30", "should match"),
    ("spec.replicas", -1, "greater than or equal to 0"),
    ("spec.traffic.isolation", "Maybe", 'supported values: "Auto", "Pod"'),
    ("spec.strategy.canary.analysis.confidence", "0.4", "should match"),
    ("spec.serving.cors.allowOrigins[0]", "*", "should match"),
    ("spec.serving.logs.level", "LOUD", "should match"),
    (f"{METRICS}[0].maxDrop", "101%", "should match"),
    (f"{METRICS}[0].name", "Score", "should match"),
    (f"{STEPS}[0].weight", 0, "greater than or equal to 1"),
    ("spec.image", "i" * 513, "may not be more than 512 bytes"),
]


@pytest.mark.parametrize(("path", "value", "sentence"), BAD_FIELDS)
def test_a_bad_field_is_named(wire: Wire, path: str, value: object, sentence: str) -> None:
    causes = list_causes(wire.create(changed(named(whole()), path, value)))
    assert [message for field, message in causes if field == path and sentence in message], causes


def test_too_many_steps_and_twice_the_same_metric_are_refused(wire: Wire) -> None:
    steps = [{"weight": weight} for weight in range(1, 11)] + [{"weight": 100}]
    assert "must have at most 10 items" in wire.create(changed(named(minimal()), STEPS, steps))["message"]
    twice = [{"name": "m", "type": "Score"}, {"name": "m", "type": "ErrorRate"}]
    assert "Duplicate value" in wire.create(changed(named(minimal()), METRICS, twice))["message"]


def test_an_unknown_field_is_refused_by_name(wire: Wire) -> None:
    answer = wire.create(changed(named(minimal()), "spec.replica", 3))
    assert 'unknown field "spec.replica"' in answer["message"]


TABLE = "application/json;as=Table;g=meta.k8s.io;v=v1"
MERGE = "application/merge-patch+json"
DEGRADED = {
    "phase": "Degraded",
    "stable": {"revision": "3f9a12c4d5", "sha256": SHA256, "version": SHA256[:12]},
    "replicas": 2,
    "selector": "a=b",
    "weight": 10,
    "conditions": [
        {
            "type": "Ready",
            "status": "False",
            "reason": "RolledBack",
            "message": "the score fell",
            "lastTransitionTime": "2026-11-23T08:00:00Z",
            "observedGeneration": 1,
        }
    ],
}
STEPPING = {
    "phase": "Stepping",
    "step": 1,
    "weight": 10,
    "reason": "CollectingEvidence",
    "weightEffectiveAt": "2026-11-23T08:00:00.123456Z",
    "summary": {"score": "-0.4%", "p95": "+3%"},
    "handledCommands": {"promote": ["2026-11-23T08:00:00Z"]},
    "metrics": [
        {
            "name": "score",
            "verdict": "Wait",
            "drop": "1.2%",
            "samples": {"canary": 214, "stable": 1930},
            "evidence": {"rollback": "0.07", "promote": "0.71"},
            "samplesNeeded": 400,
            "message": "…",
        }
    ],
    "looks": "x" * 65_536,
}


def get_table(wire: Wire, query: str) -> tuple[list[str], list[Any]]:
    """Titles of the columns and the cells of the first row, as `kubectl get -o wide` shows them."""
    table = wire.send("GET", f"{GROUP}/{query}", accept=TABLE)
    return [column["name"] for column in table["columnDefinitions"]], table["rows"][0]["cells"]


def test_columns_scale_and_selectable_phase_work(wire: Wire) -> None:
    created = wire.create(named(minimal(), "columns"), dry_run=False)
    assert created["spec"]["replicas"] == 2
    path = f"{GROUP}/dspydeployments/columns"
    patched = wire.send("PATCH", f"{path}/status", body={"status": DEGRADED}, kind=MERGE)
    assert patched["status"] == DEGRADED
    columns, cells = get_table(wire, "dspydeployments?fieldSelector=status.phase=Degraded")
    assert columns[:5] == ["Name", "Ready", "Phase", "Weight", "Stable"]
    assert columns[5:] == ["Canary", "Step", "Score", "Reason", "Age"]
    assert cells[:5] == ["columns", "False", "Degraded", 10, SHA256[:12]]
    assert cells[8] == "RolledBack"
    scale = wire.send("GET", f"{path}/scale")
    assert (scale["spec"]["replicas"], scale["status"]) == (2, {"replicas": 2, "selector": "a=b"})


def test_a_status_field_that_no_model_names_is_refused(wire: Wire) -> None:
    wire.create(named(minimal(), "status"), dry_run=False)
    path = f"{GROUP}/dspydeployments/status/status"
    stranger = {"status": {"forgotten": 1, "weight": 5}}
    answer = wire.send(
        "PATCH", path, body=stranger, kind="application/merge-patch+json", query={"fieldValidation": "Strict"}
    )
    assert 'unknown field "status.forgotten"' in answer["message"]


def test_a_rollout_is_accepted_and_its_spec_never_changes(wire: Wire) -> None:
    created = wire.create(rollout(), dry_run=False)
    assert created["kind"] == "DSPyRollout", created["message"]
    edit = {"spec": {"fast": True}}
    refused = wire.send("PATCH", f"{GROUP}/dspyrollouts/triage-81c0ab34ef-1", body=edit, kind=MERGE)
    assert [cause for cause in list_causes(refused) if cause[0] == "spec"] == [
        ("spec", 'Invalid value: "object": spec never changes: it is the record of one attempt')
    ]


def test_a_rollouts_record_is_kept_whole_and_shown(wire: Wire) -> None:
    shown = changed(rollout(), "metadata.name", "triage-81c0ab34ef-2")
    wire.create(shown, dry_run=False)
    path = f"{GROUP}/dspyrollouts/triage-81c0ab34ef-2/status"
    assert wire.send("PATCH", path, body={"status": STEPPING}, kind=MERGE)["status"] == STEPPING
    columns, cells = get_table(wire, "dspyrollouts?fieldSelector=status.phase=Stepping")
    assert columns[1:6] == ["Deployment", "From", "To", "Phase", "Step"]
    assert columns[6:] == ["Weight", "Score", "p95", "Reason", "Age"]
    assert cells[4:10] == ["Stepping", 1, 10, "-0.4%", "+3%", "CollectingEvidence"]


def test_a_record_above_its_bound_is_refused(wire: Wire) -> None:
    large = changed(rollout(), "metadata.name", "triage-81c0ab34ef-3")
    wire.create(large, dry_run=False)
    path = f"{GROUP}/dspyrollouts/triage-81c0ab34ef-3/status"
    answer = wire.send("PATCH", path, body={"status": {"looks": "x" * 65_537}}, kind=MERGE)
    assert "may not be more than 65536 bytes" in answer["message"]


def test_both_kinds_are_listed_by_their_category(wire: Wire) -> None:
    listed = wire.send("GET", "/apis/dspy-operator.io/v1alpha1")["resources"]
    found = {entry["name"]: (entry.get("shortNames"), entry.get("categories")) for entry in listed}
    assert found["dspydeployments"] == (["dspyd"], ["dspy"])
    assert found["dspyrollouts"] == (["dspyr"], ["dspy"])
    assert {"dspydeployments/scale", "dspydeployments/status", "dspyrollouts/status"} <= set(found)


def test_the_folder_in_git_is_what_is_tested() -> None:
    assert {path.stem for path in (Path(__file__).parents[2] / "crds").glob("*.yaml")} == set(build_crds())
