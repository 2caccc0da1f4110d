"""The models -> the CustomResourceDefinitions, always the same bytes for the same models.

`python -m dspy_operator.api.crd crds/` writes them; `dspy-operator crds` prints them.
"""

import sys
from pathlib import Path
from typing import Any, Final

import yaml

from dspy_operator.api import names
from dspy_operator.api.fields import Model
from dspy_operator.api.rollout import DSPyRollout
from dspy_operator.api.spec import DEFAULT_REPLICAS, DSPyDeployment
from dspy_operator.api.structural import Schema, build_structural

CHART_COPY: Final = Path("charts/dspy-operator/files/crds")
_HEADER: Final = "# Generated from operator/src/dspy_operator/api: run `make generate`, do not edit.\n"

DEPLOYMENT_COLUMNS: Final = (
    ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', 0),
    ("Phase", "string", ".status.phase", 0),
    ("Weight", "integer", ".status.weight", 0),
    ("Stable", "string", ".status.stable.version", 0),
    ("Canary", "string", ".status.canary.version", 0),
    ("Step", "integer", ".status.canary.step", 0),
    ("Score", "string", ".status.canary.score", 0),
    ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason', 1),
    ("Age", "date", ".metadata.creationTimestamp", 0),
)
ROLLOUT_COLUMNS: Final = (
    ("Deployment", "string", ".spec.deployment", 0),
    ("From", "string", ".spec.from.version", 0),
    ("To", "string", ".spec.to.version", 0),
    ("Phase", "string", ".status.phase", 0),
    ("Step", "integer", ".status.step", 0),
    ("Weight", "integer", ".status.weight", 0),
    ("Score", "string", ".status.summary.score", 0),
    ("p95", "string", ".status.summary.p95", 0),
    ("Reason", "string", ".status.reason", 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
)
_SCALE: Final = {
    "specReplicasPath": ".spec.replicas",
    "statusReplicasPath": ".status.replicas",
    "labelSelectorPath": ".status.selector",
}


def build_crds() -> dict[str, dict[str, Any]]:
    """Both definitions by plural name."""
    deployment = _build_schema(
        DSPyDeployment, "Rolls out compiled DSPy programs: 10 %, 50 %, 100 %, or back, as Prometheus says."
    )
    deployment["properties"]["spec"]["properties"]["replicas"]["default"] = DEFAULT_REPLICAS
    rollout = _build_schema(
        DSPyRollout, "One attempt at a rollout and its evidence. Written by the operator."
    )
    return {
        names.DEPLOYMENT_PLURAL: _build_crd(
            names.DEPLOYMENT_KIND,
            (names.DEPLOYMENT_PLURAL, names.DEPLOYMENT_SINGULAR, names.DEPLOYMENT_SHORT),
            deployment,
            DEPLOYMENT_COLUMNS,
            {"status": {}, "scale": _SCALE},
        ),
        names.ROLLOUT_PLURAL: _build_crd(
            names.ROLLOUT_KIND,
            (names.ROLLOUT_PLURAL, names.ROLLOUT_SINGULAR, names.ROLLOUT_SHORT),
            rollout,
            ROLLOUT_COLUMNS,
            {"status": {}},
        ),
    }


def render_crds() -> dict[str, str]:
    """The manifests as text, by file name."""
    return {
        f"{plural}.yaml": _HEADER + yaml.safe_dump(crd, sort_keys=False, width=110, allow_unicode=True)
        for plural, crd in build_crds().items()
    }


def _build_schema(model: type[Model], description: str) -> Schema:
    raw = model.model_json_schema(by_alias=True, mode="validation")
    raw["properties"]["metadata"] = {"type": "object", "additionalProperties": {"type": "string"}}
    schema = build_structural(raw)
    schema["properties"] = {
        "apiVersion": {"type": "string", "maxLength": 64},
        "kind": {"type": "string", "maxLength": 64},
        "metadata": {"type": "object"},
        "spec": schema["properties"]["spec"],
        "status": schema["properties"]["status"],
    }
    return schema | {"description": description, "required": ["spec"]}


def _build_crd(
    kind: str,
    called: tuple[str, str, str],
    schema: Schema,
    columns: tuple[tuple[str, str, str, int], ...],
    subresources: dict[str, Any],
) -> dict[str, Any]:
    plural, singular, short = called
    version = {
        "name": names.VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": subresources,
        "selectableFields": [{"jsonPath": ".status.phase"}],
        "additionalPrinterColumns": [_build_column(*column) for column in columns],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": singular,
                "shortNames": [short],
                "categories": [names.CATEGORY],
            },
            "versions": [version],
        },
    }


def _build_column(name: str, kind: str, path: str, priority: int) -> dict[str, Any]:
    column = {"name": name, "type": kind, "jsonPath": path}
    return column | ({"priority": priority} if priority else {})


def main(arguments: list[str]) -> int:
    """Write the manifests into the given folder, and plain copies for the chart beside it."""
    folder = Path(arguments[0] if arguments else "crds")
    for target in (folder, folder.resolve().parent / CHART_COPY):
        target.mkdir(parents=True, exist_ok=True)
        for name, text in render_crds().items():
            (target / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
