"""Which attempts, revisions and copies may go: failed attempts first, never what `undo` could ask for."""

from collections.abc import Iterable

from dspy_operator.api.names import program_name, source_name
from dspy_operator.rollout.actions import Prune
from dspy_operator.rollout.model import Past, Phase, Stock


def find_prunable(name: str, stock: Stock, in_use: frozenset[str]) -> Prune | None:
    """What to delete now, None if nothing; `in_use` are the revisions of stable, the table and the spec."""
    digests = stock.digests
    promoted = _newest_first(past for past in stock.attempts if past.phase is Phase.PROMOTED)
    failed = _newest_first(past for past in stock.attempts if past.phase is not Phase.PROMOTED)
    least = stock.window + 1
    kept = promoted[:least]
    room = max(0, stock.limit - len(kept))
    kept += failed[:room]
    kept += promoted[least : least + max(0, stock.limit - len(kept))]
    rollouts = tuple(sorted({past.name for past in stock.attempts} - {past.name for past in kept}))
    wanted = in_use | {r for past in kept if past.phase is Phase.PROMOTED for r in (past.origin, past.to)}
    revisions = tuple(sorted(digests.keys() - wanted))
    copies = {copy for r in wanted if r in digests for copy in _list_copies(name, digests[r])}
    config_maps = tuple(sorted(stock.copies - copies))
    if not rollouts and not revisions and not config_maps:
        return None
    return Prune(rollouts, config_maps, revisions)


def _list_copies(name: str, digests: tuple[str, str]) -> list[str]:
    program, source = digests
    return [program_name(name, program), *([source_name(name, source)] if source else [])]


def _newest_first(attempts: Iterable[Past]) -> list[Past]:
    return sorted(attempts, key=lambda past: past.ended_at, reverse=True)
