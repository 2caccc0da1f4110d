"""Values that the chart refuses, with a message that names the value."""

from collections.abc import Callable
from typing import Any

import pytest

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
