"""The stories' object store: what the DSPyDeployment names is what the store's pod has, and the operator accepts it."""

from copy import deepcopy

from tests.e2e.harness.artifacts import KEY, Artifact
from tests.e2e.harness.object_store import (
    AUTHORITY,
    KEYS,
    build_pod,
    build_store_objects,
    with_remote,
    with_trust,
)
from tests.unit.operator.api.examples import minimal

from dspy_operator.api.spec import parse_deployment
from dspy_operator.manifests.overlay import merge_pod_template

V1, V2 = Artifact("v1", "{}", "1" * 64), Artifact("v2", "{}", "2" * 64)


def test_every_artifact_is_an_object_of_the_bucket() -> None:
    pod = build_pod("store:1", [V1, V2])
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    files = {
        mount["mountPath"]: (volumes[mount["name"]]["configMap"]["name"], mount["subPath"])
        for mount in pod["containers"][0]["volumeMounts"]
        if "subPath" in mount
    }
    assert files == {
        "/data/artifacts/triage/v1.json": (V1.config_map, KEY),
        "/data/artifacts/triage/v2.json": (V2.config_map, KEY),
    }


def test_a_story_with_the_store_is_a_valid_resource_and_changes_no_other() -> None:
    story = minimal()
    story["spec"]["serving"] = {"podTemplate": {"spec": {"containers": [{"name": "server"}]}}}
    untouched = deepcopy(story)
    changed = with_remote(with_trust(story), V2, sha256="3" * 64)
    assert story == untouched
    artifact = parse_deployment(changed).spec.program.artifact
    assert (artifact.uri, artifact.sha256) == ("s3://artifacts/triage/v2.json", "3" * 64)
    assert artifact.pull_secret is not None
    assert artifact.pull_secret.name == KEYS
    ours = {"metadata": {"labels": {}}, "spec": {"volumes": [], "containers": [{"name": "server"}]}}
    merged = merge_pod_template(ours, changed["spec"]["serving"]["podTemplate"])
    server = merged["spec"]["containers"][0]
    assert server["env"] == [
        {"name": "SSL_CERT_FILE", "value": server["volumeMounts"][0]["mountPath"] + "/ca.crt"}
    ]


def test_the_store_has_the_key_of_its_certificate_and_pods_get_the_authority_alone() -> None:
    objects = {item["metadata"]["name"]: item for item in build_store_objects("ml", "store:1", [V1])}
    identity, authority = objects["object-store-identity"], objects[AUTHORITY]
    assert "PRIVATE KEY" in identity["stringData"]["tls.key"]
    assert list(authority["data"]) == ["ca.crt"]
    assert "PRIVATE" not in authority["data"]["ca.crt"]
    assert objects[KEYS]["stringData"]["AWS_ENDPOINT_URL"] == "https://object-store.ml.svc:7070"
