"""DSPy's native engines: one for each target, and what a provider's answer says of tokens and money."""

from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any, Final, Protocol
from urllib.request import getproxies

from dspy import lm15
from dspy.clients import model_metadata
from dspy.clients.engines.lm15_engine import AsyncLM15Engine

from dspy_server.pricing import Bill, Price, find_price

Request = lm15.Request
Response = lm15.Response


class AsyncEngine(Protocol):
    """One target's own engine."""

    async def complete(self, request: Any) -> Any:
        """One attempt."""

    def stream(self, request: Any) -> AsyncGenerator[Any, None]:
        """One attempt, event by event."""

    async def aclose(self) -> None:
        """Close its connections."""


def build_engine(
    model: str, api_base: str, api_key: str, *, timeout: float, connections: int
) -> tuple[AsyncEngine, str]:
    """A native engine for one target, and the model string that it takes.

    With `api_base` the target is a declared OpenAI-compatible provider, except where the model's prefix names
    a provider of another wire format, which then is reached at that address.

    Raises:
        ValueError: the prefix is unknown and there is no `api_base`.
    """
    prefix, _, rest = model.partition("/")
    timeouts = lm15.Timeouts(
        connect=min(timeout, _CONNECT_SECONDS), read=timeout, write=timeout, pool=timeout
    )
    provider = _find_provider(model)
    if provider is None and not api_base:
        raise ValueError(f"{model!r}: {prefix!r} is no known provider; give its apiBase")
    if api_base and (provider is None or prefix == "openai"):
        config = _declare(api_base, api_key, timeouts, connections)
        return _open(config), f"{_DECLARED}:{rest}"
    config = lm15.RouterConfig(
        api_keys={provider: api_key} if api_key else None,
        base_urls={provider: api_base} if api_base else None,
        env={},
        timeouts=timeouts,
        max_connections=connections,
    )
    return _open(config), model


def _open(config: Any) -> AsyncEngine:
    """An engine that looks for a proxy in the environment now, not at each request: there it costs 0.1 ms."""
    engine: AsyncEngine = AsyncLM15Engine(config)
    if not getproxies():
        engine.router._shared_transport()._trust_env = False  # type: ignore[attr-defined]  # noqa: SLF001 - no setting
    return engine


_CONNECT_SECONDS: Final = 3.0
"""An address that swallows packets must not use up a request's time."""
_DECLARED: Final = "declared-target"
_KEYLESS: Final = "no-key"


def _find_provider(model: str) -> str | None:
    """The built-in provider that a `prefix/model` string names."""
    try:
        resolution = AsyncLM15Engine(lm15.RouterConfig(env={})).resolve(model)
    except lm15.LM15Error:
        return None
    return str(resolution.provider)


_CACHED_APART: Final = frozenset({"anthropic", "bedrock-anthropic", "vertex-anthropic", "azure-anthropic"})
_REASONING_APART: Final = frozenset({"gemini", "vertex", "vertex-express", "xai"})


def find_list_price(model: str) -> Price | None:
    """The list price of a `prefix/model`, from DSPy's own price list: no network; None if it has none."""
    prefix, _, rest = model.partition("/")
    provider = _find_provider(model) or prefix
    try:
        entry = model_metadata.model_info(provider, rest)
    except Exception:  # noqa: BLE001 - DSPy's promise too: advisory data never stops an answer
        return None
    return find_price(
        entry, cached_apart=provider in _CACHED_APART, reasoning_apart=provider in _REASONING_APART
    )


def _declare(api_base: str, api_key: str, timeouts: Any, connections: int) -> Any:
    """A provider that speaks the OpenAI Chat Completions wire in its most widely understood spelling."""
    definition = lm15.ProviderDefinition.chat(
        lm15.AccessPolicy(provider=_DECLARED, base_url=api_base),
        compat=lm15.OpenAIChatCompat(max_tokens_field="max_tokens", instruction_role="system"),
        placeholder_key=_KEYLESS,
    )
    return lm15.RouterConfig(
        api_keys={_DECLARED: api_key or _KEYLESS},
        providers=(definition,),
        env={},
        timeouts=timeouts,
        max_connections=connections,
    )


def retarget(request: Any, model: str, max_tokens: int) -> Any:
    """The same request for another model, with at most `max_tokens` of answer."""
    config = request.config
    if config.max_tokens is None or config.max_tokens > max_tokens:
        config = replace(config, max_tokens=max_tokens)
    return replace(request, model=model, config=config)


def get_usage(response: Any) -> dict[str, int]:
    """Tokens that the provider reported: prompt, completion, cached, reasoning (0 if it said nothing).

    `response` is a whole answer, or the event that ends a stream.
    """
    usage = response.usage or lm15.Usage()
    return {
        "prompt": usage.input_tokens or 0,
        "completion": usage.output_tokens or 0,
        "cached": usage.cache_read_tokens or 0,
        "reasoning": usage.reasoning_tokens or 0,
    }


_STANDARD_TIERS: Final = frozenset({None, "default", "standard", "auto", "ON_DEMAND"})


def get_bill(response: Any) -> Bill | None:
    """What the provider bills for an answer; None if it did not say how many tokens."""
    usage = response.usage or lm15.Usage()
    if usage.input_tokens is None or usage.output_tokens is None:
        return None
    raw = response.provider_data or {}
    return Bill(
        prompt=usage.input_tokens,
        completion=usage.output_tokens,
        cached=usage.cache_read_tokens or 0,
        written=usage.cache_write_tokens or 0,
        reasoning=usage.reasoning_tokens or 0,
        is_standard=raw.get("service_tier") in _STANDARD_TIERS,
    )
