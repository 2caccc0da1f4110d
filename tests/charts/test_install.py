"""A life of the release, by real Helm on a real API server: install, upgrade, what accounts may do, uninstall."""

import subprocess
from collections.abc import Iterator

import pytest
import yaml
from tests.charts.conftest import CHART, REQUIRED
from tests.cluster.api_tier import ApiServer
from tests.cluster.builds import tool

pytestmark = pytest.mark.api

OPERATOR = "system:serviceaccount:life:demo-dspy-operator"


def run(
    server: ApiServer, program: str, *arguments: str, given: str = ""
) -> subprocess.CompletedProcess[str]:
    command = [str(tool(program)), "--kubeconfig", str(server.kubeconfig), "--namespace", "life", *arguments]
    return subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=180)


def must(server: ApiServer, program: str, *arguments: str, given: str = "") -> str:
    done = run(server, program, *arguments, given=given)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def release(api_server: ApiServer) -> Iterator[ApiServer]:
    """The chart installed, its edit role given to the user `tenant`."""
    must(api_server, "kubectl", "create", "namespace", "life")
    must(api_server, "helm", "install", "demo", str(CHART), "--values", "-", given=yaml.safe_dump(REQUIRED))
    for role in ("edit", "view"):
        must(
            api_server,
            *("kubectl", "create", "rolebinding", f"tenant-{role}", "--user=tenant"),
            f"--clusterrole=demo-dspy-operator-{role}",
        )
    yield api_server
    run(api_server, "helm", "uninstall", "demo")


def is_allowed(server: ApiServer, account: str, verb: str, resource: str, *more: str) -> bool:
    answer = run(server, "kubectl", "auth", "can-i", verb, resource, *more, f"--as={account}").stdout.strip()
    assert answer in {"yes", "no"}
    return answer == "yes"


def test_the_operator_may_do_its_work_and_read_no_secret(release: ApiServer) -> None:
    assert is_allowed(release, OPERATOR, "list", "dspydeployments.dspy-operator.io")
    assert is_allowed(release, OPERATOR, "create", "leases.coordination.k8s.io")
    assert is_allowed(release, OPERATOR, "patch", "leases.coordination.k8s.io/demo-dspy-operator")
    assert not is_allowed(release, OPERATOR, "patch", "leases.coordination.k8s.io/other")
    assert not is_allowed(release, OPERATOR, "patch", "dspydeployments.dspy-operator.io")
    assert not is_allowed(release, OPERATOR, "get", "secrets")


def test_a_tenant_writes_deployments_but_no_status_and_no_rollout(release: ApiServer) -> None:
    assert is_allowed(release, "tenant", "create", "dspydeployments.dspy-operator.io")
    assert is_allowed(release, "tenant", "get", "dspyrollouts.dspy-operator.io")
    for verb in ("create", "update", "patch", "delete"):
        assert not is_allowed(release, "tenant", verb, "dspyrollouts.dspy-operator.io")
    assert not is_allowed(
        release, "tenant", "patch", "dspydeployments.dspy-operator.io", "--subresource=status"
    )
    assert is_allowed(release, OPERATOR, "patch", "dspydeployments.dspy-operator.io", "--subresource=status")


def test_the_notes_name_the_next_three_commands(release: ApiServer) -> None:
    notes = must(release, "helm", "get", "notes", "demo")
    assert "kubectl -n life rollout status deployment/demo-dspy-operator" in notes
    assert "apply -f dspydeployment.yaml" in notes
    assert "kubectl dspy get -A -w" in notes


def test_the_crds_outlive_the_release_and_are_taken_over_by_the_next(release: ApiServer) -> None:
    values = yaml.safe_dump(REQUIRED | {"operator": {"workers": 2}})
    must(release, "helm", "upgrade", "demo", str(CHART), "--values", "-", given=values)
    must(release, "helm", "uninstall", "demo")
    assert must(release, "kubectl", "get", "deployments", "-o", "name") == ""
    crds = must(release, "kubectl", "get", "crds", "-o", "name").split()
    assert [crd.partition("/")[2] for crd in crds] == [
        "dspydeployments.dspy-operator.io",
        "dspyrollouts.dspy-operator.io",
    ]
    must(release, "helm", "install", "demo", str(CHART), "--values", "-", given=values)
