"""Where programs, code and revisions are kept: bytes and records survive the way there and back."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspy_operator.manifests.archive import (
    build_program_copy,
    build_source_copy,
    digest_content,
    digest_files,
    find_content,
    find_files,
)
from dspy_operator.manifests.owner import Owner
from dspy_operator.manifests.revisions import RevisionRecord, build_revision, parse_revision
from dspy_operator.manifests.slots import Filling, Slot, build_slot, parse_slot

OWNER = Owner("ml", "triage", "uid-1")
PROGRAM = '{"predict": "größer"}\n'.encode()
SHA256 = digest_content(PROGRAM)
RECORD = RevisionRecord(
    revision="3f9a12c4d5",
    workload="0a1b2c3d",
    module="a:B",
    sha256=SHA256,
    image="registry/server:1",
    is_default_image=True,
    source_digest="c0de",
    lm={"primary": {"model": "openai/x"}},
    template={"volumes": [{"name": "data", "emptyDir": {}}]},
)


@given(st.binary(max_size=60))
def test_a_copy_holds_the_very_bytes(content: bytes) -> None:
    copy = json.loads(json.dumps(build_program_copy(OWNER, digest_content(content), content)))
    assert find_content(copy) == content
    assert copy["immutable"] is True
    assert copy["metadata"]["name"] == f"triage-program-{digest_content(content)[:12]}"


@given(st.binary(max_size=60))
def test_a_slot_tells_the_digest_of_its_bytes(content: bytes) -> None:
    slot = build_slot(OWNER, 1, 3, Filling("3f9a12c4d5", digest_content(content), content))
    assert parse_slot(json.loads(json.dumps(slot))) == Slot("3f9a12c4d5", digest_content(content))


def test_a_slot_whose_bytes_were_edited_does_not_pass_for_what_it_claims() -> None:
    slot = build_slot(OWNER, 1, 3, Filling("3f9a12c4d5", SHA256, PROGRAM))
    slot["data"]["program.json"] += " "
    assert parse_slot(slot).sha256 not in {"", SHA256}


@pytest.mark.parametrize("slot", [None, {}, build_slot(OWNER, 0, 3), {"binaryData": {"program.json": "%"}}])
def test_an_empty_slot_holds_nothing(slot: dict[str, Any] | None) -> None:
    assert parse_slot(slot) == Slot("", "")


def test_slots_are_called_by_their_number_and_stamped() -> None:
    slot = build_slot(OWNER, 2, 3)
    assert slot["metadata"]["name"] == "triage-slot-2"
    assert slot["metadata"]["annotations"] == {"dspy-operator.io/epoch": "3"}
    assert "data" not in slot


def test_code_is_the_py_keys_in_any_order() -> None:
    data = {"b.py": "2", "notes.txt": "x", "a.py": "1"}
    files = find_files({"data": data})
    assert files == {"a.py": "1", "b.py": "2"}
    assert digest_files(files) == digest_files(dict(reversed(files.items())))
    assert digest_files(files) != digest_files({"a.py": "12", "b.py": ""})
    copy = build_source_copy(OWNER, digest_files(files), files)
    assert copy["data"] == files
    assert copy["immutable"] is True
    assert find_files(copy) == files


def test_no_code_has_no_digest_and_the_digest_of_code_never_changes() -> None:
    assert digest_files(find_files({})) == ""
    assert digest_files({"a.py": "x = 1\n"}).startswith("c79ca4d538918458")


def test_a_revision_is_read_as_it_was_written() -> None:
    written = json.loads(json.dumps(build_revision(OWNER, RECORD, number=4)))
    assert parse_revision(written) == RECORD
    assert written["metadata"]["name"] == "triage-3f9a12c4d5"
    assert written["revision"] == 4


@pytest.mark.parametrize("broken", [{"data": None}, {"data": []}, {"data": {}}, {}])
def test_what_is_no_revision_of_ours_is_none(broken: dict[str, Any]) -> None:
    assert parse_revision(broken) is None


@pytest.mark.parametrize("key", ["revision", "image", "lm", "template", "sourceDigest"])
def test_a_revision_that_lacks_something_is_none(key: str) -> None:
    revision = build_revision(OWNER, RECORD)
    revision["data"][key] = 5
    assert parse_revision(revision) is None
