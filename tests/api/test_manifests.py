"""Every child before a real API server: valid to the letter, idle when applied again, restricted, unchangeable."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.api.wire import NAMESPACE, Object, Wire
from tests.unit.operator.manifests.test_overlay import FORBIDDEN, sidecar
from tests.unit.operator.manifests.test_routes import STAMP, TABLE
from tests.unit.operator.manifests.test_stores import PROGRAM, RECORD, SHA256
from tests.unit.operator.manifests.test_workload import WORKLOAD

from dspy_operator.manifests.archive import RemoteProgram, build_program_copy, build_source_copy, digest_files
from dspy_operator.manifests.overlay import _merge_mapping as merge_unchecked
from dspy_operator.manifests.owner import Owner
from dspy_operator.manifests.restricted import RESTRICTED, check_restricted
from dspy_operator.manifests.revisions import build_revision, parse_revision
from dspy_operator.manifests.routes import build_routes, parse_routes, parse_stamp
from dspy_operator.manifests.service import build_budget, build_service
from dspy_operator.manifests.slots import Filling, build_slot
from dspy_operator.manifests.workload import Workload, build_deployment, build_pod_template

pytestmark = pytest.mark.api

OWNER = Owner(NAMESPACE, "triage", "7f2c1f0e-0000-4000-8000-000000000001")
FILES = {"support_triage.py": "x = 1\n"}
SERVING = {
    "metadata": {"labels": {"team": "support"}},
    "spec": {
        "imagePullSecrets": [{"name": "registry"}],
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {"team": "support"}},
            }
        ],
        "containers": [
            {
                "name": "server",
                "env": [{"name": "MODE", "value": "fast"}],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                "resources": {"limits": {"memory": "1Gi"}},
            },
            {"name": "proxy", "image": "registry/proxy:1"},
        ],
        "volumes": [{"name": "data", "emptyDir": {}}],
    },
}
WORKLOAD_HERE: Workload = replace(WORKLOAD, owner=OWNER)
REMOTE = RemoteProgram(SHA256, "s3://models/triage.json")
CHILDREN = {
    "Deployment": build_deployment(WORKLOAD_HERE),
    "Deployment with a template": build_deployment(
        replace(WORKLOAD_HERE, workload="0a1b2c3e", pod_template=SERVING)
    ),
    "Service": build_service(OWNER, OWNER.name, None),
    "PodDisruptionBudget": build_budget(OWNER),
    "routes": build_routes(OWNER, TABLE, STAMP),
    "empty slot": build_slot(OWNER, 0, 3),
    "filled slot": build_slot(OWNER, 1, 3, Filling("81c0ab34ef", SHA256, PROGRAM)),
    "slot with bytes that are no text": build_slot(OWNER, 2, 3, Filling("81c0ab34ef", SHA256, b"\xff\x00")),
    "slot of a program that lies elsewhere": build_slot(OWNER, 1, 3, Filling("81c0ab34ef", SHA256, REMOTE)),
    "program": build_program_copy(OWNER, SHA256, PROGRAM),
    "program that lies elsewhere": build_program_copy(OWNER, "b" * 64, REMOTE),
    "source": build_source_copy(OWNER, digest_files(FILES), FILES),
    "ControllerRevision": build_revision(OWNER, RECORD),
}


@pytest.mark.parametrize("child", CHILDREN.values(), ids=list(CHILDREN))
def test_a_child_is_created_and_applying_it_again_writes_nothing(wire: Wire, child: Object) -> None:
    created = wire.apply(child)
    assert created["kind"] == child["kind"], created["message"]
    again = wire.apply(child)
    assert again["metadata"]["resourceVersion"] == created["metadata"]["resourceVersion"]
    assert again["metadata"]["ownerReferences"] == child["metadata"]["ownerReferences"]


def test_table_stamp_and_record_are_read_back_from_the_server(wire: Wire) -> None:
    routes = wire.apply(CHILDREN["routes"])
    assert (parse_routes(routes), parse_stamp(routes)) == (TABLE, STAMP)
    assert parse_revision(wire.apply(CHILDREN["ControllerRevision"])) == RECORD


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("program", lambda child: child | {"data": {"program.json": "{}"}}),
        ("source", lambda child: child | {"data": {"a.py": ""}}),
        ("ControllerRevision", lambda child: child | {"data": {"revision": "x"}}),
    ],
)
def test_archives_cannot_be_changed(wire: Wire, name: str, edit: Callable[[Object], Object]) -> None:
    assert wire.apply(CHILDREN[name])["kind"] == CHILDREN[name]["kind"]
    assert wire.apply(edit(CHILDREN[name]))["code"] == 422


def test_a_slot_that_is_emptied_holds_nothing_any_more(wire: Wire) -> None:
    assert wire.apply(CHILDREN["filled slot"])["data"]
    assert "data" not in wire.apply(build_slot(OWNER, 1, 4))


def test_a_slot_holds_bytes_or_a_reference_and_never_both(wire: Wire) -> None:
    remote = CHILDREN["slot of a program that lies elsewhere"]
    for child, key in ((CHILDREN["filled slot"], "program.json"), (remote, "program.ref")) * 2:
        assert list(wire.apply(child)["data"]) == [key]


@pytest.fixture(scope="module")
def restricted(wire: Wire) -> str:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "restricted", "labels": labels},
    }
    wire.create(namespace, dry_run=False)
    return "restricted"


def create_pod(wire: Wire, namespace: str, template: Object) -> Object:
    metadata = {"name": "probe", "namespace": namespace, **template["metadata"]}
    return wire.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})


@pytest.mark.parametrize("template", [{}, SERVING, sidecar()])
def test_pods_are_admitted_where_pod_security_is_restricted(
    wire: Wire, restricted: str, template: dict[str, Any]
) -> None:
    built = build_deployment(replace(WORKLOAD_HERE, pod_template=template))["spec"]["template"]
    answer = create_pod(wire, restricted, built)
    assert answer["kind"] == "Pod", answer["message"]


def is_about_pod_security(template: dict[str, Any]) -> bool:
    """Whether our own refusal of this template names Pod Security as its reason."""
    try:
        check_restricted(template, "")
    except Exception as error:  # noqa: BLE001  any refusal; wrong shapes are tested elsewhere
        return RESTRICTED in str(error) or "must contain ALL" in str(error)
    return False


REFUSED: dict[str, Object] = {
    field: template for template, field in FORBIDDEN if is_about_pod_security(template)
}


@pytest.mark.parametrize("field", REFUSED)
def test_what_we_refuse_for_pod_security_the_api_server_refuses_too(
    wire: Wire, restricted: str, field: str
) -> None:
    template = merge_unchecked(build_pod_template(WORKLOAD_HERE), REFUSED[field], "")
    message = create_pod(wire, restricted, template)["message"]
    is_invalid_anyway = f" {field.rpartition('.')[0]}" in message or field.endswith("hostProcess")
    assert 'violates PodSecurity "restricted' in message or is_invalid_anyway, message
