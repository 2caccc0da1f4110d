"""The only package that touches semi-internal names of DSPy: engines, errors, programs, settings.

Each of them has a contract test, so that a new DSPy that moves one is seen there and not by a user.
"""

import os

from dspy_server.contract import CACHE_DIR

# Before dspy is imported: no price catalogue from the Internet, no cache below a home directory that is read-only.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ.setdefault("DSPY_CACHEDIR", CACHE_DIR)  # DSPy itself writes nothing there: its caches are off

from dspy_server.compat.caching import install_cache, is_record
from dspy_server.compat.callbacks import Step, StepKind, watch
from dspy_server.compat.detours import is_short
from dspy_server.compat.engines import (
    AsyncEngine,
    build_engine,
    find_list_price,
    get_bill,
    get_usage,
    retarget,
)
from dspy_server.compat.failures import (
    BreakerOpenError,
    EngineError,
    build_breaker_open,
    build_rate_limit,
    build_timeout,
    classify_engine_error,
    classify_program_error,
    get_retry_after,
    has_status,
)
from dspy_server.compat.modules import (
    build_example,
    find_description,
    get_description,
    get_input_fields,
    get_output_fields,
    get_outputs,
    get_own_inputs,
    get_shape,
    give_lms,
    is_async,
    is_module,
    list_demo_inputs,
    list_predictors,
    list_unsupported_parameters,
    load_state,
)
from dspy_server.compat.rendering import CountingChatAdapter
from dspy_server.compat.rubric import build_rubric
from dspy_server.compat.runtime import (
    DSPY_VERSION,
    AsyncStubEngine,
    StubEngine,
    build_lm,
    configure,
    overrides,
    warm_up,
)
from dspy_server.compat.streams import (
    FieldListener,
    StreamCutError,
    build_cut,
    find_listener,
    is_content,
    is_end,
)

__all__ = [
    "DSPY_VERSION",
    "AsyncEngine",
    "AsyncStubEngine",
    "BreakerOpenError",
    "CountingChatAdapter",
    "EngineError",
    "FieldListener",
    "Step",
    "StepKind",
    "StreamCutError",
    "StubEngine",
    "build_breaker_open",
    "build_cut",
    "build_engine",
    "build_example",
    "build_lm",
    "build_rate_limit",
    "build_rubric",
    "build_timeout",
    "classify_engine_error",
    "classify_program_error",
    "configure",
    "find_description",
    "find_list_price",
    "find_listener",
    "get_bill",
    "get_description",
    "get_input_fields",
    "get_output_fields",
    "get_outputs",
    "get_own_inputs",
    "get_retry_after",
    "get_shape",
    "get_usage",
    "give_lms",
    "has_status",
    "install_cache",
    "is_async",
    "is_content",
    "is_end",
    "is_module",
    "is_record",
    "is_short",
    "list_demo_inputs",
    "list_predictors",
    "list_unsupported_parameters",
    "load_state",
    "overrides",
    "retarget",
    "warm_up",
    "watch",
]
