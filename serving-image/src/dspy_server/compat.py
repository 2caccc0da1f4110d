"""The only file that touches semi-internal names of DSPy: engines, errors, signatures, settings.

Each of them has a contract test, so that a new DSPy that moves one is seen there and not by a user.
"""

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final, Protocol

# Before dspy is imported: no price catalogue from the Internet, no cache below a home directory that is read-only.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ.setdefault("DSPY_CACHEDIR", "/tmp/dspy-cache")  # noqa: S108 - never written: the disk cache is off

import dspy
from dspy import lm15
from dspy.adapters.types.decision import decision_type
from dspy.clients import model_metadata
from dspy.clients.engines.lm15_engine import AsyncLM15Engine
from dspy.primitives.base_module import BaseModule
from dspy.utils.exceptions import (
    AdapterParseError,
    ContextWindowExceededError,
    LMAuthError,
    LMBillingError,
    LMConfigurationError,
    LMError,
    LMInvalidRequestError,
    LMRateLimitError,
    LMServerError,
    LMTimeoutError,
    LMTransportError,
    LMUnsupportedModelError,
)

from dspy_server.artifact import ROOT, PredictorShape, Shape
from dspy_server.contract import ErrorClass
from dspy_server.pricing import Bill, Price, find_price

DSPY_VERSION: Final[str] = dspy.__version__

Request = lm15.Request
Response = lm15.Response
EngineError = lm15.LM15Error
Module = dspy.Module
Prediction = dspy.Prediction
ChatAdapter = dspy.ChatAdapter

# Specific classes precede their parents.
_ENGINE_CLASSES: Final[tuple[tuple[type[Exception], ErrorClass], ...]] = (
    (lm15.ContextLengthError, ErrorClass.CONTEXT_WINDOW),
    (lm15.AuthError, ErrorClass.AUTH),
    (lm15.BillingError, ErrorClass.AUTH),
    (lm15.RateLimitError, ErrorClass.RATE_LIMIT),
    (lm15.UnsupportedModelError, ErrorClass.AUTH),
    (lm15.InvalidRequestError, ErrorClass.INTERNAL),
    (lm15.TimeoutError, ErrorClass.TIMEOUT),
    (lm15.ServerError, ErrorClass.SERVER),
    (lm15.ConfigurationError, ErrorClass.AUTH),
    (lm15.TransportError, ErrorClass.TRANSPORT),
    (lm15.ProviderError, ErrorClass.SERVER),
)
_PROGRAM_CLASSES: Final[tuple[tuple[type[Exception], ErrorClass], ...]] = (
    (AdapterParseError, ErrorClass.PARSE),
    (ContextWindowExceededError, ErrorClass.CONTEXT_WINDOW),
    (LMAuthError, ErrorClass.AUTH),
    (LMBillingError, ErrorClass.AUTH),
    (LMRateLimitError, ErrorClass.RATE_LIMIT),
    (LMUnsupportedModelError, ErrorClass.AUTH),
    (LMInvalidRequestError, ErrorClass.INTERNAL),
    (LMTimeoutError, ErrorClass.TIMEOUT),
    (LMServerError, ErrorClass.SERVER),
    (LMConfigurationError, ErrorClass.AUTH),
    (LMTransportError, ErrorClass.TRANSPORT),
    (LMError, ErrorClass.INTERNAL),
)


class AsyncEngine(Protocol):
    """One target's own engine."""

    async def complete(self, request: Any) -> Any:
        """One attempt."""

    async def aclose(self) -> None:
        """Close its connections."""


def configure() -> None:
    """The one `dspy.configure` of the process: lean, no history, no trace, no caches of DSPy's own."""
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    dspy.configure(disable_history=True, trace=None, track_usage=False)


