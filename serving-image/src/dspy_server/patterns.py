"""A user's own patterns for `redact.py`: only such as cannot take for ever, whatever a text they meet.

Python's `re` tries again and again where RE2 would not; so what may make it do that is refused at the start.
"""

import importlib
import re
from typing import Any, Final

MAX_CHARS: Final = 256
_UNBOUNDED: Final = 4096
"""What one `*` or `+` counts; a text is never longer."""
_BUDGET: Final = 4 * _UNBOUNDED
_PARSER: Final[Any] = importlib.import_module(
    "re._parser"
)  # the parser of `re` itself: no second grammar here
_REPEATS: Final = frozenset({"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"})
_LOOKS: Final = frozenset({"ASSERT", "ASSERT_NOT", "GROUPREF", "GROUPREF_EXISTS"})


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """A user's pattern, ready for use.

    Raises:
        ValueError: it is no pattern, matches nothing at all, or might read a text again and again.
    """
    if len(pattern) > MAX_CHARS:
        raise ValueError(f"a pattern has at most {MAX_CHARS} characters")
    try:
        compiled = re.compile(pattern)
        cost = _get_cost(_PARSER.parse(pattern), is_repeated=False)
    except (re.error, RecursionError, OverflowError) as exc:
        raise ValueError(f"{pattern!r} is no pattern: {exc}") from exc
    if compiled.match("") is not None:
        raise ValueError(f"{pattern!r} matches the empty text")
    if cost > _BUDGET:
        raise ValueError(f"{pattern!r} repeats too much: use at most one * or +, and {{1,20}} for the others")
    return compiled


def _get_cost(parsed: Any, *, is_repeated: bool) -> int:
    """How many ways to match one text there can be, at most; a choice inside a repeat counts as too many."""
    cost = 1
    for operator, argument in parsed:
        name = str(operator)
        if name in _LOOKS:
            raise ValueError("a pattern looks neither ahead nor back (RE2)")
        if is_repeated and name in _REPEATS | {"BRANCH"}:
            raise ValueError("a repeated group must not repeat or choose inside")
        if name in _REPEATS:
            low, high, inner = argument
            _get_cost(inner, is_repeated=True)
            cost *= min(int(high), _UNBOUNDED) - min(int(low), _UNBOUNDED) + 1
        elif name == "BRANCH":
            cost *= sum(_get_cost(branch, is_repeated=False) for branch in argument[1])
        elif name in {"SUBPATTERN", "ATOMIC_GROUP"}:
            cost *= _get_cost(argument[-1] if name == "SUBPATTERN" else argument, is_repeated=is_repeated)
    return cost
