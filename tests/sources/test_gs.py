"""`gs://` against a server that speaks Google Cloud Storage, and Google's three ways to be somebody."""

import base64
import hashlib
import json
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import httpx
import pytest
from tests.cluster.builds import tool
from tests.cluster.pki import Pki, openssl
from tests.cluster.processes import ClusterError
from tests.servers import Server, get_free_port
from tests.sources.conftest import Doorman, guard, running
from tests.sources.site import PROGRAM
from tests.unit.serving.worlds import build_artifact

from dspy_server.artifact import MAX_BYTES
from dspy_server.cli import main
from dspy_server.errors import SourceError
from dspy_server.fetch import Fetcher

pytestmark = pytest.mark.tools
EMAIL = "robot@project.iam.gserviceaccount.com"
ACCOUNT = "GOOGLE_SERVICE_ACCOUNT_KEY"
URI = "gs://artifacts/triage/v2.json"
TOKEN = "token-of-the-pod"


@pytest.fixture(scope="session")
def plain_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`host:port` of a store without TLS that asks nobody who he is, with the bucket `artifacts`."""
    folder, host, port = tmp_path_factory.mktemp("gs"), "127.0.0.1", str(get_free_port())
    (folder / "artifacts").mkdir()
    serve = (tool("fake-gcs-server"), "-scheme", "http", "-host", host, "-port", port, "-public-host", host)
    files = ("-backend", "memory", "-data", folder)
    with running(*serve, *files, address=f"{host}:{port}", log=folder.with_suffix(".log")):
        put(f"{host}:{port}", "triage/v2.json", PROGRAM)
        yield f"{host}:{port}"


@pytest.fixture
async def store(plain_store: str, server_tls: ssl.SSLContext) -> AsyncIterator[Doorman]:
    async with guard(plain_store, server_tls) as doorman:
        yield doorman


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`robot` and `stranger`: private keys, and beside them their public halves (`.pub`)."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("robot", "stranger"):
        key = str(folder / name)
        openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", key)
        openssl("pkey", "-in", key, "-pubout", "-out", f"{key}.pub")
    return folder


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of whoever runs the tests: no variable, no login of his in a home."""
    for name in ("SERVICE_ACCOUNT", "SERVICE_ACCOUNT_KEY", "SERVICE_ACCOUNT_PATH", "APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(f"GOOGLE_{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def put(address: str, key: str, data: bytes) -> None:
    """As `gcloud storage cp` does: obstore puts by an interface that this server lacks."""
    place, query = f"http://{address}/upload/storage/v1/b/artifacts/o", {"uploadType": "media", "name": key}
    httpx.post(place, params=query, content=data).raise_for_status()


def build_account(key: Path, **more: object) -> str:
    """The file that Google gives for a key of a service account."""
    account = {"type": "service_account", "client_email": EMAIL, "private_key_id": "1", **more}
    return json.dumps(account | {"private_key": key.read_text()})


def mount(folder: Path, **secret: str) -> None:
    folder.mkdir()
    for name, value in secret.items():
        (folder / name).write_text(value + "\n")


def mount_account(folder: Path, keys: Path, url: str) -> None:
    """A pull secret whose account names the store, which asks for no token."""
    mount(folder, **{ACCOUNT: build_account(keys / "robot", gcs_base_url=url, disable_oauth=True)})


def find_signer(authorization: str, keys: Path, folder: Path) -> str:
    """Whose token it is, as Google would find it by the public key of the account; empty for anybody else's."""
    scheme, _, token = authorization.partition(" ")
    parts = token.split(".")
    if scheme != "Bearer" or len(parts) != 3:
        return ""
    claims = json.loads(decode(parts[1]))
    signed, signature = folder / "signed", folder / "signature"
    signed.write_text(".".join(parts[:2]))
    signature.write_bytes(decode(parts[2]))
    public = str(keys / "robot.pub")
    try:
        openssl("dgst", "-sha256", "-verify", public, "-signature", str(signature), str(signed))
    except ClusterError:
        return ""
    return str(claims["iss"])


def decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


async def test_an_object_is_fetched_with_a_token_that_the_pull_secret_s_key_signed(
    store: Doorman, keys: Path, fetcher: Fetcher, tmp_path: Path
) -> None:
    store.admits = lambda given: find_signer(given, keys, tmp_path) == EMAIL
    url = f"https://127.0.0.1:{store.port}"
    mount(fetcher.secret, **{ACCOUNT: build_account(keys / "robot"), "GOOGLE_BASE_URL": url})
    assert await fetcher.fetch(URI) == PROGRAM
    (fetcher.secret / ACCOUNT).write_text(build_account(keys / "stranger"))
    with pytest.raises(SourceError, match=r"gs://artifacts/triage/v2\.json: Unauthenticated"):
        await fetcher.fetch(URI)


async def test_an_object_is_fetched_with_the_account_that_the_pod_mounts(
    store: Doorman, keys: Path, fetcher: Fetcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.admits = lambda given: find_signer(given, keys, tmp_path) == EMAIL
    account = tmp_path / "account.json"
    account.write_text(build_account(keys / "robot", gcs_base_url=f"https://127.0.0.1:{store.port}"))
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(account))
    assert await fetcher.fetch(URI) == PROGRAM


class Metadata(BaseHTTPRequestHandler):
    """What a node of Google's answers its pods: a token of their service account."""

    def do_GET(self) -> None:
        known = "/computeMetadata/v1/instance/service-accounts/default/token"
        is_asked = self.path.partition("?")[0] == known and self.headers.get("metadata-flavor") == "Google"
        body = json.dumps({"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"}).encode()
        self.send_response(200 if is_asked else 403)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the standard library's name
        pass


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = Server(("127.0.0.1", 0), Metadata)
    monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield
    server.shutdown()
    server.server_close()
    thread.join()


async def test_an_object_is_fetched_with_the_service_account_of_the_pod(
    store: Doorman, node: None, fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.admits = f"Bearer {TOKEN}".__eq__
    monkeypatch.setenv("GOOGLE_BASE_URL", f"https://127.0.0.1:{store.port}")
    assert await fetcher.fetch(URI) == PROGRAM


async def test_a_missing_object_is_said_to_be_missing(store: Doorman, keys: Path, fetcher: Fetcher) -> None:
    mount_account(fetcher.secret, keys, f"https://127.0.0.1:{store.port}")
    with pytest.raises(SourceError, match=r"gs://artifacts/nothing\.json: not found"):
        await fetcher.fetch("gs://artifacts/nothing.json")
    with pytest.raises(SourceError, match=r"gs://no-bucket/triage/v2\.json: not found"):
        await fetcher.fetch("gs://no-bucket/triage/v2.json")


async def test_an_object_that_is_too_large_is_refused(
    plain_store: str, store: Doorman, keys: Path, fetcher: Fetcher
) -> None:
    put(plain_store, "large.json", b" " * (MAX_BYTES + 1))
    put(plain_store, "full.json", b" " * MAX_BYTES)
    mount_account(fetcher.secret, keys, f"https://127.0.0.1:{store.port}")
    with pytest.raises(SourceError, match="larger than 16777216 bytes"):
        await fetcher.fetch("gs://artifacts/large.json")
    assert len(await fetcher.fetch("gs://artifacts/full.json")) == MAX_BYTES


async def test_a_store_that_is_away_is_said_to_be_away(keys: Path, fetcher: Fetcher) -> None:
    mount_account(fetcher.secret, keys, f"https://127.0.0.1:{get_free_port()}")
    with pytest.raises(SourceError, match=r"gs://artifacts/triage/v2\.json: the store cannot be reached$"):
        await fetcher.fetch(URI)


async def test_a_store_whose_authority_is_unknown_is_said_to_be_so(
    store: Doorman, keys: Path, fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    mount_account(fetcher.secret, keys, f"https://127.0.0.1:{store.port}")
    with pytest.raises(SourceError, match="certificate is not trusted"):
        await fetcher.fetch(URI)


async def test_the_pod_s_service_account_is_missing_where_no_node_answers(
    store: Doorman, fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GCE_METADATA_HOST", "GCE_METADATA_IP"):
        monkeypatch.setenv(name, f"127.0.0.1:{get_free_port()}")
    monkeypatch.setenv("GOOGLE_BASE_URL", f"https://127.0.0.1:{store.port}")
    with pytest.raises(SourceError, match=f"{URI}: no usable credentials, in the pull secret or of the pod$"):
        await fetcher.fetch(URI)


@pytest.fixture(scope="session")
def https_store(pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The same with TLS of its own, for who fetches from outside of a test's loop."""
    folder, host, port = tmp_path_factory.mktemp("gs-tls"), "127.0.0.1", str(get_free_port())
    (folder / "artifacts").mkdir()
    (folder / "artifacts" / "v3.json").write_bytes(build_artifact(folder))
    serve = (tool("fake-gcs-server"), "-host", host, "-port", port, "-public-host", host)
    tls = ("-cert-location", pki.certificate("server"), "-private-key-location", pki.key("server"))
    files = ("-backend", "memory", "-data", folder)
    with running(*serve, *tls, *files, address=f"{host}:{port}", log=folder.with_suffix(".log")):
        yield f"https://{host}:{port}"


def test_the_digest_of_a_fetched_program_must_be_the_promised_one(
    https_store: str,
    trusted: None,
    keys: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mount_account(tmp_path / "pull", keys, https_store)
    monkeypatch.setenv("DSPY_PULL", str(tmp_path / "pull"))
    folder = tmp_path / "programs"
    folder.mkdir()
    digest = hashlib.sha256(build_artifact(folder)).hexdigest()
    assert main(["verify", "gs://artifacts/v3.json", "--sha256", digest]) == 0
    assert capsys.readouterr().err == ""
    assert main(["verify", "gs://artifacts/v3.json", "--sha256", "0" * 64]) == 1
    assert f"the bytes have sha256 {digest}, expected {'0' * 64}" in capsys.readouterr().err
