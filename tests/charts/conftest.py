"""Rendering of the chart by real Helm, and a real API server for what is rendered."""

import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster.api_tier import ApiServer, run_api_server
from tests.cluster.builds import tool

CHART = Path(__file__).parents[2] / "charts" / "dspy-operator"
REQUIRED = {
    "image": "registry.test/dspy-operator:1",
    "servingImage": "registry.test/dspy-server:1",
    "prometheus": {"url": "http://prometheus.monitoring.svc:9090"},
}

Object = dict[str, Any]
Render = Callable[..., list[Object]]


class RefusedError(Exception):
    """Helm refused to render; the text is what it says."""


def render_chart(values: Mapping[str, Any] | None = None, apis: Sequence[str] = ()) -> list[Object]:
    """The objects of a release `demo` in namespace `dspy`; required values are there unless None leaves them out.

    `apis` are further kinds that the cluster has, such as `monitoring.coreos.com/v1/PodMonitor`.
    """
    known = [part for api in apis for part in ("--api-versions", api)]
    done = subprocess.run(
        [tool("helm"), "template", "demo", CHART, "--namespace", "dspy", "--values", "-", *known],
        input=yaml.safe_dump({k: v for k, v in (REQUIRED | dict(values or {})).items() if v is not None}),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if done.returncode:
        raise RefusedError(done.stderr)
    return [found for found in yaml.safe_load_all(done.stdout) if found]


@pytest.fixture(scope="session")
def render() -> Render:
    return render_chart


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with run_api_server(tmp_path_factory.mktemp("api")) as server:
        yield server
