"""A real Prometheus on loopback, and pods that are text a test may change."""

import json
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from tests.cluster.builds import tool
from tests.servers import Server, get_free_port

INTERVAL = 1


@dataclass
class Pods:
    """What each pod answers to a scrape, by path; None: it is down."""

    url: str
    texts: dict[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus and the pods that it scrapes each second; `pid` is its process."""

    url: str
    pods: Pods
    targets: Path
    config: Path
    pid: int

    def scrape(self, targets: list[dict[str, str]]) -> None:
        """Scrape these from now on: each has `path` and the labels that its scrape adds."""
        address = self.pods.url.removeprefix("http://")
        groups = [
            {"targets": [address], "labels": {"__metrics_path__": labels["path"]} | _without_path(labels)}
            for labels in targets
        ]
        fresh = self.targets.with_suffix(".new")
        fresh.write_text(json.dumps(groups))
        fresh.rename(self.targets)

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The rows of a query, asked plainly."""
        rows: list[dict[str, Any]] = json.loads(self.post("/api/v1/query", query=query))["data"]["result"]
        return rows

    def post(self, path: str, **form: str) -> bytes:
        """What it answers to a form."""
        with urllib.request.urlopen(f"{self.url}{path}", urlencode(form).encode(), timeout=10) as response:
            body: bytes = response.read()
        return body

    def get(self, path: str) -> bytes:
        """The body of a GET."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=10) as response:
            body: bytes = response.read()
        return body

    def configure(self, **more: object) -> None:
        """Run with this configuration beside the scrapes."""
        self.config.write_text(json.dumps(build_config(self.targets) | more))
        self.post("/-/reload")


def _without_path(labels: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in labels.items() if name != "path"}


def wait_until(condition: Callable[[], object], what: str, seconds: float = 30) -> None:
    """Ask again and again until it is so."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(OSError):
            if condition():
                return
        time.sleep(0.1)
    raise AssertionError(f"after {seconds:g} s still not: {what}")


def build_config(targets: Path) -> dict[str, object]:
    """Scrape what that file lists."""
    return {
        "global": dict.fromkeys(("scrape_interval", "scrape_timeout", "evaluation_interval"), f"{INTERVAL}s"),
        "scrape_configs": [
            {"job_name": "pods", "file_sd_configs": [{"files": [str(targets)], "refresh_interval": "1s"}]}
        ],
    }


@pytest.fixture(scope="session")
def pods() -> Iterator[Pods]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = served.texts.get(self.path)
            body = (text or "").encode()
            self.send_response(200 if text is not None else 503)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the standard library's name
            pass

    server = Server(("127.0.0.1", 0), Handler)
    served = Pods(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield served
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="session")
def prometheus(pods: Pods, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    directory = tmp_path_factory.mktemp("prometheus")
    targets = directory / "targets.json"
    targets.write_text("[]")
    config = directory / "prometheus.yml"
    config.write_text(json.dumps(build_config(targets)))
    address = f"127.0.0.1:{get_free_port()}"
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(
            [
                tool("prometheus"),
                f"--config.file={config}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address={address}",
                "--web.enable-lifecycle",
                "--web.enable-admin-api",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        ready = f"http://{address}/-/ready"
        started = "Prometheus is ready"  # a slow disk takes most of a minute to load a program of 100 MB
        wait_until(lambda: urllib.request.urlopen(ready, timeout=2).status == 200, started, seconds=180)
        yield Prometheus(f"http://{address}", pods, targets, config, process.pid)
    finally:
        process.terminate()
        process.wait(20)
