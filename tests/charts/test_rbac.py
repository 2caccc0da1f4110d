"""What the operator and people may do: the golden tables, in both modes; the code asks for nothing else."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dspy_operator.handlers.watch import CHILDREN
from dspy_operator.kube import resources
from dspy_operator.kube.resources import DSPYDEPLOYMENTS, LEASES, Resource

pytestmark = pytest.mark.tools

Object = dict[str, Any]
Render = Callable[..., list[Object]]

ALL = "get list watch create patch delete"
OPERATOR = {
    "dspydeployments.dspy-operator.io": "get list watch",
    "dspydeployments/status.dspy-operator.io": "patch",
    "dspyrollouts.dspy-operator.io": "get list watch create delete",
    "dspyrollouts/status.dspy-operator.io": "patch",
    "deployments.apps": ALL,
    "controllerrevisions.apps": "get list watch create delete",
    "services.": ALL,
    "endpointslices.discovery.k8s.io": "list watch",
    "httproutes.gateway.networking.k8s.io": ALL,
    "configmaps.": ALL,
    "jobs.batch": "get list watch create delete",
    "poddisruptionbudgets.policy": ALL,
    "pods.": "list watch patch",
    "events.events.k8s.io": "get create patch",
}
FORBIDDEN = {"secrets", "pods/exec", "serviceaccounts", "serviceaccounts/token", "nodes", "namespaces"}
POWERS = {"*", "escalate", "bind", "impersonate", "deletecollection"}


def table_of(role: Object) -> dict[str, str]:
    table: dict[str, str] = {}
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                key = f"{resource}.{group}"
                assert key not in table, f"{key} is granted twice"
                table[key] = " ".join(rule["verbs"])
    return table


def find_role(objects: list[Object], kind: str, name: str) -> Object:
    (role,) = (o for o in objects if o["kind"] == kind and o["metadata"]["name"] == name)
    return role


@pytest.mark.parametrize(("namespaced", "kind"), [(False, "ClusterRole"), (True, "Role")])
def test_the_operator_may_do_exactly_this(render: Render, kind: str, *, namespaced: bool) -> None:
    objects = render({"scope": {"namespaced": namespaced}})
    role = find_role(objects, kind, "demo-dspy-operator")
    assert table_of(role) == OPERATOR
    binding = find_role(objects, f"{kind}Binding", "demo-dspy-operator")
    assert binding["roleRef"]["kind"] == kind
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": "demo-dspy-operator", "namespace": "dspy"}
    ]


def test_its_lease_is_the_only_one_that_it_may_read_or_write(render: Render) -> None:
    role = find_role(render(), "Role", "demo-dspy-operator-lease")
    assert role["metadata"]["namespace"] == "dspy"
    assert role["rules"] == [
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "resourceNames": ["demo-dspy-operator"],
            "verbs": ["get", "patch"],
        },
    ]


@pytest.mark.parametrize("namespaced", [False, True])
def test_no_role_has_a_wildcard_a_secret_or_a_power_over_roles(render: Render, *, namespaced: bool) -> None:
    roles = [o for o in render({"scope": {"namespaced": namespaced}}) if o["kind"] in {"Role", "ClusterRole"}]
    operators = [role for role in roles if not role["metadata"]["name"].endswith("-edit")]
    assert len(roles) == 4
    for rule in (rule for role in roles for rule in role["rules"]):
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
        assert not FORBIDDEN & set(rule["resources"])
    for rule in (rule for role in operators for rule in role["rules"]):
        assert not POWERS & set(rule["verbs"])


def test_people_who_may_edit_write_neither_a_status_nor_a_rollout(render: Render) -> None:
    objects = render()
    edit = find_role(objects, "ClusterRole", "demo-dspy-operator-edit")
    assert table_of(edit) == {
        "dspydeployments.dspy-operator.io": "create update patch delete deletecollection",
        "dspydeployments/scale.dspy-operator.io": "update patch",
    }
    view = find_role(objects, "ClusterRole", "demo-dspy-operator-view")
    assert set(table_of(view).values()) == {"get list watch"}
    label = "rbac.authorization.k8s.io/aggregate-to-"
    aggregated = {
        name: sorted(key.removeprefix(label) for key in role["metadata"]["labels"] if key.startswith(label))
        for name, role in (("view", view), ("edit", edit))
    }
    assert aggregated == {"view": ["admin", "edit", "view"], "edit": ["admin", "edit"]}


SOURCE = Path(__file__).parents[2] / "operator" / "src" / "dspy_operator"
VERBS = {
    "find": {"get"},
    "list_": {"list"},
    "has_kind": {"list"},
    "create": {"create"},
    "apply": {"patch"},
    "annotate": {"patch"},
    "merge": {"patch"},
    "delete": {"delete"},
    "_put": {"create", "get", "patch"},
    "_create": {"create", "get"},
    "_delete": {"delete"},
}


def list_calls() -> Iterator[tuple[Resource, str]]:
    """Every call of the operator (not of the command line, which is a person) that names its kind."""
    for file in sorted(SOURCE.rglob("*.py")):
        if "cli" in file.relative_to(SOURCE).parts:
            continue
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match call:
                case ast.Call(func=ast.Attribute(attr=method), args=[ast.Name(id=kind), *_]):
                    resource = getattr(resources, kind, None)
                    if isinstance(resource, Resource):
                        for verb in VERBS.get(method, ()):
                            yield resource, verb
    for resource in (DSPYDEPLOYMENTS, *CHILDREN):
        yield from ((resource, verb) for verb in ("list", "watch"))


def test_every_call_of_the_code_is_granted() -> None:
    called = {
        (f"{resource.plural}.{resource.group}", verb) for resource, verb in list_calls() if resource != LEASES
    }
    granted = {(key, verb) for key, verbs in OPERATOR.items() for verb in verbs.split()}
    assert len(called) > 20
    assert called - granted == set()
