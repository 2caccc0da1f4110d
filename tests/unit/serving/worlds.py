"""A pod's folders, programs and tables for the server's tests: real artifacts, written by DSPy itself."""

import asyncio
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dspy

from dspy_server import compat
from dspy_server.settings import Settings, load_settings

MODULE = "tests.unit.serving.programs:Triage"
KEY = "sk-0123456789abcdef0123"
WORKLOAD = "aaaaaaaa"


@dataclass
class World:
    """Folders as a pod has them: `routes/` and `programs/{0,1,2}/`, refreshed as the kubelet does, through `..data`."""

    root: Path
    generation: int = 0
    shas: dict[int, str] = field(default_factory=dict)

    @property
    def routes_file(self) -> Path:
        return self.root / "routes" / "routes.json"

    @property
    def programs_root(self) -> Path:
        return self.root / "programs"

    def slot_path(self, slot: int) -> Path:
        return self.programs_root / str(slot) / "program.json"

    def fill_slot(self, slot: int, data: bytes) -> str:
        """Write a program into a slot; its sha256."""
        refresh_volume(self.slot_path(slot).parent, {"program.json": data})
        self.shas[slot] = hashlib.sha256(data).hexdigest()
        return self.shas[slot]

    def route(self, slot: int, weight: int, track: str, **changes: Any) -> dict[str, Any]:
        return {
            "revision": f"rev{slot}",
            "workload": WORKLOAD,
            "module": MODULE,
            "sha256": self.shas.get(slot, "0" * 64),
            "track": track,
            "weight": weight,
            "path": str(self.slot_path(slot)),
            **changes,
        }

    def write_table(self, *routes: dict[str, Any], **changes: Any) -> int:
        """Put a newer table in place; its generation."""
        self.generation += 1
        table = {
            "generation": self.generation,
            "program": "triage",
            "userHeader": "X-User-Id",
            "overrideHeader": "X-Revision",
            "routes": list(routes),
            **changes,
        }
        self.write_raw(json.dumps(table).encode())
        return self.generation

    def write_raw(self, data: bytes) -> None:
        refresh_volume(self.routes_file.parent, {"routes.json": data})

    def split(self, canary_weight: int) -> int:
        return self.write_table(
            self.route(0, 100 - canary_weight, "stable"), self.route(1, canary_weight, "canary")
        )

    def build_env(self, base_url: str, config: dict[str, Any] | None = None, **env: str) -> dict[str, str]:
        """The environment of a pod whose LM is at `base_url`."""
        full = {
            "module": MODULE,
            "lm": {"primary": {"model": "openai/icl-100", "apiBase": f"{base_url}/v1"}, "timeout": "5s"},
            **(config or {}),
        }
        serving = full.get("serving", {})
        # The same question again means another call of the provider, except where a test is about the cache.
        full["serving"] = {**serving, "cache": {"lmMemoryEntries": 0, **serving.get("cache", {})}}
        return {
            "DSPY_SERVER_CONFIG": json.dumps(full),
            "DSPY_PROGRAM": "triage",
            "DSPY_WORKLOAD": WORKLOAD,
            "DSPY_ROUTES": str(self.routes_file),
            "DSPY_PROGRAMS_ROOT": str(self.programs_root),
            "DSPY_SOURCE": str(self.root / "source"),
            "DSPY_CACHEDIR": str(self.root / "cache"),
            "DSPY_LM_KEY_0": KEY,
            **env,
        }

    def build_settings(self, base_url: str, config: dict[str, Any] | None = None, **env: str) -> Settings:
        return load_settings(self.build_env(base_url, config, **env))


def refresh_volume(folder: Path, files: dict[str, bytes]) -> None:
    """Replace a volume's files at once: a new folder, and the link `..data` moved to it."""
    folder.mkdir(parents=True, exist_ok=True)
    version = folder / f"..version-{os.urandom(4).hex()}"
    version.mkdir()
    for name, data in files.items():
        (version / name).write_bytes(data)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(Path("..data") / name)
    link = folder / f"..link-{version.name}"
    link.symlink_to(version.name)
    link.rename(folder / "..data")


def dump_program(program: Any, folder: Path) -> bytes:
    """The bytes that `save` writes for a program."""
    path = folder / f"{os.urandom(4).hex()}.json"
    program.save(path)
    return path.read_bytes()


def build_demos(queue: str, count: int) -> list[dspy.Example]:
    return [dspy.Example(ticket=f"{queue} question {index}", queue=queue) for index in range(count)]


def build_artifact(folder: Path, queue: str = "billing", count: int = 2) -> bytes:
    """An artifact of `programs:Triage` whose demonstrations all say `queue`."""
    from tests.unit.serving.programs import Triage  # noqa: PLC0415 - it imports dspy_server.counter

    program = Triage()
    program.route.demos = build_demos(queue, count)
    return dump_program(program, folder)


def get_stub_adapter() -> Any:
    return compat.CountingChatAdapter(parse_retry=True, on_retry=lambda: None)


def list_users(count: int) -> Sequence[str]:
    return [f"user-{index}" for index in range(count)]


async def until(condition: Callable[[], bool], *, seconds: float = 10.0) -> None:
    """Let the loop, its threads and processes go on until something is true; fails after `seconds`."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - nobody sets an event for what a test looks at from outside
            await asyncio.sleep(0.001)


class Clock:
    """Seconds that only a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now
