"""What the operator computes again at every pass from the same objects is computed once: only for speed.

Used by `run.py`. `test_rollouts.py` holds a run with memos to the same run without.
"""

from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, ExitStack
from typing import Any
from unittest.mock import patch

from dspy_operator.api import rollout, spec
from dspy_operator.reconcile import children, history, observe, snapshot


def _remember(real: Callable[..., Any], key: Callable[..., Hashable]) -> Callable[..., Any]:
    known: dict[Hashable, tuple[Any, Any]] = {}

    def find(*given: Any) -> Any:
        place = key(*given)
        if place not in known:
            known[place] = real(*given), given  # who is kept keeps its id
        return known[place][0]

    return find


def _get_version(obj: Any) -> Hashable:
    return obj["metadata"]["uid"], obj["metadata"]["resourceVersion"]


def _get_workload(seen: Any, record: Any) -> Hashable:
    """A spec is shared by all versions of an object in which it is the same."""
    return id(seen.deployment["spec"]), record.revision


def _get_spec(seen: Any, serving_image: str) -> Hashable:
    """The simulated spec names its image, so nothing else decides what its revision is."""
    return id(seen.deployment["spec"]), seen.source.digest, serving_image


def remember() -> AbstractContextManager[object]:
    """While this lasts, parsing and building of what is already known takes no time."""
    parse_rollout = _remember(rollout.parse_rollout, _get_version)
    stack = ExitStack()
    stack.enter_context(patch.object(observe, "parse_rollout", parse_rollout))
    stack.enter_context(patch.object(history, "parse_rollout", parse_rollout))
    parse_deployment = _remember(spec.parse_deployment, _get_version)
    stack.enter_context(patch.object(snapshot, "parse_deployment", parse_deployment))
    build_workload = _remember(children.build_workload, _get_workload)
    stack.enter_context(patch.object(children, "build_workload", build_workload))
    build_record = _remember(observe.build_revision_record, _get_spec)
    stack.enter_context(patch.object(observe, "build_revision_record", build_record))
    return stack
