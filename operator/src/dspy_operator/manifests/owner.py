"""What all children of a DSPyDeployment have in common: labels, the owner reference, a namespace."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from dspy_operator.api import names

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Owner:
    """The DSPyDeployment that a child belongs to."""

    namespace: str
    name: str
    uid: str


def build_labels(owner: Owner) -> dict[str, str]:
    """The labels of every child."""
    return {
        names.LABEL_NAME: names.APP_NAME,
        names.LABEL_INSTANCE: owner.name,
        names.LABEL_MANAGED_BY: names.MANAGED_BY,
    }


def build_selector(owner: Owner, workload: str | None = None) -> dict[str, str]:
    """What selects serving pods, of one workload or of all; Jobs have no component and are never selected."""
    selector = {
        names.LABEL_NAME: names.APP_NAME,
        names.LABEL_INSTANCE: owner.name,
        names.LABEL_COMPONENT: names.COMPONENT_SERVER,
    }
    return selector | ({names.LABEL_WORKLOAD: workload} if workload else {})


def build_selector_text(owner: Owner) -> str:
    """The selector of all serving pods as text, for `status.selector`."""
    return ",".join(f"{key}={value}" for key, value in build_selector(owner).items())


def build_child(
    owner: Owner,
    kind: tuple[str, str],
    name: str,
    *,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Manifest:
    """A child with its metadata; `kind` is apiVersion and kind."""
    api_version, kind_name = kind
    metadata: Manifest = {
        "name": name,
        "namespace": owner.namespace,
        "labels": {**build_labels(owner), **(labels or {})},
        "ownerReferences": [_build_reference(owner)],
    }
    if annotations:
        metadata["annotations"] = dict(annotations)
    return {"apiVersion": api_version, "kind": kind_name, "metadata": metadata}


def is_owned(child: Mapping[str, Any], owner: Owner) -> bool:
    """Whether a live object is this owner's child; one that is not is never touched."""
    references = child.get("metadata", {}).get("ownerReferences") or []
    return any(reference.get("uid") == owner.uid and reference.get("controller") for reference in references)


def _build_reference(owner: Owner) -> Manifest:
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.DEPLOYMENT_KIND,
        "name": owner.name,
        "uid": owner.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


CONFIG_MAP: Final = ("v1", "ConfigMap")
