"""The ControllerRevision that says what a revision is: undo, repair and a rebuilt status read it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dspy_operator.api import names
from dspy_operator.manifests.owner import Manifest, Owner, build_child

_KIND = ("apps/v1", "ControllerRevision")


@dataclass(frozen=True)
class RevisionRecord:
    """What a revision is.

    `image` is the resolved one; `is_default_image` says that the spec named none, so that a newer operator
    goes on with it. `source_digest` is empty without `program.source`. `lm` and `template` are the parts of
    the spec that belong to the workload, as plain JSON.
    """

    revision: str
    workload: str
    module: str
    sha256: str
    image: str
    is_default_image: bool
    source_digest: str
    lm: Mapping[str, Any]
    template: Mapping[str, Any]


def build_revision(owner: Owner, record: RevisionRecord, number: int = 1) -> Manifest:
    """The ControllerRevision; its data can never change, `number` only orders a listing."""
    revision = build_child(owner, _KIND, names.revision_name(owner.name, record.revision))
    data = {
        "revision": record.revision,
        "workload": record.workload,
        "module": record.module,
        "sha256": record.sha256,
        "image": record.image,
        "defaultImage": record.is_default_image,
        "sourceDigest": record.source_digest,
        "lm": dict(record.lm),
        "template": dict(record.template),
    }
    return revision | {"data": data, "revision": number}


def parse_revision(obj: Mapping[str, Any]) -> RevisionRecord | None:
    """What a live ControllerRevision says; None if it is not one of ours."""
    data = obj.get("data")
    if not isinstance(data, Mapping):
        return None
    texts = ("revision", "workload", "module", "sha256", "image", "sourceDigest")
    if not all(isinstance(data.get(key), str) for key in texts):
        return None
    if not all(isinstance(data.get(key), Mapping) for key in ("lm", "template")):
        return None
    return RevisionRecord(
        revision=data["revision"],
        workload=data["workload"],
        module=data["module"],
        sha256=data["sha256"],
        image=data["image"],
        is_default_image=data.get("defaultImage") is True,
        source_digest=data["sourceDigest"],
        lm=data["lm"],
        template=data["template"],
    )
