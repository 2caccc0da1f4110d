"""Frozen dataclasses to plain JSON values and back, without loss.

A dataclass becomes the array of its fields (short: the state lives in a resource's status); floats keep every
digit.
"""

import functools
import math
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None

T = TypeVar("T")


def encode(value: object) -> Json:
    """A dataclass, enum, tuple or scalar as JSON values; whole floats as integers.

    Raises:
        ValueError: for a number that JSON has not (NaN, infinities).
        TypeError: for any other kind of value.
    """
    match value:
        case Enum():
            return str(value.value)
        case None | bool() | int() | str():
            return value
        case float():
            if not math.isfinite(value):
                raise ValueError(f"{value} has no JSON")
            return int(value) if value.is_integer() and math.copysign(1.0, value) > 0 else value
        case tuple():
            return [encode(item) for item in value]
        case _ if is_dataclass(value):
            return [encode(getattr(value, field.name)) for field in fields(value)]
        case _:
            raise TypeError(f"cannot encode a {type(value).__name__}")


def decode(kind: type[T], value: Json) -> T:
    """The value of type `kind` that `encode` had.

    Raises:
        ValueError: if the JSON has another shape.
    """
    try:
        decoded: T = _decode(kind, value)
    except (TypeError, KeyError, AttributeError, IndexError) as error:
        raise ValueError(f"this is no recorded {kind.__name__}: {error}") from error
    return decoded


def _decode(kind: Any, value: Any) -> Any:
    if kind is float:
        return _get_float(value)
    if kind in {int, bool, str}:
        if type(value) is not kind:
            raise TypeError(f"expected {kind.__name__}, got {value!r}")
        return value
    if get_origin(kind) in {Union, types.UnionType}:
        inner = next(option for option in get_args(kind) if option is not type(None))
        return None if value is None else _decode(inner, value)
    if get_origin(kind) is tuple:
        return _decode_tuple(get_args(kind), value)
    if is_dataclass(kind):
        return _decode_dataclass(kind, value)
    return kind(value)


def _decode_tuple(arguments: tuple[Any, ...], value: Any) -> Any:
    if len(arguments) == 2 and arguments[1] is Ellipsis:  # noqa: PLR2004  tuple[X, ...]
        return tuple(_decode(arguments[0], item) for item in value)
    return tuple(_decode(inner, item) for inner, item in zip(arguments, value, strict=True))


def _decode_dataclass(kind: Any, value: Any) -> Any:
    hints = _get_hints(kind)
    if not isinstance(value, list) or len(value) != len(hints):
        raise ValueError(f"expected the {len(hints)} fields of {kind.__name__}")
    return kind(*(_decode(hint, item) for hint, item in zip(hints.values(), value, strict=True)))


def _get_float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"expected a number, got {value!r}")
    return float(value)


@functools.cache
def _get_hints(kind: Any) -> Mapping[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}
