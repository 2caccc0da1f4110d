"""The example's programs, compiled for real by DSPy against the in-context learner, and as objects for a cluster.

`compile_artifacts` runs the example's own script; `get_artifacts` does so once for all stories.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from tests.provider.icl_lm import Provider, run_provider

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.e2e.harness.api import Object

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples/support-triage"
CODE = "support-triage-code"
KEY = "program.json"
NAMES = ("v1", "v2", "v3", "v2-minus2", "v2-slow", "bad/not-a-program", "bad/other-signature")


@dataclass(frozen=True)
class Artifact:
    """One program file; `version` is what users see of its digest."""

    name: str
    content: str
    sha256: str

    @property
    def version(self) -> str:
        """The first 12 hex of the digest."""
        return self.sha256[:12]

    @property
    def config_map(self) -> str:
        """The ConfigMap that carries it."""
        return f"support-triage-{self.version}"


def read_artifact(path: Path, name: str) -> Artifact:
    """An artifact from a file."""
    data = path.read_bytes()
    return Artifact(name, data.decode(), hashlib.sha256(data).hexdigest())


def compile_artifacts(out: Path, *only: str) -> str:
    """Compile into a directory and return the table that the script prints."""
    with run_provider(Provider()) as url:
        command = [sys.executable, str(EXAMPLE / "compile.py"), "--api-base", f"{url}/v1", "--out", str(out)]
        done = subprocess.run(
            [*command, *(("--only", *only) if only else ())],
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )
    if done.returncode:
        raise RuntimeError(f"compile.py failed:\n{done.stderr[-2000:]}")
    return done.stdout


def get_artifacts() -> Mapping[str, Artifact]:
    """All artifacts by name, compiled anew when what they are made of has changed."""
    sources = [*EXAMPLE.glob("*.py"), *EXAMPLE.glob("data/*"), *(ROOT / "tests/provider").glob("*.py")]
    made_of = "".join(hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(sources))
    key = hashlib.sha256((made_of + version("dspy")).encode()).hexdigest()[:12]
    out = ROOT / "build/e2e" / f"artifacts-{key}"
    if not (out / "done").exists():
        compile_artifacts(out)
        (out / "done").touch()
    return {name: read_artifact(out / f"{name}.json", name) for name in NAMES}


def build_program(namespace: str, artifact: Artifact) -> Object:
    """The ConfigMap with one artifact."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": artifact.config_map, "namespace": namespace},
        "data": {KEY: artifact.content},
    }


def build_code(namespace: str) -> Object:
    """The ConfigMap with the example's source, for `program.source`."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": CODE, "namespace": namespace},
        "data": {"support_triage.py": (EXAMPLE / "support_triage.py").read_text()},
    }
