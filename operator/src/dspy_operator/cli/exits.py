"""How a command ends: the exit codes that pipelines rely on, and the error that carries one."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of `kubectl dspy` (the last two are those of sysexits.h)."""

    HEALTHY = 0
    DEGRADED = 1
    IN_PROGRESS = 2
    USAGE = 64
    INTERNAL = 70


class CliError(Exception):
    """Ends a command with one sentence that says what to do.

    Attributes:
        exit: the exit code of the process.
    """

    def __init__(self, sentence: str, end: Exit = Exit.INTERNAL) -> None:
        super().__init__(sentence)
        self.exit = end
