"""A mounted slot: a program's bytes, or beside where they would be a reference to where they lie.

Blocks; called off the loop by `snapshot.py`.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dspy_server.contract import REFERENCE_KEY
from dspy_server.errors import SourceError
from dspy_server.program import read_artifact

MAX_REFERENCE_BYTES: Final = 4096


@dataclass(frozen=True)
class Reference:
    """Where a program lies, and its digest."""

    sha256: str
    uri: str


def read_slot(path: Path) -> bytes | Reference:
    """What is in the slot of the program at `path`.

    Raises:
        SourceError: neither, or it cannot be read.
    """
    try:
        with (path.parent / REFERENCE_KEY).open("rb") as file:
            data = file.read(MAX_REFERENCE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return read_artifact(path)
    except OSError as exc:
        raise SourceError(f"{path.parent}: the reference cannot be read") from exc
    try:
        value = json.loads(data)
        return Reference(str(value["sha256"]), str(value["uri"]))
    except (ValueError, TypeError, KeyError, RecursionError) as exc:
        raise SourceError(f"{path.parent}: {REFERENCE_KEY} names no program") from exc
