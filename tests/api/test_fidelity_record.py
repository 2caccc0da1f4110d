"""The stored answers of the API server are still what it answers; `UPDATE_FIDELITY=1` writes them anew."""

import os

import pytest
from tests.api.wire import Wire
from tests.cluster.api_tier import ApiServer
from tests.simulation.fidelity.recording import STORED, Comparing, RecordingClient, read_pairs, render_pairs
from tests.simulation.fidelity.samples import NAMESPACE
from tests.simulation.fidelity.script import play

pytestmark = pytest.mark.api


async def test_the_stored_answers_are_what_the_server_answers(api_server: ApiServer, wire: Wire) -> None:
    wire.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}, dry_run=False)
    client = await RecordingClient.from_environment(kubeconfig=str(api_server.kubeconfig))
    client.pairs = []
    try:
        await play(client)
    finally:
        await client.close()
    comparing = Comparing()
    pairs = [comparing.build_pair(*pair) for pair in client.pairs]
    if os.environ.get("UPDATE_FIDELITY"):
        STORED.write_text(render_pairs(pairs))
    stored = read_pairs()
    assert len(stored) >= 200
    assert [pair["request"] for pair in pairs] == [pair["request"] for pair in stored]
    assert pairs == stored
