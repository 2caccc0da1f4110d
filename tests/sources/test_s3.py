"""`s3://` against a real object store."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.store import S3Store
from tests.cluster.builds import tool
from tests.cluster.pki import Pki
from tests.servers import get_free_port
from tests.sources.conftest import running
from tests.sources.site import PROGRAM

from dspy_server.artifact import MAX_BYTES
from dspy_server.errors import SourceError
from dspy_server.fetch import Fetcher

pytestmark = pytest.mark.tools
KEYS = {"AWS_ACCESS_KEY_ID": "robot", "AWS_SECRET_ACCESS_KEY": "hunter2hunter2", "AWS_REGION": "us-east-1"}


@pytest.fixture(scope="session")
def store_url(pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An object store with the bucket `artifacts`."""
    folder, address = tmp_path_factory.mktemp("s3"), f"127.0.0.1:{get_free_port()}"
    (folder / "artifacts").mkdir()
    login = {"ROOT_ACCESS_KEY": KEYS["AWS_ACCESS_KEY_ID"], "ROOT_SECRET_KEY": KEYS["AWS_SECRET_ACCESS_KEY"]}
    tls = ("--cert", pki.certificate("server"), "--key", pki.key("server"))
    serve = (tool("versitygw"), "--port", address, *tls, "posix", folder)
    with running(*serve, address=address, log=folder.with_suffix(".log"), **login):
        yield f"https://{address}"


@pytest.fixture
def endpoint(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a pod that a user pointed at a store of his own; it holds no keys."""
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", store_url)


def put(url: str, key: str, data: bytes) -> None:
    config: Any = {name.lower(): value for name, value in KEYS.items()}
    obstore.put(S3Store("artifacts", config={**config, "aws_endpoint_url": url}), key, data)


def mount_keys(folder: Path) -> None:
    folder.mkdir()
    for name, value in KEYS.items():
        (folder / name).write_text(value + "\n")


async def test_an_object_is_fetched_with_the_keys_of_the_pull_secret(
    store_url: str, endpoint: None, fetcher: Fetcher
) -> None:
    put(store_url, "triage/v2.json", PROGRAM)
    mount_keys(fetcher.secret)
    assert await fetcher.fetch("s3://artifacts/triage/v2.json") == PROGRAM


async def test_an_object_is_fetched_with_the_environment_of_the_pod(
    store_url: str, endpoint: None, fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store_url, "triage/v3.json", PROGRAM)
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    assert await fetcher.fetch("s3://artifacts/triage/v3.json") == PROGRAM


async def test_a_missing_object_is_said_to_be_missing(endpoint: None, fetcher: Fetcher) -> None:
    mount_keys(fetcher.secret)
    with pytest.raises(SourceError, match=r"s3://artifacts/nothing\.json: not found"):
        await fetcher.fetch("s3://artifacts/nothing.json")


async def test_an_object_that_is_too_large_is_refused(
    store_url: str, endpoint: None, fetcher: Fetcher
) -> None:
    put(store_url, "large.json", b" " * (MAX_BYTES + 1))
    mount_keys(fetcher.secret)
    with pytest.raises(SourceError, match="larger than 16777216 bytes"):
        await fetcher.fetch("s3://artifacts/large.json")


async def test_wrong_keys_are_an_error_that_shows_none(endpoint: None, fetcher: Fetcher) -> None:
    mount_keys(fetcher.secret)
    (fetcher.secret / "AWS_SECRET_ACCESS_KEY").write_text("wrong-and-secret")
    with pytest.raises(SourceError) as caught:
        await fetcher.fetch("s3://artifacts/triage/v2.json")
    assert "secret" not in str(caught.value)
    assert "Denied" in str(caught.value)


async def test_a_store_that_is_away_is_said_to_be_away(
    fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"https://127.0.0.1:{get_free_port()}")
    mount_keys(fetcher.secret)
    with pytest.raises(SourceError, match=r"s3://artifacts/triage/v2\.json: the store cannot be reached$"):
        await fetcher.fetch("s3://artifacts/triage/v2.json")


async def test_a_store_whose_authority_is_unknown_is_said_to_be_so(
    endpoint: None, fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    mount_keys(fetcher.secret)
    with pytest.raises(SourceError, match="certificate is not trusted"):
        await fetcher.fetch("s3://artifacts/triage/v2.json")
