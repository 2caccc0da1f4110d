"""The text of an LM's answer, piece by piece -> which output field each piece belongs to.

Pure. It reads DSPy's chat format (`[[ ## field ## ]]` begins a field) as DSPy's own parser reads the whole: the pieces
of a field, joined, are the field's value.
"""

import re
from collections.abc import Collection
from typing import Final

_HEADER: Final = re.compile(r"\[\[ ## (\w+) ## \]\]")
_OPENING: Final = "[[ ## "


class FieldSplitter:
    """Takes text in pieces of any size; gives back pieces of the fields in `names`."""

    def __init__(self, names: Collection[str]) -> None:
        self._wanted = set(names)
        self._field = ""
        self._line = ""
        self._held = ""
        self._has_begun = False
        self._is_fresh = True
        self._is_header = False

    def push(self, text: str) -> list[tuple[str, str]]:
        """Field and text of what has become certain."""
        pieces: list[tuple[str, str]] = []
        lines = (self._line + text).splitlines(keepends=True)
        self._line = ""
        if lines and (lines[-1].splitlines() == [lines[-1]] or lines[-1].endswith("\r")):
            self._line = lines.pop()  # it may go on
        for line in lines:
            self._take(line.splitlines()[0], pieces, is_whole=True)
        if self._line and not self._line.endswith("\r"):
            line, self._line = self._line, ""
            self._line = self._take(line, pieces, is_whole=False)
        return pieces

    def finish(self) -> list[tuple[str, str]]:
        """The same for the end of the text."""
        pieces: list[tuple[str, str]] = []
        self._take(self._line.rstrip("\r"), pieces, is_whole=True)
        self._field = ""
        return pieces

    def _take(self, line: str, pieces: list[tuple[str, str]], *, is_whole: bool) -> str:
        """Read (the rest of) a line; what of it cannot be told yet."""
        if self._is_fresh:
            stripped = line.lstrip()
            match = _HEADER.match(stripped)
            if match is not None:
                self._begin(match[1])
                line = stripped[match.end() :]
            elif not is_whole and (stripped.startswith(_OPENING) or _OPENING.startswith(stripped)):
                return line
            self._is_fresh = False
        self._emit(line, pieces)
        if is_whole:
            # DSPy strips what stands beside a header, not the ends of other lines.
            self._held = "\n" if self._is_header else self._held + "\n"
            self._is_fresh, self._is_header = True, False
        return ""

    def _begin(self, field: str) -> None:
        """The first occurrence of a field is the one that counts."""
        self._field = field if field in self._wanted else ""
        self._wanted.discard(field)
        self._held, self._has_begun, self._is_header = "", False, True

    def _emit(self, text: str, pieces: list[tuple[str, str]]) -> None:
        """Pass text on without the white space around the value; what may be its end is held back."""
        kept = (text if self._has_begun else text.lstrip()).rstrip()
        if not self._field or not kept:
            self._held += text if self._has_begun else ""
            return
        start = text.index(kept)
        lead = self._held + text[:start] if self._has_begun else ""
        pieces.append((self._field, lead + kept))
        self._held, self._has_begun = text[start + len(kept) :], True
