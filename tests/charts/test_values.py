"""Values that the chart refuses, with a message that names the value."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from tests.charts.conftest import CHART

pytestmark = pytest.mark.tools

Render = Callable[..., list[dict[str, Any]]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image": None}, "missing property 'image'"),
        ({"servingImage": None}, "missing property 'servingImage'"),
        ({"prometheus": {}}, "at '/prometheus': missing property 'url'"),
        ({"prometheus": {"url": ""}}, "at '/prometheus/url'"),
        ({"prometheus": {"url": "prometheus:9090"}}, "at '/prometheus/url'"),
        ({"prometheus": {"url": "http://user:secret@prometheus"}}, "at '/prometheus/url'"),
        ({"image": "registry.test/dspy-operator"}, "at '/image'"),
        ({"image": ""}, "at '/image'"),
        ({"replicas": 2}, "'replicas' not allowed"),
        ({"operator": {"workers": 0}}, "at '/operator/workers'"),
        ({"operator": {"logLevel": "LOUD"}}, "at '/operator/logLevel'"),
        ({"operator": {"lookTickSeconds": "10s"}}, "at '/operator/lookTickSeconds'"),
        ({"scope": {"namespaced": "yes"}}, "at '/scope/namespaced'"),
        (
            {"networkPolicy": {"enabled": True, "apiServer": {"ports": []}}},
            "at '/networkPolicy/apiServer/ports'",
        ),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(render: Render, values: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        render(values)


@pytest.mark.parametrize(
    "image",
    [
        "dspy-operator:1",
        "localhost/dspy-operator:3f9a12",
        "registry.test:5000/a/b:1.2.3",
        f"registry.test/a@sha256:{'0' * 64}",
        f"registry.test/a:1@sha256:{'0' * 64}",
    ],
)
def test_an_image_is_named_by_tag_or_digest(render: Render, image: str) -> None:
    (deployment,) = (found for found in render({"image": image}) if found["kind"] == "Deployment")
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == image


def list_paths(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict) and value and prefix + key != "resources":
            yield from list_paths(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def test_the_readme_names_every_value_and_no_other() -> None:
    given = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    values = {*list_paths(given), "image", "servingImage", "prometheus.url"} - {"prometheus"}
    rows = [
        row for row in (CHART / "README.md").read_text(encoding="utf-8").splitlines() if row.startswith("| `")
    ]
    named = {name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])}
    assert named == values
