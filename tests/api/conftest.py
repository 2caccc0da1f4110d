"""One real API server for all tests of this folder, and a client of it."""

import time
from collections.abc import AsyncIterator, Iterator

import pytest
from tests.api.wire import GROUP, NAMESPACE, Wire
from tests.cluster.api_tier import ApiServer, run_api_server

from dspy_operator.api.crd import build_crds
from dspy_operator.kube.client import Client


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with run_api_server(tmp_path_factory.mktemp("api")) as server:
        yield server


@pytest.fixture
async def client(api_server: ApiServer) -> AsyncIterator[Client]:
    opened = await Client.from_environment(kubeconfig=str(api_server.kubeconfig))
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def wire(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Wire:
    opened = Wire(api_server.kubeconfig, tmp_path_factory.mktemp("wire"))
    opened.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}, dry_run=False)
    for crd in build_crds().values():
        assert opened.apply(crd)["kind"] == "CustomResourceDefinition"
    for plural in build_crds():
        wait_until_served(opened, plural)
    return opened


def wait_until_served(wire: Wire, plural: str) -> None:
    for _ in range(100):
        if wire.send("GET", f"{GROUP}/{plural}")["kind"].endswith("List"):
            return
        time.sleep(0.1)
    raise AssertionError(f"{plural} are not served after 10 s")
