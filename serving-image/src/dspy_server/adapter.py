"""How signatures become prompts: DSPy's ChatAdapter with a memory, its second, JSON call counted."""

from dspy_server import compat
from dspy_server.metrics import REVISION, Metrics


def build_adapter(metrics: Metrics, *, parse_retry: bool) -> compat.CountingChatAdapter:
    """The one adapter of the process."""

    def count() -> None:
        metrics.parse_retries.labels(metrics.program, REVISION.get()).inc()

    return compat.CountingChatAdapter(parse_retry=parse_retry, on_retry=count)
