"""The default namespace is that of the context, as kubectl has it."""

from pathlib import Path

import pytest

from dspy_operator.cli.kubeconfig import find_namespace, list_files, namespace_of

CONFIG = {
    "current-context": "one",
    "contexts": [
        {"name": "one", "context": {"cluster": "c", "namespace": "ml"}},
        {"name": "two", "context": {"cluster": "c"}},
    ],
}


def test_the_current_context_is_meant_unless_another_is_named() -> None:
    assert namespace_of([CONFIG], None) == "ml"
    assert namespace_of([CONFIG], "two") == ""
    assert namespace_of([CONFIG], "three") == ""


def test_the_first_file_that_names_a_context_wins() -> None:
    assert namespace_of([{"current-context": "two"}, CONFIG], None) == ""
    assert namespace_of([{}, CONFIG], None) == "ml"


def test_the_option_beats_the_variable() -> None:
    assert list_files("a", "b:c") == [Path("a")]
    assert list_files(None, "b:c") == [Path("b"), Path("c")]


def test_a_context_without_namespace_means_default(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text("current-context: x\ncontexts: [{name: x, context: {}}]\n")
    assert find_namespace(None, str(file)) == "default"


def test_a_kubeconfig_that_is_not_there_means_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    assert find_namespace(None, None) == "default"
