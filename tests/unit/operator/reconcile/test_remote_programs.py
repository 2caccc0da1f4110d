"""An artifact with a URI: what goes into archive and slot is where it lies, and a corrected URI reaches the slot."""

import json
from typing import Any

import pytest
from tests.unit.operator.api.examples import changed, minimal

from dspy_operator.api import names
from dspy_operator.api.spec import DSPyDeployment, parse_deployment
from dspy_operator.errors import Transient
from dspy_operator.manifests.archive import RemoteProgram, build_program_copy, parse_remote
from dspy_operator.manifests.owner import Owner
from dspy_operator.manifests.slots import Filling, Slot, build_slot, parse_slot
from dspy_operator.reconcile.digests import Digests
from dspy_operator.reconcile.programs import Programs
from dspy_operator.reconcile.snapshot import Input, Reader, Snapshot

OWNER = Owner("ml", "triage", "uid")
SHA = "a" * 64
REMOTE = RemoteProgram(SHA, "s3://models/triage.json")


class Cluster:
    """ConfigMaps by name, as a client finds them; counts the reads."""

    def __init__(self, *objects: dict[str, Any]) -> None:
        self.reads = 0
        self.objects = {obj["metadata"]["name"]: obj for obj in json.loads(json.dumps(objects))}
        for obj in self.objects.values():
            obj["metadata"] |= {"uid": obj["metadata"]["name"], "resourceVersion": "1"}

    async def find(self, _: object, __: str, name: str) -> dict[str, Any] | None:
        self.reads += 1
        return self.objects.get(name)


def build_programs(cluster: Cluster) -> Programs:
    return Programs(Digests(cluster), history=None)  # type: ignore[arg-type]  # the two methods that are used


def fill(remote: RemoteProgram, slot: int = 1) -> dict[str, Any]:
    return build_slot(OWNER, slot, 3, Filling("3f9a12c4d5", remote.sha256, remote))


def parse(uri: str | None, sha256: str = SHA) -> DSPyDeployment:
    source: dict[str, Any] = {"uri": uri} if uri else {"configMap": {"name": "c", "key": "k"}}
    return parse_deployment(changed(minimal(), "spec.program.artifact", {"sha256": sha256, **source}))


async def test_what_the_spec_says_comes_first() -> None:
    snapshot = Snapshot(OWNER, {}, None, artifact=Input(digest=SHA, uri=REMOTE.uri))
    assert await build_programs(Cluster()).get_content(snapshot, SHA) == REMOTE


async def test_an_undo_finds_where_the_former_program_lay() -> None:
    snapshot = Snapshot(OWNER, {}, None, artifact=Input(digest="b" * 64, uri="s3://models/other.json"))
    archive = Cluster(build_program_copy(OWNER, SHA, REMOTE))
    assert await build_programs(archive).get_content(snapshot, SHA) == REMOTE
    slots = Snapshot(OWNER, {}, None, slots=("", SHA, ""))
    assert await build_programs(Cluster(fill(REMOTE))).get_content(slots, SHA) == REMOTE


async def test_a_program_that_is_nowhere_is_waited_for() -> None:
    other = build_program_copy(OWNER, SHA, RemoteProgram("b" * 64, REMOTE.uri))
    with pytest.raises(Transient):
        await build_programs(Cluster(other)).get_content(Snapshot(OWNER, {}, None), SHA)


@pytest.mark.parametrize(
    ("uri", "sha256", "held"),
    [
        (REMOTE.uri, SHA, SHA),
        ("s3://models/moved.json", SHA, ""),
        (None, SHA, ""),
        ("s3://models/next.json", "b" * 64, SHA),
    ],
)
async def test_a_slot_that_refers_to_another_place_than_the_spec_is_filled_again(
    uri: str | None, sha256: str, held: str
) -> None:
    cluster = Cluster(fill(REMOTE))
    reader = Reader(cluster, Digests(cluster))  # type: ignore[arg-type]  # the one method that is used
    for _ in range(3):
        assert await reader._read_slots(OWNER, cluster.objects, parse(uri, sha256)) == ("", held, "")
    assert cluster.reads <= 2


def test_a_slot_says_what_it_refers_to() -> None:
    slot = fill(REMOTE)
    assert set(slot["data"]) == {names.REFERENCE_KEY}
    assert parse_slot(slot) == Slot("3f9a12c4d5", SHA)
    slot["data"][names.REFERENCE_KEY] = "{}"
    assert parse_slot(slot) == Slot("", "")


@pytest.mark.parametrize("text", [None, b"", b"[]", b"{", b'{"sha256": 3, "uri": "x"}', b"[" * 100_000])
def test_what_is_no_reference_is_none(text: bytes | None) -> None:
    assert parse_remote(text) is None