def build_lm(name: str, engine: Any, async_engine: Any, *, sampling: Mapping[str, float | int]) -> Any:
    """A `dspy.LM` that knows no endpoint and no key: all its calls go to our engines."""
    return dspy.LM(name, engine=engine, async_engine=async_engine, num_retries=0, cache=False, **sampling)


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
        return AsyncLM15Engine(config), f"{_DECLARED}:{rest}"
    config = lm15.RouterConfig(
        api_keys={provider: api_key} if api_key else None,
        base_urls={provider: api_base} if api_base else None,
        env={},
        timeouts=timeouts,
        max_connections=connections,
    )
    return AsyncLM15Engine(config), model


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
    """Tokens that the provider reported: prompt, completion, cached, reasoning (0 if it said nothing)."""
    usage = response.usage
    return {
        "prompt": usage.input_tokens or 0,
        "completion": usage.output_tokens or 0,
        "cached": usage.cache_read_tokens or 0,
        "reasoning": usage.reasoning_tokens or 0,
    }


_STANDARD_TIERS: Final = frozenset({None, "default", "standard", "auto", "ON_DEMAND"})


def get_bill(response: Any) -> Bill | None:
    """What the provider bills for an answer; None if it did not say how many tokens."""
    usage = response.usage
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


def get_retry_after(error: Exception) -> float | None:
    """Seconds that a rate-limited provider asks to wait."""
    return getattr(error, "retry_after", None)


def classify_engine_error(error: Exception) -> ErrorClass:
    """The class of a target's failure."""
    if _is_unknown_model(error):
        return ErrorClass.AUTH
    return next((cls for kind, cls in _ENGINE_CLASSES if isinstance(error, kind)), ErrorClass.INTERNAL)


def classify_program_error(error: BaseException) -> ErrorClass:
    """The class of a program's failure, as DSPy raised it."""
    if isinstance(error.__cause__, BreakerOpenError):
        return ErrorClass.BREAKER_OPEN
    if _is_unknown_model(error):
        return ErrorClass.AUTH
    return next((cls for kind, cls in _PROGRAM_CLASSES if isinstance(error, kind)), ErrorClass.INTERNAL)


def _is_unknown_model(error: BaseException) -> bool:
    """A 404, with or without a code that says so: the address or the model is wrong, not the request."""
    return getattr(error, "status", None) == HTTPStatus.NOT_FOUND


class BreakerOpenError(lm15.ServerError):  # type: ignore[misc]  # dspy has no types
    """No target was asked: the breakers of all are open."""


def build_breaker_open(retry_after: float) -> Exception:
    """What an engine raises when it may ask nobody for `retry_after` seconds."""
    return BreakerOpenError("no LM can answer", retry_after=retry_after)


def build_rate_limit(retry_after: float) -> Exception:
    """What an engine raises when it does not ask a target that wants to be left alone."""
    error: Exception = lm15.RateLimitError("the provider limits the rate", retry_after=retry_after)
    return error


def build_timeout(message: str) -> Exception:
    """What an engine raises when a provider did not answer in time."""
    error: Exception = lm15.TimeoutError(message)
    return error


def has_status(error: Exception) -> bool:
    """Whether a provider answered with this error itself."""
    return getattr(error, "status", None) is not None


class CountingChatAdapter(dspy.ChatAdapter):  # type: ignore[misc]  # dspy has no types
    """DSPy's ChatAdapter that tells `on_retry` before it asks again, in JSON, after an answer it cannot parse."""

    def __init__(self, *, parse_retry: bool, on_retry: Callable[[], None]) -> None:
        super().__init__(use_json_adapter_fallback=parse_retry)
        self._on_retry = on_retry

    def _make_json_adapter_fallback(self) -> Any:
        self._on_retry()
        return super()._make_json_adapter_fallback()


_STUB: Final = "stub/warm-up"


class _StubEngine:
    """Answers every request with the one field that the warm-up's signature asks for."""

    def complete(self, request: Any) -> Any:
        return lm15.Response(
            id=None,
            model=request.model,
            message=lm15.Message.assistant("[[ ## word ## ]]\nwarm\n\n[[ ## completed ## ]]"),
            finish_reason="stop",
            usage=lm15.Usage(),
        )


