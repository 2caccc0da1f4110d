"""`dspy-server eval`: the regression gate as a Job, a CI pipeline or a person runs it; `--harvest`: fresh examples.

Exit codes: 0 pass, 1 fail, 2 wrong usage, set or program, 3 no verdict: no model, no Redis or no store
of artifacts answered.
"""

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Any, Final

from dspy_server import artifact, logs
from dspy_server.contract import (
    GATE_EXIT_CODES,
    TERMINATION_LOG,
    GateReason,
    GateVerdict,
)
from dspy_server.errors import (
    ForbiddenSourceError,
    LoadError,
    SettingsError,
    SourceError,
    UnavailableError,
)
from dspy_server.examples import MAX_BYTES, ExamplesError, ExampleSet, parse_examples
from dspy_server.settings import get_environment, load_settings, parse_percent
from dspy_server.verdict import Result, Rule, dump

_MODES: Final = ("Evidence", "Threshold")
_MAX_CONCURRENCY: Final = 256


def add_parser(commands: Any) -> None:
    """Add the command to those of `dspy-server`."""
    parser = commands.add_parser("eval", help="compare two artifacts on a set of examples with gold fields")
    parser.add_argument("--dataset", type=Path, required=True, metavar="FILE", help="JSON lines: the set")
    parser.add_argument("--canary", type=Path, metavar="FILE", help="the artifact to judge")
    parser.add_argument("--stable", type=Path, metavar="FILE", help="the artifact that it would replace")
    parser.add_argument(
        "--stable-may-differ",
        action="store_true",
        help="stable ran other code: if its artifact does not fit this one, only --min-score is asked",
    )
    parser.add_argument("--metric", help="package.module:function of (example, prediction)")
    parser.add_argument("--module", help="package.module:Attribute; default: the configuration's")
    parser.add_argument("--config", type=Path, metavar="FILE", help="JSON as for serve; its lm answers")
    parser.add_argument("--source", type=Path, metavar="FOLDER", help="code to put on sys.path")
    parser.add_argument("--max-drop", type=_get_percent, default=0.02, help="default: 2%%")
    parser.add_argument("--min-score", type=_get_share, help="floor of the mean, in [0, 1]; default: none")
    parser.add_argument("--mode", choices=_MODES, default=_MODES[0], help="default: %(default)s")
    parser.add_argument("--confidence", type=_get_share, default=0.95, help="default: %(default)s")
    parser.add_argument("--concurrency", type=_get_count, default=8, help="examples at once; default: 8")
    parser.add_argument(
        "--termination-log",
        type=Path,
        default=Path(TERMINATION_LOG),
        metavar="FILE",
        help="gets the result too, if it is there; default: %(default)s",
    )
    parser.add_argument(
        "--harvest",
        type=_get_count,
        metavar="N",
        help="print N lines of captured questions for the set instead",
    )
    parser.add_argument(
        "--against",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="JSON lines that harvested questions must not be near to; may be given again",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure, print the result, leave it where the kubelet reads it; the exit code says the verdict."""
    if options.harvest is not None:
        from dspy_server import harvest_command  # noqa: PLC0415 - it imports DSPy

        return harvest_command.run(options.dataset, options.against, options.harvest)
    try:
        result = _evaluate(options)
    except SettingsError as exc:
        result = Result(GateVerdict.INVALID, GateReason.SETTINGS, str(exc))
    except ExamplesError as exc:
        result = Result(GateVerdict.INVALID, GateReason.SET, f"{options.dataset}: {exc}")
    except UnavailableError as exc:
        result = Result(GateVerdict.NO_VERDICT, GateReason.SOURCE, str(exc))
    except LoadError as exc:
        result = Result(GateVerdict.INVALID, GateReason.PROGRAM, str(exc))
    text = dump(result)
    sys.stdout.write(f"{text}\n")
    if options.termination_log.exists():
        options.termination_log.write_text(text, encoding="utf-8")
    return GATE_EXIT_CODES[result.verdict]


def _evaluate(options: argparse.Namespace) -> Result:
    """The result; usage, settings and the set are checked before DSPy is imported, which takes seconds."""
    if options.canary is None or options.metric is None:
        raise SettingsError("give --canary FILE and --metric package.module:function")
    settings = load_settings(get_environment(), options.config)
    module = options.module or settings.config.module
    if not module:
        raise SettingsError("module: give --module package.module:Attribute")
    examples = read_examples(options.dataset)
    logs.configure(settings.config.serving.logs.level, program=settings.process.program, file=sys.stderr)
    from dspy_server import compat, evaluate, program  # noqa: PLC0415 - see above

    for folder in (settings.process.source, options.source, Path.cwd()):
        if folder is not None:
            program.add_source(folder)
    compat.configure()
    plan = evaluate.Plan(
        examples=examples,
        canary=_read(options.canary, settings.process.pull),
        stable=None if options.stable is None else _read(options.stable, settings.process.pull),
        module=module,
        metric=program.find_function(options.metric),
        rule=Rule(
            options.max_drop, options.min_score, options.confidence if options.mode == _MODES[0] else None
        ),
        concurrency=options.concurrency,
        stable_may_differ=options.stable_may_differ,
    )
    try:
        return asyncio.run(evaluate.evaluate(settings, plan))
    except evaluate.MetricError as exc:
        return Result(GateVerdict.INVALID, GateReason.METRIC, f"{options.metric}: {exc}")


def _read(path: Path, secret: Path) -> bytes:
    """An artifact's bytes: the file, or what a reference in its place names.

    Raises:
        UnavailableError: it lies elsewhere and cannot be had now.
        LoadError: it may not be used.
    """
    from dspy_server.fetch import Fetcher  # noqa: PLC0415 - it imports clients of object stores
    from dspy_server.slots import read_slot  # noqa: PLC0415 - see above

    content = read_slot(path)
    if isinstance(content, bytes):
        return content
    try:
        data = asyncio.run(Fetcher(secret).fetch(content.uri))
    except ForbiddenSourceError:
        raise
    except SourceError as exc:
        raise UnavailableError(*exc.reasons) from exc
    artifact.verify_digest(data, content.sha256)
    return data


def read_examples(path: Path) -> ExampleSet:
    """The set in a file.

    Raises:
        ExamplesError: it cannot be read or used.
    """
    try:
        with path.open("rb") as file:
            return parse_examples(file.read(MAX_BYTES + 1))
    except OSError as exc:
        raise ExamplesError(exc.strerror or str(exc)) from exc


def _get_percent(text: str) -> float:
    try:
        value = parse_percent(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc
    return float(str(value))


def _get_share(text: str) -> float:
    value = _get_number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def _get_count(text: str) -> int:
    value = _get_number(text)
    if value not in range(1, _MAX_CONCURRENCY + 1):
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 to {_MAX_CONCURRENCY}")
    return int(value)


def _get_number(text: str) -> float:
    try:
        return float(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from exc
