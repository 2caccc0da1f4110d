"""Source on `sys.path`, artifact -> fresh module -> loaded, warm `Program`.

Everything here blocks (imports, JSON, rendering) and is called off the loop by `snapshot.py` and `cli.py`.
"""

import asyncio
import contextvars
import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dspy_server import artifact, compat, schema
from dspy_server.errors import ModuleError, RefusedError, SourceError, WarmupError
from dspy_server.lm import LmChoices


@dataclass(frozen=True, eq=False)
class Program:
    """A program that can answer.

    Attributes:
        notes: what was odd about its artifact, for the log.
    """

    revision: str
    sha256: str
    module: Any
    inputs: schema.InputSchema
    dspy_version: str
    notes: tuple[str, ...] = ()

    async def answer(self, inputs: Mapping[str, Any], workers: Executor) -> Any:
        """The program's prediction; a program without `aforward` runs in a thread of `workers`.

        Not in the loop's own executor: programs that fill it would wait for the engine, which needs it too.
        """
        return await call(self.module, inputs, workers)


async def call(module: Any, inputs: Mapping[str, Any], workers: Executor) -> Any:
    """What a DSPy program answers, on the loop if it can, else in a thread of `workers`."""
    if compat.is_async(module):
        return await module.acall(**inputs)
    run = functools.partial(contextvars.copy_context().run, module, **inputs)
    return await asyncio.get_running_loop().run_in_executor(workers, run)


def add_source(source: Path) -> None:
    """Append the mounted code to `sys.path`: last, so that a key `json.py` shadows nothing."""
    if source.is_dir() and str(source) not in sys.path:
        sys.path.append(str(source))


def find_attribute(spec: str) -> Any:
    """The object that `package.module:Attribute` names.

    Raises:
        ModuleError: it cannot be imported, or there is no such attribute.
    """
    module_name, separator, attribute = spec.partition(":")
    if not separator or not attribute or not module_name:
        raise ModuleError(f"{spec!r} is not package.module:Attribute")
    try:
        module = importlib.import_module(module_name)
    except Exception as exc:
        raise ModuleError(f"cannot import {module_name}: {type(exc).__name__}: {exc}") from exc
    try:
        return getattr(module, attribute)
    except AttributeError as exc:
        raise ModuleError(f"{module_name} has no {attribute}") from exc


def build_module(spec: str) -> Any:
    """A fresh DSPy program of the class, factory or instance that `spec` names.

    Raises:
        ModuleError: it fails, or is no `dspy.Module`.
    """
    found = find_attribute(spec)
    try:
        module = found.deepcopy() if compat.is_module(found) else found()
    except Exception as exc:
        raise ModuleError(f"{spec} cannot be built: {type(exc).__name__}: {exc}") from exc
    if not compat.is_module(module):
        raise ModuleError(f"{spec} is {type(module).__name__}, not a dspy.Module")
    unsupported = compat.list_unsupported_parameters(module)
    if unsupported:
        raise ModuleError(f"{spec}: state of {', '.join(unsupported)} cannot be verified: not a predictor")
    return module


def find_function(spec: str) -> Callable[[Mapping[str, Any], Any], Any]:
    """The scoring function that `spec` names.

    Raises:
        ModuleError: it cannot be imported, or is no plain function.
    """
    function = find_attribute(spec)
    if not callable(function) or inspect.iscoroutinefunction(function):
        raise ModuleError(f"{spec} is no plain function (inputs, prediction) -> float")
    return function  # type: ignore[no-any-return]  # user code: what it returns is checked at each call


def read_artifact(path: Path) -> bytes:
    """The bytes of an artifact.

    Raises:
        SourceError: no file, or larger than an artifact may be.
    """
    try:
        if path.exists() and not path.is_file():
            raise SourceError(f"{path}: no regular file")  # to open a pipe would wait for ever
        with path.open("rb") as file:
            data = file.read(artifact.MAX_BYTES + 1)
    except OSError as exc:
        raise SourceError(f"{path}: {exc.strerror or exc}") from exc
    if len(data) > artifact.MAX_BYTES:
        raise SourceError(f"{path}: larger than {artifact.MAX_BYTES} bytes")
    return data


def load_program(
    data: bytes,
    *,
    revision: str,
    sha256: str,
    module: str,
    adapter: Any,
    max_chars: int = 32768,
    choices: LmChoices | None = None,
) -> Program:
    """Verify, build, load and warm one program; without `choices` the artifact's own LM settings are dropped.

    Raises:
        LoadError: of the kind that says what is wrong.
    """
    artifact.verify_digest(data, sha256)
    fresh = build_module(module)
    shape = compat.get_shape(fresh)
    models = None if choices is None else choices.models
    checked = artifact.check(data, sha256, shape, dspy_version=compat.DSPY_VERSION, models=models)
    try:
        compat.load_state(fresh, checked.state)
        if choices is not None:
            compat.give_lms(fresh, {name: choices.build(choice) for name, choice in checked.choices.items()})
    except Exception as exc:
        raise RefusedError(f"DSPy cannot load it: {type(exc).__name__}") from exc
    inputs, odd = _warm(fresh, adapter, max_chars)
    return Program(revision, sha256, fresh, inputs, checked.dspy_version, (*checked.notes, *odd))


def _warm(module: Any, adapter: Any, max_chars: int) -> tuple[schema.InputSchema, tuple[str, ...]]:
    """Render each predictor's prompt once: the first request pays nothing for it, and a broken demo shows here.

    Returns what the module takes, and a note if the adapter cannot remember what it rendered.
    """
    try:
        remembered = [adapter.remember(predictor) for predictor in compat.list_predictors(module)]
        inputs = schema.build_input_schema(module, max_chars=max_chars)
    except Exception as exc:
        raise WarmupError(f"it cannot render its prompts: {type(exc).__name__}") from exc
    return inputs, () if all(remembered) else (_NOT_REMEMBERED,)


_NOT_REMEMBERED: Final = "its demonstrations render differently each time: every call renders them anew"
