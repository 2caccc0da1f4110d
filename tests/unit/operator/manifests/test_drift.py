"""A live object is covered when it holds all that we want of it."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspy_operator.manifests.drift import digest_manifest, is_covered

manifests = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@settings(deadline=None)
@given(manifest=manifests)
def test_everything_covers_itself(manifest: Any) -> None:
    assert is_covered(manifest, manifest)


@pytest.mark.parametrize(
    ("live", "wanted"),
    [
        ({"a": 1, "default": 2}, {"a": 1}),
        ({"a": {"b": 1, "default": 2}}, {"a": {"b": 1}}),
        ({"a": [{"name": "x", "default": 1}]}, {"a": [{"name": "x"}]}),
        ({}, {"a": {}}),
        ({}, {"a": None, "b": [], "c": ""}),
        ({"a": None}, {"a": {}}),
        ({"a": ""}, {"a": {}}),
    ],
)
def test_what_the_api_server_adds_or_leaves_out_is_no_drift(live: Any, wanted: Any) -> None:
    assert is_covered(live, wanted)


@pytest.mark.parametrize(
    ("live", "wanted"),
    [
        (None, {"a": 1}),
        ({}, {"a": 1}),
        ({}, {"a": 0}),
        ({}, {"a": False}),
        ({"a": 2}, {"a": 1}),
        ({"a": "1"}, {"a": 1}),
        ({"a": {"b": 2}}, {"a": {"b": 1}}),
        ({"a": [1, 2]}, {"a": [1]}),
        ({"a": [1]}, {"a": [1, 2]}),
        ({"a": [2, 1]}, {"a": [1, 2]}),
        ({"a": [1]}, {"a": []}),
        ({"a": "text"}, {"a": {"b": 1}}),
        ({"a": {"b": 1}}, {"a": [1]}),
    ],
)
def test_what_is_missing_or_edited_is_drift(live: Any, wanted: Any) -> None:
    assert not is_covered(live, wanted)


def test_a_digest_knows_content_not_order() -> None:
    assert digest_manifest({"a": 1, "b": [2]}) == digest_manifest({"b": [2], "a": 1})
    assert digest_manifest({"a": 1}) != digest_manifest({"a": 2})
    assert len(digest_manifest({})) == 16
