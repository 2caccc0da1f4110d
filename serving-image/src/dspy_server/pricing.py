"""What a call of an LM costs: the list price of its model, resolved once at the start, times the tokens billed.

Unknown is not zero: what the price list says nothing about is counted as unpriced.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_THRESHOLD: Final = re.compile(r"_above_(\d+)k_tokens$")


@dataclass(frozen=True)
class Bill:
    """Tokens of one call as the provider reports them.

    Attributes:
        is_standard: False for tiers and tools that are billed otherwise.
    """

    prompt: int
    completion: int
    cached: int = 0
    written: int = 0
    reasoning: int = 0
    is_standard: bool = True


@dataclass(frozen=True)
class Rates:
    """USD a token for prompts of `above` tokens or more; None: the price list does not say."""

    above: int
    fresh: float | None
    cached: float | None
    written: float | None
    completion: float | None
    reasoning: float | None


@dataclass(frozen=True)
class Price:
    """The price of one target's model.

    Attributes:
        rates: by the length of the prompt, longest first.
        cached_apart: its provider reports cached tokens beside those of the prompt, not among them.
        reasoning_apart: the same of reasoning and completion.
    """

    rates: tuple[Rates, ...]
    cached_apart: bool = False
    reasoning_apart: bool = False

    def get_cost(self, bill: Bill) -> float | None:
        """USD; None if a token that was billed has no known rate."""
        stored = bill.cached + bill.written
        fresh = bill.prompt if self.cached_apart else bill.prompt - stored
        said = bill.completion if self.reasoning_apart else bill.completion - bill.reasoning
        if not bill.is_standard or min(fresh, said) < 0:
            return None
        rates = next(item for item in self.rates if fresh + stored >= item.above)
        cost = 0.0
        for tokens, rate in (
            (fresh, rates.fresh),
            (bill.cached, rates.cached),
            (bill.written, rates.written),
            (said, rates.completion),
            (bill.reasoning, rates.reasoning),
        ):
            if tokens and rate is None:
                return None
            cost += tokens * (rate or 0.0)
        return cost


def find_price(
    entry: Mapping[str, Any], *, cached_apart: bool = False, reasoning_apart: bool = False
) -> Price | None:
    """The price in an entry of DSPy's price list; None if it has none per token of text."""
    if _find_rate(entry, "input_cost_per_token") is None:
        return None
    above = {int(match[1]) * 1000 for key in entry if (match := _THRESHOLD.search(key))}
    rates = [_build_rates(entry, "", 0)]
    rates += [_build_rates(entry, f"_above_{limit // 1000}k_tokens", limit + 1) for limit in sorted(above)]
    return Price(tuple(reversed(rates)), cached_apart, reasoning_apart)


def _build_rates(entry: Mapping[str, Any], suffix: str, above: int) -> Rates:
    def find(key: str, instead: str = "") -> float | None:
        rate = _find_rate(entry, key + suffix)
        return _find_rate(entry, instead + suffix) if rate is None and instead else rate

    return Rates(
        above=above,
        fresh=find("input_cost_per_token"),
        cached=find("cache_read_input_token_cost", "input_cost_per_token"),
        written=find("cache_creation_input_token_cost", "input_cost_per_token"),
        completion=find("output_cost_per_token"),
        reasoning=find("output_cost_per_reasoning_token", "output_cost_per_token"),
    )


def _find_rate(entry: Mapping[str, Any], key: str) -> float | None:
    value = entry.get(key)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    return float(value) if math.isfinite(value) and value >= 0 else None
