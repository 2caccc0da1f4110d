"""What DSPy finds out anew at each step of a program though it never changes: found out once.

A function's parameters, that a module is no interpreter, how pydantic writes a class: half a millisecond a request.
"""

import functools
import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import dspy
from dspy.adapters import utils
from dspy.utils import callback
from pydantic import TypeAdapter

# ruff: noqa: SLF001 - this module is about what is inside of DSPy


def quicken() -> None:
    """Put the remembering in the place of the finding out; may be called again."""
    callback.inspect = SimpleNamespace(
        getcallargs=get_arguments, iscoroutinefunction=inspect.iscoroutinefunction
    )
    callback._get_on_start_handler = _remember_modules(_find_start, "on_module_start")
    callback._get_on_end_handler = _remember_modules(_find_end, "on_module_end")
    utils.TypeAdapter = get_type_adapter


_find_start = callback._get_on_start_handler
_find_end = callback._get_on_end_handler
_get_signature = functools.lru_cache(maxsize=256)(inspect.signature)
_type_adapters: WeakKeyDictionary[type, TypeAdapter[Any]] = WeakKeyDictionary()


def get_arguments(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """What `inspect.getcallargs` gives: each parameter's value, by its name."""
    bound = _get_signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    return bound.arguments


def get_type_adapter(kind: Any) -> TypeAdapter[Any]:
    """Pydantic's adapter of a class; that of another annotation anew: two that are equal need not be the same."""
    if not isinstance(kind, type):
        return TypeAdapter(kind)
    adapter = _type_adapters.get(kind)
    if adapter is None:
        adapter = _type_adapters[kind] = TypeAdapter(kind)
    return adapter


def _remember_modules(find: Callable[..., Any], name: str) -> Callable[..., Any]:
    """`find`, which need not look twice at a class of modules; `name` is a module's handler."""
    modules: WeakSet[type] = WeakSet()

    def get_handler(listener: Any, instance: Any, function: Callable[..., Any]) -> Any:
        if type(instance) in modules:
            return getattr(listener, name)
        handler = find(listener, instance, function)
        if isinstance(instance, dspy.Module) and handler == getattr(listener, name):
            modules.add(type(instance))
        return handler

    return get_handler
