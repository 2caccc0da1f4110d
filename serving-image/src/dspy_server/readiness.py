"""What a pod serves now and why it may not: `/ready`, `/version` and the answer to a reload say the same."""

from typing import Any

from dspy_server.snapshot import RouteKeeper


def get_detail(keeper: RouteKeeper) -> dict[str, Any]:
    """Generation in force and newest seen, the state of each program, why one does not serve."""
    return {
        "generation": keeper.current.generation if keeper.current else 0,
        "seenGeneration": keeper.seen_generation,
        "programs": keeper.get_states(),
        "reasons": keeper.get_reasons(),
        "error": keeper.error,
    }
