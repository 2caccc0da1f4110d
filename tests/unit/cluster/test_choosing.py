"""Which of the three clusters is taken."""

from pathlib import Path

import pytest
from tests.cluster import choose
from tests.cluster.choose import choose_name
from tests.cluster.processes import ClusterError


def choose_on(machine: set[str], wished: str = "") -> str:
    """The choice on a machine that has some of docker, linux and root."""
    has = {"has_docker": "docker" in machine, "is_linux": "linux" in machine, "is_root": "root" in machine}
    return choose_name(wished=wished, **has)


@pytest.mark.parametrize(
    ("wished", "machine", "name"),
    [
        ("existing", {"docker", "linux", "root"}, "existing"),
        ("embedded", {"docker", "linux", "root"}, "embedded"),
        ("kind", {"linux", "root"}, "kind"),
        ("", {"docker", "linux", "root"}, "kind"),
        ("", {"docker"}, "kind"),
        ("", {"linux", "root"}, "embedded"),
    ],
)
def test_the_first_that_applies_is_taken(wished: str, machine: set[str], name: str) -> None:
    assert choose_on(machine, wished) == name


@pytest.mark.parametrize("machine", [{"linux"}, {"root"}], ids="".join)
def test_where_none_applies_the_three_ways_out_are_named(machine: set[str]) -> None:
    with pytest.raises(ClusterError, match=r"start Docker; be root on Linux; .* KUBECONFIG="):
        choose_on(machine)


def test_an_unknown_wish_is_refused_by_name() -> None:
    with pytest.raises(ClusterError, match="'minikube'"):
        choose_on({"docker"}, "minikube")


def test_an_exported_kubeconfig_alone_chooses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/production/kubeconfig")
    monkeypatch.delenv("DSPY_CLUSTER", raising=False)
    monkeypatch.setattr(choose, "has_docker", lambda: True)
    assert choose.choose().name == "kind"


def test_an_existing_cluster_needs_a_registry_to_push_to(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text("{}")
    monkeypatch.setenv("DSPY_CLUSTER", "existing")
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    monkeypatch.delenv("IMAGE_REGISTRY", raising=False)
    with pytest.raises(ClusterError, match="IMAGE_REGISTRY="):
        choose.choose()
    monkeypatch.setenv("IMAGE_REGISTRY", "example.com/team")
    assert choose.choose().name == "existing"
