"""The three program slots of the serving pods: ConfigMaps with fixed names, mounted when the pod is created.

Which of them may be overwritten is decided elsewhere; here is only what they look like.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dspy_operator.api import names
from dspy_operator.manifests.archive import Content, build_data, find_digest
from dspy_operator.manifests.owner import CONFIG_MAP, Manifest, Owner, build_child


@dataclass(frozen=True)
class Filling:
    """What goes into a slot."""

    revision: str
    sha256: str
    content: Content


@dataclass(frozen=True)
class Slot:
    """What a live slot holds: `sha256` is computed from its bytes, or what it refers to; empty for none."""

    revision: str
    sha256: str


def build_slot(owner: Owner, slot: int, epoch: int, filling: Filling | None = None) -> Manifest:
    """Slot 0, 1 or 2: empty, or with a program."""
    annotations = {names.ANNOTATION_EPOCH: str(epoch)}
    if filling:
        annotations |= {
            names.ANNOTATION_REVISION: filling.revision,
            names.ANNOTATION_SHA256: filling.sha256,
        }
    config_map = build_child(owner, CONFIG_MAP, names.slot_name(owner.name, slot), annotations=annotations)
    return config_map | (build_data(filling.content) if filling else {})


def parse_slot(config_map: Mapping[str, Any] | None) -> Slot:
    """What a live slot holds; a missing one holds nothing."""
    digest = find_digest(config_map) if config_map else None
    if config_map is None or digest is None:
        return Slot("", "")
    annotations = config_map.get("metadata", {}).get("annotations") or {}
    return Slot(str(annotations.get(names.ANNOTATION_REVISION, "")), digest)
