"""What must not leave the process in a log line or a span: e-mail, phones, cards, ids, keys, the user's own patterns.

Pure, on copies: the answer that a user gets is never touched. Each rule reads a text once: its time is linear.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from dspy_server.numbers import redact_numbers
from dspy_server.patterns import compile_pattern

EMAIL: Final = "[EMAIL]"
KEY: Final = "[KEY]"
OWN: Final = "[REDACTED]"
"""What stands in the place of what a user's own pattern found."""

MAX_CHARS: Final = 4096
"""Of one text in a log line or a span; the rest is cut off."""
MAX_ITEMS: Final = 100
MAX_DEPTH: Final = 8
CUT: Final = "…"
_MARGIN: Final = 512
"""Read beyond the cut and thrown away: a secret that the cut divides would be recognised by nobody."""

# Possessive quantifiers and a look behind at each start: no character is read twice by the same rule.
_LETTER: Final = r"A-Za-z0-9\u00c0-\u024f\u0370-\u052f"
_LOCAL: Final = rf"{_LETTER}.!#$%&'*+/=?^_`{{|}}~-"
_EMAIL: Final = re.compile(
    rf"""(?:(?<![{_LOCAL}])[{_LOCAL}]++|"[^"\n]{{1,64}}")@(?=[{_LETTER}-]++\.)[{_LETTER}-]++(?:\.[{_LETTER}-]++)++"""
)
_TOKEN: Final = r"A-Za-z0-9_-"  # noqa: S105 - a class of characters
_START: Final = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrt]))"
"""Where a word begins, also behind the `\\n` of a text that was quoted."""
_KEYS: Final = (
    re.compile(
        r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)", re.DOTALL
    ),
    re.compile(
        rf"(?:(?<![{_TOKEN}])|(?<=\\[nrt]))eyJ[{_TOKEN}]{{8,}}+\.[{_TOKEN}]{{4,}}+(?:\.[{_TOKEN}]++)*+"
    ),
    re.compile(rf"{_START}(?:sk|pk|rk|hf|gsk|xai|r8|pat|key)[-_][{_TOKEN}]{{16,}}+"),
    re.compile(rf"{_START}(?:gh[oprsu]_|github_pat_|glpat-|xox[a-z]-|npm_|ya29\.)[{_TOKEN}]{{16,}}+"),
    re.compile(rf"{_START}(?:(?:AKIA|ASIA)[0-9A-Z]{{16}}|AIza[{_TOKEN}]{{35}})(?![A-Za-z0-9])"),
)
_NAMED: Final = re.compile(
    r"""((?:api[-_ ]?key|secret|token|passw(?:or)?d|pwd|密码|密钥)["']?\s{0,4}[:=\uff1a]\s{0,4}["']?)[^\s"',;&]{4,}+""",
    re.IGNORECASE,
)
_BEARER: Final = re.compile(rf"{_START}((?:bearer|basic)\s{{1,4}})([A-Za-z0-9._~+/=-]{{8,}}+)", re.IGNORECASE)
_URL_LOGIN: Final = re.compile(r"(?<=://)[^\s/@]{1,256}@")
_SHORT: Final = 20


def _redact_bearer(match: re.Match[str]) -> str:
    """A long word after `Bearer`, or one with a digit or sign: a credential; else a word such as `certificate`."""
    word = match[2]
    return f"{match[1]}{KEY}" if len(word) >= _SHORT or not word.strip(".").isalpha() else match[0]


def _redact_email(match: re.Match[str]) -> str:
    """An address; `3@2.50` is a price."""
    if not any(char.isalpha() for char in match[0].rpartition(".")[2]):
        return match[0]
    is_escape = match.string[: match.start()].endswith("\\") and match[0][0] in "nrt"
    return f"{match[0][0]}{EMAIL}" if is_escape else EMAIL


class Redactor:
    """The rules of one server.

    Args:
        patterns: the user's own, tried last; ValueError says which one cannot be used and why.
    """

    def __init__(self, patterns: Sequence[str] = ()) -> None:
        self._own = tuple(compile_pattern(pattern) for pattern in patterns)

    def redact_text(self, text: str, limit: int = MAX_CHARS) -> str:
        """A copy of `text` without secrets, at most `limit` characters and the sign of a cut."""
        is_cut = len(text) > limit + _MARGIN
        text = text[: limit + _MARGIN]
        for pattern in _KEYS:
            text = pattern.sub(KEY, text)
        text = _NAMED.sub(rf"\g<1>{KEY}", text)
        text = _URL_LOGIN.sub(f"{KEY}@", _BEARER.sub(_redact_bearer, text))
        if "@" in text:
            text = _EMAIL.sub(_redact_email, text)
        text = redact_numbers(text)
        for pattern in self._own:
            text = pattern.sub(OWN, text)
        if is_cut:
            text = text[:-_MARGIN]
        elif len(text) <= limit:
            return text
        return text[:limit] + CUT

    def redact(self, value: Any, depth: int = MAX_DEPTH) -> Any:
        """A copy of a value of a log line: texts, also as keys and of unknown objects, redacted; bounded in size."""
        match value:
            case str():
                return self.redact_text(value)
            case None | bool() | int() | float():
                return value
            case _ if depth == 0:
                return CUT
            case Mapping():
                items = list(value.items())[:MAX_ITEMS]
                return {self.redact_text(str(key)): self.redact(item, depth - 1) for key, item in items}
            case list() | tuple() | set() | frozenset():
                return [self.redact(item, depth - 1) for item in list(value)[:MAX_ITEMS]]
            case _:
                return self.redact_text(str(value))
