"""The in-context learner as Kubernetes objects: the example's own manifest with its blanks filled in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MANIFEST = ROOT / "examples/support-triage/manifests/lm-provider.yaml"
SOURCES = ("icl_lm.py", "learner.py")


def build_provider_objects(
    namespace: str, image: str, env: dict[str, str] | None = None
) -> list[dict[str, Any]]:
    """ConfigMap, Deployment and Service `lm-provider`; `env` overrides, for example LATENCY_PER_1K_TOKENS."""
    code = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "lm-provider"},
        "data": {name: (HERE / name).read_text() for name in SOURCES},
    }
    text = MANIFEST.read_text().replace("IMAGE_PYTHON", image)
    objects: list[dict[str, Any]] = [code, *yaml.safe_load_all(text)]
    for item in objects:
        item["metadata"]["namespace"] = namespace
    container = objects[1]["spec"]["template"]["spec"]["containers"][0]
    wanted = {e["name"]: e["value"] for e in container["env"]} | (env or {})
    container["env"] = [{"name": n, "value": v} for n, v in wanted.items()]
    return objects
