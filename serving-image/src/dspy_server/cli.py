"""`dspy-server`: `serve` is what the image runs; `verify` and `inspect` look at an artifact without serving it.

`eval` compares two. Exit codes: 0 well, 1 refused, 2 wrong usage or configuration. DSPy takes seconds to import, so
each command imports what it needs itself: a wrong setting is named at once, and a SIGTERM meanwhile is obeyed even by a
container's PID 1.
"""

import argparse
import asyncio
import functools
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Final

from dspy_server import artifact, eval_command, logs
from dspy_server.contract import ENV_PULL, PULL_DIR, Track
from dspy_server.errors import LoadError, SettingsError
from dspy_server.redact import Redactor
from dspy_server.routes import FULL_WEIGHT, Route, Table
from dspy_server.settings import Settings, get_environment, load_settings
from dspy_server.uris import is_uri

OK: Final = 0
REFUSED: Final = 1
USAGE: Final = 2
SIGNALLED: Final = 128
"""Plus the signal's number: what shells and the kubelet show."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code."""
    options = _build_parser().parse_args(argv)
    try:
        return int(options.run(options))
    except SettingsError as exc:
        print(f"dspy-server: {exc}", file=sys.stderr)
        return USAGE


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dspy-server", description="Serves a compiled DSPy program.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="serve the routing table's programs, or one artifact alone")
    serve.add_argument("--config", type=Path, metavar="FILE", help="JSON with module, lm, serving, scoring")
    serve.add_argument("--module", help="package.module:Attribute; with --artifact, without an operator")
    serve.add_argument("--artifact", type=Path, metavar="FILE", help="the compiled program to serve alone")
    serve.set_defaults(run=_serve)
    verify = commands.add_parser("verify", help="check an artifact as the server does before it loads it")
    verify.add_argument("file", metavar="FILE", help="a file or a URI")
    verify.add_argument("--sha256", required=True, help="the expected digest, 64 hex")
    verify.add_argument("--module", help="also check the fit to package.module:Attribute")
    verify.add_argument("--stable", metavar="FILE", help="also check that it has this program's shape")
    verify.add_argument("--source", type=Path, metavar="FOLDER", help="code to put on sys.path")
    verify.add_argument("--json", action="store_true", help="one JSON object on standard output")
    verify.set_defaults(run=_verify)
    inspect = commands.add_parser("inspect", help="what an artifact holds, as JSON")
    inspect.add_argument("file", metavar="FILE", help="a file or a URI")
    inspect.set_defaults(run=_inspect)
    eval_command.add_parser(commands)
    return parser


def _leave(signum: int, _frame: FrameType | None) -> None:
    sys.exit(SIGNALLED + signum)


def _serve(options: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, _leave)  # until the event loop has its own handler
    if options.artifact is not None and options.module is None and options.config is None:
        print("dspy-server: --artifact needs --module, here or in the configuration", file=sys.stderr)
        return USAGE
    settings = load_settings(get_environment(), options.config)
    from dspy_server import lifecycle, loops  # noqa: PLC0415 - see above

    build_table = None
    if options.artifact is not None:
        module = options.module or settings.config.module
        build_table = functools.partial(_build_table, settings, module, options.artifact)
        build_table(1)  # what is wrong is said before anything starts
    wanted = settings.config.serving.logs
    logs.configure(wanted.level, program=settings.process.program, redactor=Redactor(wanted.redact))
    with asyncio.Runner(loop_factory=loops.ServingLoop) as runner:
        runner.run(lifecycle.serve(settings, build_table))
    return OK


def _build_table(settings: Settings, module: str, path: Path, generation: int) -> Table:
    """A table of one route, for a server without an operator; code is also sought in the current folder."""
    from dspy_server import program  # noqa: PLC0415 - see above

    try:
        digest = artifact.get_digest(program.read_artifact(path))
    except LoadError as exc:
        raise SettingsError(f"--artifact: {exc}") from exc
    if not module:
        raise SettingsError("module: give --module package.module:Attribute")
    program.add_source(Path.cwd())
    process = settings.process
    route = Route(digest[:10], process.workload, module, digest, Track.STABLE, FULL_WEIGHT, str(path))
    return Table(generation, process.program, "", "", (route,))


def _verify(options: argparse.Namespace) -> int:
    from dspy_server import compat, program  # noqa: PLC0415 - see above

    if options.source is not None:
        program.add_source(options.source)
    program.add_source(Path.cwd())
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    try:
        data = _read(options.file)
        module = None if options.module is None else program.build_module(options.module)
        shape = None if module is None else compat.get_shape(module)
        checked = artifact.check(data, options.sha256, shape, dspy_version=compat.DSPY_VERSION)
        if options.stable is not None:
            artifact.check_same_shape(checked, _check_alone(_read(options.stable)))
        notes = checked.notes
    except LoadError as exc:
        reasons = exc.reasons
    if options.json:
        print(json.dumps({"accepted": not reasons, "reasons": reasons, "notes": notes}, ensure_ascii=False))
    else:
        for line in (*reasons, *(f"note: {note}" for note in notes)):
            print(line, file=sys.stderr)
    return REFUSED if reasons else OK


def _inspect(options: argparse.Namespace) -> int:
    try:
        data = _read(options.file)
        checked = _check_alone(data)
    except LoadError as exc:
        for reason in exc.reasons:
            print(reason, file=sys.stderr)
        return REFUSED
    report = {
        "sha256": artifact.get_digest(data),
        "bytes": len(data),
        "dspy": checked.dspy_version,
        "predictors": artifact.describe(checked),
        "notes": list(checked.notes),
    }
    print(json.dumps(report, indent=2, ensure_ascii=False))
    return OK


def _read(place: str) -> bytes:
    """The bytes of a file or behind a URI, as a pod would get them."""
    from dspy_server import program  # noqa: PLC0415 - see above
    from dspy_server.fetch import Fetcher  # noqa: PLC0415 - see above

    if not is_uri(place):
        return program.read_artifact(Path(place))
    return asyncio.run(Fetcher(Path(get_environment().get(ENV_PULL, PULL_DIR))).fetch(place))


def _check_alone(data: bytes) -> artifact.Checked:
    """A program by itself, whatever its digest and module."""
    from dspy_server import compat  # noqa: PLC0415 - see above

    return artifact.check(data, artifact.get_digest(data), None, dspy_version=compat.DSPY_VERSION)


if __name__ == "__main__":
    sys.exit(main())
