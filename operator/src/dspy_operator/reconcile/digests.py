"""Digests of ConfigMaps, computed once for each version of one: a program of 1 MiB is not read at every pass."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

from dspy_operator.api.names import PROGRAM_KEY, REFERENCE_KEY
from dspy_operator.kube.client import Client
from dspy_operator.kube.resources import CONFIGMAPS
from dspy_operator.manifests.archive import (
    Content,
    RemoteProgram,
    digest_content,
    digest_files,
    find_content,
    find_files,
    parse_remote,
)

KEPT: Final = 4096


class Digests:
    """Knows the digest of each version (uid, resourceVersion) of a ConfigMap; reads the bytes when it does not."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: OrderedDict[tuple[str, str, str], str | None] = OrderedDict()

    async def find_content(self, metadata: Mapping[str, Any], key: str = PROGRAM_KEY) -> str | None:
        """sha256 of the bytes below a key; None if the key, or by now the object, is not there."""
        return await self._find(metadata, key)

    async def find_program(self, metadata: Mapping[str, Any], wanted: RemoteProgram | None) -> str | None:
        """sha256 of the program in one of our own ConfigMaps; None too if it refers to another place than `wanted`."""
        digest = await self.find_content(metadata)
        if digest is not None:
            return digest
        reference = parse_remote((await self._find(metadata, REFERENCE_KEY) or "").encode())
        if reference is None or (wanted and wanted.sha256 == reference.sha256 and wanted != reference):
            return None
        return reference.sha256

    async def find_files(self, metadata: Mapping[str, Any]) -> str | None:
        """sha256 of the code in it; None without any `*.py` key."""
        return await self._find(metadata, "")

    async def read_content(self, namespace: str, name: str, key: str, sha256: str) -> bytes | None:
        """The bytes below a key, if they are there and have this digest."""
        found = await self._client.find(CONFIGMAPS, namespace, name)
        content = find_content(found, key) if found else None
        return content if content is not None and digest_content(content) == sha256 else None

    async def read_program(self, namespace: str, name: str, sha256: str) -> Content | None:
        """The program in one of our own ConfigMaps, or where it lies, if that has this digest."""
        found = await self._client.find(CONFIGMAPS, namespace, name)
        content = find_content(found) if found else None
        if content is not None:
            return content if digest_content(content) == sha256 else None
        reference = parse_remote(find_content(found, REFERENCE_KEY)) if found else None
        return reference if reference is not None and reference.sha256 == sha256 else None

    async def read_files(self, namespace: str, name: str, sha256: str) -> dict[str, str] | None:
        """The code of a ConfigMap, if it is there and has this digest."""
        found = await self._client.find(CONFIGMAPS, namespace, name)
        files = find_files(found) if found else {}
        return files if files and digest_files(files) == sha256 else None

    async def _find(self, metadata: Mapping[str, Any], key: str) -> str | None:
        meta = metadata["metadata"]
        version = (meta["uid"], meta["resourceVersion"], key)
        if version not in self._known:
            found = await self._client.find(CONFIGMAPS, meta["namespace"], meta["name"])
            if found is None:
                return None
            read = found["metadata"]
            version = (read["uid"], read["resourceVersion"], key)
            self._known[version] = _digest(found, key)
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
        return self._known[version]


def _digest(config_map: Mapping[str, Any], key: str) -> str | None:
    if not key:
        return digest_files(find_files(config_map)) or None
    content = find_content(config_map, key)
    if content is None:
        return None
    return content.decode() if key == REFERENCE_KEY else digest_content(content)
