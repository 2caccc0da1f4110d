"""Where the API server is and who we are."""

from pathlib import Path

import pytest
import yaml

from dspy_operator.errors import Permanent
from dspy_operator.kube.login import load_configuration

MODULE = "kubernetes.aio.config.incluster_config"


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("dspy_operator.kube.login.DEFAULT_KUBECONFIG", str(tmp_path / "none"))


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The token file of a pod's service account."""
    token, authority = tmp_path / "token", tmp_path / "ca.crt"
    token.write_text("first")
    authority.write_text("a certificate")
    monkeypatch.setattr(f"{MODULE}.SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(f"{MODULE}.SERVICE_CERT_FILENAME", str(authority))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    return token


def kubeconfig(path: Path, **servers: str) -> str:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": next(iter(servers)),
        "contexts": [{"name": name, "context": {"cluster": name, "user": "u"}} for name in servers],
        "clusters": [{"name": name, "cluster": {"server": server}} for name, server in servers.items()],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    path.write_text(yaml.safe_dump(config))
    return str(path)


def replace_token(file: Path, token: str) -> None:
    """As the kubelet does about once an hour."""
    file.write_text(token)


async def test_a_pod_uses_its_service_account(account: Path) -> None:
    configuration = await load_configuration()
    assert configuration.host == "https://10.96.0.1:443"
    assert await configuration.get_api_key_with_prefix("BearerToken") == "bearer first"


async def test_a_new_login_takes_the_token_that_the_kubelet_has_replaced(account: Path) -> None:
    await load_configuration()
    replace_token(account, "second")
    configuration = await load_configuration()
    assert await configuration.get_api_key_with_prefix("BearerToken") == "bearer second"


async def test_a_kubeconfig_that_is_named_comes_before_the_service_account(
    account: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "KUBECONFIG", kubeconfig(tmp_path / "config", here="https://here", there="https://there")
    )
    assert (await load_configuration()).host == "https://here"
    assert (await load_configuration("there")).host == "https://there"
    other = kubeconfig(tmp_path / "other", elsewhere="https://elsewhere")
    assert (await load_configuration(kubeconfig=other)).host == "https://elsewhere"


async def test_without_any_configuration_it_is_said() -> None:
    with pytest.raises(Permanent, match="no Kubernetes configuration"):
        await load_configuration()


async def test_an_unknown_context_is_said(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="nowhere"):
        await load_configuration("nowhere", kubeconfig(tmp_path / "config", here="https://here"))
