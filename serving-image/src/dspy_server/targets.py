"""The configured LMs, in order: who can answer, with which key, over which connections.

Built once, on the event loop whose connections they keep.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dspy_server import compat
from dspy_server.breaker import Breaker, Gate
from dspy_server.errors import SettingsError
from dspy_server.pricing import Price
from dspy_server.settings import Breaker as Spare
from dspy_server.settings import Lm, Settings, Target

_SPARE_CONNECTIONS: Final = 36


@dataclass(frozen=True)
class LmTarget:
    """One LM.

    Attributes:
        model: as the user wrote it; the label in metrics and the `model` in answers.
        wire_model: as its engine wants it.
        breaker, gate: what spares it, whichever program asks.
        price: None if its calls cannot be priced.
    """

    model: str
    wire_model: str
    max_tokens: int
    engine: compat.AsyncEngine
    breaker: Breaker
    gate: Gate
    price: Price | None = None


def build_targets(settings: Settings, clock: Callable[[], float]) -> tuple[LmTarget, ...]:
    """The primary and the fallbacks; `clock` is the event loop's.

    Raises:
        SettingsError: a model's prefix is unknown and no apiBase is given.
    """
    lm, serving = settings.config.lm, settings.config.serving
    return tuple(
        build_target(
            spec,
            key,
            path="lm.primary" if index == 0 else f"lm.fallbacks[{index - 1}]",
            timeout=lm.timeout,
            connections=serving.limits.concurrency + _SPARE_CONNECTIONS,
            spare=serving.breaker,
            clock=clock,
        )
        for index, (spec, key) in enumerate(zip([lm.primary, *lm.fallbacks], settings.lm_keys, strict=True))
    )


def build_target(
    spec: Target,
    key: str,
    *,
    path: str,
    timeout: float,
    connections: int,
    spare: Spare,
    clock: Callable[[], float],
) -> LmTarget:
    """One target, with a breaker, a gate and connections of its own; `path` is where the user configured it.

    Raises:
        SettingsError: the model's prefix is unknown and no apiBase is given.
    """
    try:
        engine, wire_model = compat.build_engine(
            spec.model, spec.api_base, key, timeout=timeout, connections=connections
        )
    except ValueError as exc:
        raise SettingsError(f"{path}.model: {exc}") from exc
    return LmTarget(
        spec.model,
        wire_model,
        spec.max_tokens,
        engine,
        Breaker(spare.failures, spare.open_for, clock),
        Gate(connections, spare.open_for, clock),
        compat.find_list_price(spec.model),
    )


def get_lm_hash(lm: Lm) -> str:
    """12 hex that name this set of targets; no secret goes into it."""
    return hashlib.sha256(lm.model_dump_json().encode()).hexdigest()[:12]


def get_lm_name(lm: Lm) -> str:
    """The model string that DSPy sees: `served/<lm hash>`, never a provider's name."""
    return f"served/{get_lm_hash(lm)}"


def get_breaker_states(targets: tuple[LmTarget, ...]) -> dict[str, int]:
    """What each model's breaker is now, for a scrape; of two targets of one name the worse."""
    states: dict[str, int] = {}
    for target in targets:
        states[target.model] = max(target.breaker.state, states.get(target.model, 0))
    return states


async def close_targets(targets: tuple[LmTarget, ...]) -> None:
    """Close all connections."""
    for target in targets:
        await target.engine.aclose()
