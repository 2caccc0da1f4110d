"""The disk tier of the LM cache: one file an entry, plain bytes, with a size limit and an age limit.

Nothing in a file is ever run, and no file is trusted: its reader checks what it holds.
"""

import errno
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MAX_ENTRY_BYTES: Final = 4 << 20
BLOCK_BYTES: Final = 4096
"""What a file takes at least; an emptyDir's limit counts blocks too."""
CULL_SHARE: Final = 0.9
CLEAR_SHARE: Final = 1.25
_HALF: Final = ".half"
_HALF_SECONDS: Final = 60.0
"""How long a file may take to be written."""


@dataclass(frozen=True)
class _File:
    written_at: float
    size: int
    path: Path


class DiskTier:
    """Entries by key (64 hex); all methods block, and raise OSError where the disk does.

    Attributes:
        size: bytes that its files take, as far as it knows: other processes' files are seen by `sweep`.
    """

    def __init__(self, folder: Path, size_limit: int, max_age: float, clock: Callable[[], float]) -> None:
        self._folder = folder
        self._size_limit = size_limit
        self._max_age = max_age
        self._clock = clock
        self._lock = threading.Lock()
        self._no_space = False
        self.size = 0

    @property
    def is_full(self) -> bool:
        """Whether only a sweep makes room."""
        return self._no_space or self.size >= self._size_limit

    def find(self, key: str) -> bytes | None:
        """What is kept of that key, unless it is too old."""
        try:
            with self._get_path(key).open("rb") as file:
                info = os.fstat(file.fileno())
                if info.st_size > MAX_ENTRY_BYTES or self._is_old(info.st_mtime):
                    return None
                return file.read(MAX_ENTRY_BYTES)
        except FileNotFoundError:
            return None

    def keep(self, key: str, data: bytes) -> None:
        """Write an entry, all of it or nothing, as long as there is room."""
        size = _get_size(len(data))
        with self._lock:
            if self.is_full or len(data) > MAX_ENTRY_BYTES or self.size + size > self._size_limit:
                return
            self.size += size
        try:
            self._write(self._get_path(key), data)
        except OSError as exc:
            with self._lock:
                self.size -= size
                self._no_space = self._no_space or exc.errno in {errno.ENOSPC, errno.EDQUOT}
            raise

    def drop(self, key: str) -> None:
        """Remove an entry."""
        with suppress(FileNotFoundError):
            self._get_path(key).unlink()

    def sweep(self) -> None:
        """Remove what is too old, then the oldest until there is room; everything if it is far too much."""
        kept = []
        for file in self._list_files():
            is_left_over = file.path.suffix == _HALF and self._clock() - file.written_at > _HALF_SECONDS
            if is_left_over or self._is_old(file.written_at):
                _remove(file)
            else:
                kept.append(file)
        total = sum(file.size for file in kept)
        limit = min(self._size_limit, total) if self._no_space else self._size_limit
        room = 0 if total > CLEAR_SHARE * limit else CULL_SHARE * limit
        for file in sorted(kept, key=lambda item: item.written_at):
            if total <= room:
                break
            _remove(file)
            total -= file.size
        with self._lock:
            self.size, self._no_space = total, False

    def _list_files(self) -> Iterator[_File]:
        """The files of its own folders; what another process removes meanwhile is not there."""
        for number in range(256):
            with suppress(FileNotFoundError), os.scandir(self._folder / f"{number:02x}") as found:
                for item in found:
                    with suppress(FileNotFoundError):
                        info = item.stat(follow_symlinks=False)
                        yield _File(info.st_mtime, _get_size(info.st_size), Path(item.path))

    def _write(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        half = path.with_name(f"{path.name}.{secrets.token_hex(4)}{_HALF}")
        try:
            with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(data)
            half.replace(path)
        except OSError:
            half.unlink(missing_ok=True)
            raise

    def _get_path(self, key: str) -> Path:
        return self._folder / key[:2] / key

    def _is_old(self, written_at: float) -> bool:
        return self._clock() - written_at > self._max_age


def _get_size(length: int) -> int:
    return -(-length // BLOCK_BYTES) * BLOCK_BYTES


def _remove(file: _File) -> None:
    with suppress(FileNotFoundError, IsADirectoryError):
        file.path.unlink()
