"""Which numbers in a text are a person's: cards by their check digit, Chinese ids by theirs, phones by their shape.

A step of `redact.py`. Digits are read in groups, as people write them: `138 0013 8000`, `4111-1111-1111-1111`.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

PHONE: Final = "[PHONE]"
CARD: Final = "[CARD]"
ID: Final = "[ID]"

_RUN: Final = re.compile(r"\d(?:[ \t\u00a0\u2002-\u200b\u202f\u3000().\-/\u2010-\u2015·]{0,3}\d)*+[Xx]?")
_ESCAPES: Final = frozenset({"\\n", "\\r", "\\t"})
"""Line ends of a text that was quoted: no letters."""
_GROUP: Final = re.compile(r"\d+[Xx]?")
_CUE: Final = re.compile(
    r"(?:tel|phone|call|mobile|cell|fax|whatsapp|ring|dial|电话|手机|致电|联系)[^\d\n]{0,16}$", re.IGNORECASE
)
_CUE_CHARS: Final = 32
_MAX_DIGITS: Final = 19
_MIN_DIGITS: Final = 7
_MAX_GROUPS: Final = 7
_CARD_DIGITS: Final = range(13, 20)
_INTERNATIONAL_DIGITS: Final = range(8, 16)
_WITH_00_DIGITS: Final = range(11, 18)
_NATIONAL_DIGITS: Final = range(9, 13)
_CUED_DIGITS: Final = range(7, 16)
_MOBILE: Final = re.compile(r"(?:(?:00)?86)?1[3-9]\d{9}")
_SHAPES: Final = frozenset({(3, 3, 4), (1, 3, 3, 4), (5, 5), (2, 5, 5), (3, 3, 3), (3, 4, 4), (4, 3, 3)})
"""Groups of a phone number without a country code or a trunk 0, so common that they need no other sign."""
_DATES: Final = frozenset({(4, 2, 2), (2, 2, 4), (1, 2, 4), (2, 1, 4), (1, 1, 4), (4, 1, 2), (4, 2, 1)})
_ID_DIGITS: Final = 18
_ID_WEIGHTS: Final = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_ID_CHECKS: Final = "10X98765432"


@dataclass(frozen=True)
class _Window:
    """Neighbouring groups of digits that may be one number.

    Attributes:
        sizes: digits of each group.
        before: the text in front of it.
        is_glued: a Latin letter touches it: part of a name or a hash, not a phone.
        is_split: a parenthesis opens in its middle, as another number's area code does.
    """

    digits: str
    sizes: tuple[int, ...]
    before: str
    is_glued: bool
    is_dotted: bool
    is_split: bool


_Find = Callable[[_Window], str]


def redact_numbers(text: str) -> str:
    """A copy of `text` without cards, ids and phone numbers."""
    pieces, done = [], 0
    for run in _RUN.finditer(text):
        for start, end, label in _list_numbers(text, run):
            pieces += [text[done:start].removesuffix("+"), label]
            done = end
    return "".join([*pieces, text[done:]])


def _list_numbers(text: str, run: re.Match[str]) -> list[tuple[int, int, str]]:
    """Start, end and label of each personal number in a run of digits; what has a check digit comes first."""
    groups = [(group.start(), group.end()) for group in _GROUP.finditer(text, run.start(), run.end())]
    found: list[tuple[int, int, str]] = []
    rest: list[list[tuple[int, int]]] = [[]]
    for first, end, label in _scan(text, groups, _find_checked):
        if label:
            found.append((groups[first][0], groups[end - 1][1], label))
            rest.append([])
        else:
            rest[-1].append(groups[first])
    for part in rest:
        phones = [item for item in _scan(text, part, _find_phone) if item[2]]
        found += [(part[first][0], part[end - 1][1], label) for first, end, label in phones]
    return sorted(found)


def _scan(text: str, groups: list[tuple[int, int]], find: _Find) -> Iterator[tuple[int, int, str]]:
    """First group, group after the last, label of each longest number; a group that begins none has no label."""
    first = 0
    while first < len(groups):
        end, label = _find_longest(text, groups, first, find)
        yield first, end, label
        first = end


def _find_longest(text: str, groups: list[tuple[int, int]], first: int, find: _Find) -> tuple[int, str]:
    """The group after the longest number that begins with this one, and its label; the next group and no label."""
    least = _CARD_DIGITS.start if find is _find_checked else _MIN_DIGITS
    ends, length = [], 0
    for end in range(first, min(first + _MAX_GROUPS, len(groups))):
        length += groups[end][1] - groups[end][0]
        if length > _MAX_DIGITS:
            break
        if length >= least:
            ends.append(end + 1)
    for end in reversed(ends):
        label = find(_build_window(text, groups[first:end]))
        if label:
            return end, label
    return first + 1, ""


def _build_window(text: str, groups: list[tuple[int, int]]) -> _Window:
    start, end = groups[0][0], groups[-1][1]
    before = text[max(start - 2, 0) : start]
    around = ("" if before in _ESCAPES else before[-1:]) + text[end : end + 1]
    plain = "".join(text[a:b] for a, b in groups).upper()
    second_end = groups[1][1] if len(groups) > 1 else end
    return _Window(
        digits=plain if plain.isascii() else "".join(c if c == "X" else str(int(c)) for c in plain),
        sizes=tuple(b - a for a, b in groups),
        before=text[max(start - _CUE_CHARS, 0) : start],
        is_glued=any(char.isascii() and (char.isalpha() or char == "_") for char in around),
        is_dotted="." in text[start:end],
        is_split="(" in text[second_end:end],
    )


def _find_checked(window: _Window) -> str:
    """What a number with a check digit is; empty if it is none."""
    if _is_id(window.digits):
        return ID
    return CARD if _is_card(window.digits.rstrip("X"), window.sizes) else ""


def _find_phone(window: _Window) -> str:
    return PHONE if _is_phone(window, window.digits.rstrip("X")) else ""


def _is_id(digits: str) -> bool:
    """A Chinese resident id: birth date and check character."""
    if len(digits) != _ID_DIGITS or not digits[:-1].isdigit():
        return False
    month, day = int(digits[10:12]), int(digits[12:14])
    if not (1 <= month <= 12 and 1 <= day <= 31 and digits[6:8] in {"18", "19", "20"}):  # noqa: PLR2004 - a calendar
        return False
    total = sum(int(digit) * weight for digit, weight in zip(digits, _ID_WEIGHTS, strict=False))
    return _ID_CHECKS[total % 11] == digits[-1]


def _is_card(digits: str, sizes: tuple[int, ...]) -> bool:
    """A payment card: its first digit, its length, its Luhn digit; groups as on a card."""
    has_shape = len(sizes) == 1 or min(sizes[:-1]) > 2  # noqa: PLR2004 - 4-4-4-4, 4-6-5
    if len(digits) not in _CARD_DIGITS or digits[0] not in "23456" or not has_shape or "X" in digits:
        return False
    total = 0
    for index, char in enumerate(reversed(digits)):
        doubled = int(char) * (1 + index % 2)
        total += doubled - 9 if doubled > 9 else doubled  # noqa: PLR2004 - Luhn: the sum of both digits
    return total % 10 == 0


def _is_phone(window: _Window, digits: str) -> bool:
    """A telephone number: a Chinese mobile, or one that a sign, a shape or a word before it tells."""
    length, sizes = len(digits), window.sizes
    if _MOBILE.fullmatch(digits) and min(sizes) > 1:
        return True
    if window.is_glued or window.is_split:
        return False
    if window.before.rstrip("(").endswith("+"):
        return length in _INTERNATIONAL_DIGITS
    if any(sizes[at : at + 3] in _DATES for at in range(len(sizes))):
        return False
    if window.is_dotted and max(sizes) <= 3:  # noqa: PLR2004 - an address or a version: 10.250.10.100
        return False
    is_dialled = sizes[0] > 1 and (
        (digits.startswith("00") and length in _WITH_00_DIGITS)
        or (digits.startswith("0") and length in _NATIONAL_DIGITS)
    )
    has_area = window.before.endswith("(") and length in _NATIONAL_DIGITS
    is_called = length in _CUED_DIGITS and _CUE.search(window.before) is not None
    return is_dialled or has_area or sizes in _SHAPES or is_called