class _AsyncStubEngine:
    async def complete(self, request: Any) -> Any:
        return _StubEngine().complete(request)


async def warm_up(adapter: Any) -> None:
    """Run DSPy once, both ways, without an LM: what it imports at its first call must not cost a request."""
    lm = build_lm(_STUB, _StubEngine(), _AsyncStubEngine(), sampling={})
    predict = dspy.Predict("question -> word")
    with dspy.context(lm=lm, adapter=adapter):
        await predict.acall(question="warm")
        await asyncio.to_thread(predict, question="warm")


def is_module(value: object) -> bool:
    """Whether `value` is a DSPy program."""
    return isinstance(value, dspy.Module)


def is_async(module: Any) -> bool:
    """Whether a program can run on the event loop: it has `aforward`, DSPy's base class has not."""
    return hasattr(module, "aforward")


def get_shape(module: Any) -> Shape:
    """The predictors of a program, as the allow-list of artifacts wants them."""
    predictors = {name: _get_predictor_shape(predictor) for name, predictor in _list_parameters(module)}
    return Shape(predictors, flat=isinstance(module, dspy.Predict))


def _list_parameters(module: Any) -> list[tuple[str, Any]]:
    parameters = BaseModule.named_parameters(module)
    if isinstance(module, dspy.Predict):
        return [(ROOT, module)]
    return [(name, parameter) for name, parameter in parameters if isinstance(parameter, dspy.Predict)]


def _get_predictor_shape(predictor: Any) -> PredictorShape:
    fields = predictor.signature.fields
    outputs = predictor.signature.output_fields
    return PredictorShape(
        fields=tuple(fields),
        prefixes=tuple(str(field.json_schema_extra["prefix"]) for field in fields.values()),
        descriptions=tuple(str(field.json_schema_extra["desc"]) for field in fields.values()),
        decisions=frozenset(name for name, field in outputs.items() if decision_type(field) is not None),
    )


def list_unsupported_parameters(module: Any) -> list[str]:
    """Names of parameters that are no predictors, whose state no allow-list knows."""
    parameters = BaseModule.named_parameters(module)
    return [name for name, parameter in parameters if not isinstance(parameter, dspy.Predict)]


def list_predictors(module: Any) -> list[Any]:
    """The predictors of a program."""
    return [predictor for _, predictor in _list_parameters(module)]


def load_state(module: Any, state: dict[str, Any]) -> None:
    """Load a checked state into a fresh module; LM settings in it are refused by DSPy as a second layer."""
    module.load_state(state, allow_unsafe_lm_state=False)


def render(adapter: Any, predictor: Any, inputs: Mapping[str, Any]) -> list[Any]:
    """The messages that a predictor would send for `inputs`, without sending them."""
    messages: list[Any] = adapter.format(predictor.signature, predictor.demos, dict(inputs))
    return messages


def get_input_fields(module: Any) -> Mapping[str, Any]:
    """Input fields of all predictors, by name; the first predictor that has a field says its type."""
    fields: dict[str, Any] = {}
    for predictor in list_predictors(module):
        for name, info in predictor.signature.input_fields.items():
            fields.setdefault(name, info)
    return fields


def get_own_inputs(module: Any) -> Mapping[str, Any]:
    """Inputs of a program whose `forward` takes any keywords: its own signature's, else its first predictor's."""
    signature = getattr(module, "signature", None)
    if signature is None:
        predictors = list_predictors(module)
        signature = predictors[0].signature if predictors else None
    fields: Mapping[str, Any] = {} if signature is None else signature.input_fields
    return fields


def get_outputs(prediction: Any) -> dict[str, Any]:
    """The fields of a prediction."""
    if not isinstance(prediction, dspy.Prediction):
        raise TypeError(f"the program returned {type(prediction).__name__}, not a dspy.Prediction")
    return dict(prediction.items())


@contextmanager
def overrides(**settings: Any) -> Iterator[None]:
    """DSPy settings for this task only."""
    with dspy.context(**settings):
        yield
