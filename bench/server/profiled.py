"""`python -m bench.server.profiled FILE`: the server under the profiler, what it imports left out."""

import asyncio
import cProfile
import sys

from dspy_server import lifecycle, logs, loops
from dspy_server.settings import get_environment, load_settings


def main(file: str) -> None:
    """Serve until SIGTERM, then write the profile."""
    settings = load_settings(get_environment())
    logs.configure(settings.config.serving.logs.level, program=settings.process.program)
    profiler = cProfile.Profile()
    with asyncio.Runner(loop_factory=loops.ServingLoop) as runner:
        profiler.runcall(runner.run, lifecycle.serve(settings))
    profiler.dump_stats(file)


if __name__ == "__main__":
    main(sys.argv[1])
