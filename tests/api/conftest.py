"""One real API server for all tests of this folder, and a client of it."""

from collections.abc import AsyncIterator, Iterator

import pytest
from tests.cluster.api_tier import ApiServer, run_api_server

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
