"""`dspy-server eval --harvest`: lines for a set of examples from the questions that pods captured in Redis.

Needs no configuration but `DSPY_REDIS_URL` and `DSPY_PROGRAM`; the lines go to standard output.
"""

import asyncio
import datetime as dt
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from dspy_server import capture, harvest
from dspy_server.capture import Captured
from dspy_server.contract import ENV_PROGRAM, ENV_REDIS_URL
from dspy_server.errors import SettingsError
from dspy_server.settings import Process, get_environment
from dspy_server.store import Store, StoreError, build_client

OK: Final = 0
NO_REDIS: Final = 3
PATIENCE_SECONDS: Final = 10.0
"""For the whole list at once; no request waits for it."""


def run(dataset: Path, against: Sequence[Path], count: int) -> int:
    """Print at most `count` lines; how many there were to choose from goes to standard error.

    Raises:
        SettingsError: no Redis is named, or a set cannot be read.
    """
    env = get_environment()
    if not env.get(ENV_REDIS_URL):
        raise SettingsError(f"{ENV_REDIS_URL} is not set: captured questions are in Redis")
    program = env.get(ENV_PROGRAM) or Process().program
    sets = [(path, _read(path)) for path in (dataset, *against)]
    try:
        captured = asyncio.run(_list_captured(env[ENV_REDIS_URL], program))
    except StoreError as exc:
        sys.stderr.write(f"dspy-server: {exc}\n")
        return NO_REDIS
    known = _list_known(sets, captured)
    chosen = harvest.select(captured, known, count)
    today = dt.datetime.now(dt.UTC).date().isoformat()  # noqa: TID251 - a command is its own shell
    for item in chosen:
        sys.stdout.write(f"{harvest.build_line(item, today)}\n")
    sys.stderr.write(f"{len(chosen)} of {len(captured)} captured questions; {len(known)} were known\n")
    return OK


async def _list_captured(url: str, program: str) -> list[Captured]:
    store = Store(build_client(url), asyncio.get_running_loop().time, timeout=PATIENCE_SECONDS)
    try:
        return await capture.list_captured(store, program)
    finally:
        await store.close()


def _list_known(sets: Sequence[tuple[Path, bytes]], captured: Sequence[Captured]) -> list[Mapping[str, Any]]:
    names = {name for item in captured for name in item.inputs}
    known: list[Mapping[str, Any]] = []
    for path, data in sets:
        try:
            known += harvest.list_known(data, names)
        except ValueError as exc:
            raise SettingsError(f"{path}: {exc}") from exc
    return known


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise SettingsError(f"{path}: {exc.strerror or exc}") from exc
