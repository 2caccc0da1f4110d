"""Pods of the tests' own, under restricted Pod Security."""

from __future__ import annotations

from typing import Any


def build_pod_spec(container: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A pod with one container, which can write to nothing but its volumes; `fields` are more fields of the pod."""
    restricted = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    return {
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container | {"securityContext": restricted}],
        **fields,
    }
