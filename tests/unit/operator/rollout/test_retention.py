"""What may be deleted: failed attempts first, never what `undo` could ask for."""

from typing import Any

from dspy_operator.api.names import program_name, source_name
from dspy_operator.rollout.actions import Prune
from dspy_operator.rollout.model import Past, Phase, Stock
from dspy_operator.rollout.retention import find_prunable

NAME = "triage"


def build_past(number: int, phase: Phase) -> Past:
    return Past(f"attempt-{number}", f"r{number - 1}", f"r{number}", phase, float(number))


def build_stock(*phases: Phase, limit: int = 3, window: int = 1, **more: Any) -> Stock:
    attempts = tuple(build_past(number, phase) for number, phase in enumerate(phases, 1))
    return Stock(attempts=attempts, limit=limit, window=window, **more)


def list_kept(stock: Stock) -> set[str]:
    prune = find_prunable(NAME, stock, frozenset()) or Prune()
    return {past.name for past in stock.attempts} - set(prune.rollouts)


def test_nothing_is_deleted_below_the_limit() -> None:
    assert (
        find_prunable(NAME, build_stock(Phase.PROMOTED, Phase.ROLLED_BACK, Phase.ABORTED), frozenset())
        is None
    )


def test_old_failures_go_first() -> None:
    stock = build_stock(Phase.ROLLED_BACK, Phase.PROMOTED, Phase.ABORTED, Phase.SUPERSEDED, Phase.PROMOTED)
    assert list_kept(stock) == {"attempt-2", "attempt-5", "attempt-4"}


def test_the_promoted_ones_of_the_window_stay_even_beyond_the_limit() -> None:
    stock = build_stock(*[Phase.PROMOTED] * 4, *[Phase.ROLLED_BACK] * 4, limit=2, window=2)
    assert list_kept(stock) == {"attempt-2", "attempt-3", "attempt-4"}


def test_older_promoted_ones_fill_what_failures_leave() -> None:
    stock = build_stock(*[Phase.PROMOTED] * 4, Phase.ROLLED_BACK, limit=4, window=1)
    assert list_kept(stock) == {"attempt-5", "attempt-4", "attempt-3", "attempt-2"}


def test_revisions_and_copies_go_with_the_last_attempt_that_could_go_back_to_them() -> None:
    sha = {revision: (revision * 32, "c0de" * 16) for revision in ("r0", "r1", "r2", "r3")}
    copies = {program_name(NAME, program) for program, _ in sha.values()} | {source_name(NAME, "c0de" * 16)}
    stock = build_stock(
        Phase.PROMOTED,
        Phase.PROMOTED,
        Phase.ROLLED_BACK,
        digests=sha,
        copies=frozenset(copies),
        window=0,
        limit=1,
    )
    prune = find_prunable(NAME, stock, frozenset({"r2"}))
    assert prune == Prune(
        rollouts=("attempt-1", "attempt-3"),
        config_maps=tuple(sorted({program_name(NAME, "r0" * 32), program_name(NAME, "r3" * 32)})),
        revisions=("r0", "r3"),
    )


def test_what_is_in_use_stays() -> None:
    stock = build_stock(digests={"r9": ("9" * 64, "")}, copies=frozenset({program_name(NAME, "9" * 64)}))
    assert find_prunable(NAME, stock, frozenset({"r9"})) is None
    assert find_prunable(NAME, stock, frozenset()) == Prune((), (program_name(NAME, "9" * 64),), ("r9",))
