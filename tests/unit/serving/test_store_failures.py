"""What an object store's client refuses before it asks anybody, in words that a person can act upon."""

import json
import socket
from pathlib import Path

import pytest

from dspy_server.errors import SourceError
from dspy_server.fetch import Fetcher

ACCOUNT = {"client_email": "robot", "private_key_id": "1", "private_key": "hunter2"}


@pytest.mark.parametrize(
    "account", ["{hunter2", '{"client_email": "hunter2"}', "hunter2", json.dumps(ACCOUNT)]
)
async def test_a_pull_secret_that_is_no_service_account_is_said_to_be_none(
    account: str, tmp_path: Path
) -> None:
    (tmp_path / "GOOGLE_SERVICE_ACCOUNT_KEY").write_text(account)
    with pytest.raises(SourceError) as caught:
        await Fetcher(tmp_path).fetch("gs://artifacts/v2.json")
    expected = "gs://artifacts/v2.json: no usable credentials, in the pull secret or of the pod"
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("scheme", "secret"),
    [
        ("gs", {"GOOGLE_BASE_URL": "", "GOOGLE_BEARER_TOKEN": "hunter2"}),
        ("s3", {"AWS_ENDPOINT_URL": "", "AWS_ACCESS_KEY_ID": "robot", "AWS_SECRET_ACCESS_KEY": "hunter2"}),
    ],
)
async def test_a_store_without_tls_is_told_no_secret(
    scheme: str, secret: dict[str, str], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        for name, value in secret.items():
            (tmp_path / name).write_text(value or url)
        with pytest.raises(
            SourceError, match=rf"{scheme}://artifacts/v2\.json: the store's address is not https$"
        ):
            await Fetcher(tmp_path).fetch(f"{scheme}://artifacts/v2.json")
        with pytest.raises(BlockingIOError):
            listener.accept()
