"""Immutable copies of what a user's ConfigMaps held: programs for undo and repair, code for the pods.

Also the reading of such ConfigMaps: bytes in, digests out.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from dspy_operator.api import names
from dspy_operator.manifests.owner import CONFIG_MAP, Manifest, Owner, build_child

_SUFFIX: Final = ".py"


@dataclass(frozen=True)
class RemoteProgram:
    """A program that lies elsewhere: the pods fetch it, the operator never does."""

    sha256: str
    uri: str


Content = bytes | RemoteProgram


def build_program_copy(owner: Owner, sha256: str, content: Content) -> Manifest:
    """The archive of one artifact."""
    copy = build_child(
        owner,
        CONFIG_MAP,
        names.program_name(owner.name, sha256),
        annotations={names.ANNOTATION_SHA256: sha256},
    )
    return copy | {"immutable": True} | build_data(content)


def build_source_copy(owner: Owner, sha256: str, files: Mapping[str, str]) -> Manifest:
    """The copy of the code that pods mount, by the digest of its files."""
    copy = build_child(
        owner,
        CONFIG_MAP,
        names.source_name(owner.name, sha256),
        annotations={names.ANNOTATION_SHA256: sha256},
    )
    return copy | {"immutable": True, "data": dict(sorted(files.items()))}


def build_data(content: Content) -> Manifest:
    """A program's bytes as a ConfigMap holds them: text if they are text, so that people can read them."""
    if isinstance(content, RemoteProgram):
        text = json.dumps({"sha256": content.sha256, "uri": content.uri}, separators=(",", ":"))
        return {"data": {names.REFERENCE_KEY: text}}
    try:
        return {"data": {names.PROGRAM_KEY: content.decode("utf-8")}}
    except UnicodeDecodeError:
        return {"binaryData": {names.PROGRAM_KEY: base64.b64encode(content).decode("ascii")}}


def find_content(config_map: Mapping[str, Any], key: str = names.PROGRAM_KEY) -> bytes | None:
    """The bytes below a key of a live ConfigMap, None if there are none."""
    text = (config_map.get("data") or {}).get(key)
    if text is not None:
        return str(text).encode("utf-8")
    encoded = (config_map.get("binaryData") or {}).get(key)
    if encoded is None:
        return None
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error:
        return None


def parse_remote(content: bytes | None) -> RemoteProgram | None:
    """What the bytes below `REFERENCE_KEY` say; None if they are no reference (somebody edited them)."""
    try:
        value = json.loads(content or b"")
        sha256, uri = value["sha256"], value["uri"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return RemoteProgram(sha256, uri) if isinstance(sha256, str) and isinstance(uri, str) else None


def find_digest(config_map: Mapping[str, Any]) -> str | None:
    """sha256 of the program in one of our own ConfigMaps, or of the one that it refers to."""
    content = find_content(config_map)
    if content is not None:
        return digest_content(content)
    remote = parse_remote(find_content(config_map, names.REFERENCE_KEY))
    return remote.sha256 if remote else None


def find_files(config_map: Mapping[str, Any]) -> dict[str, str]:
    """The code in a user's ConfigMap: its `*.py` keys."""
    data = config_map.get("data") or {}
    return {key: text for key, text in sorted(data.items()) if key.endswith(_SUFFIX)}


def digest_content(content: bytes) -> str:
    """sha256 (64 hex) of an artifact's bytes."""
    return hashlib.sha256(content).hexdigest()


def digest_files(files: Mapping[str, str]) -> str:
    """sha256 (64 hex) of code: names and texts, in whatever order they come; empty for no files."""
    if not files:
        return ""
    text = json.dumps(dict(files), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()
