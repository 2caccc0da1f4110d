"""Times as text: RFC 3339 in UTC, as Kubernetes writes them. Nothing here reads a clock."""

from datetime import UTC, datetime


def format_time(seconds: float) -> str:
    """Whole seconds."""
    return _format(seconds, "seconds")


def format_exact(seconds: float) -> str:
    """Milliseconds: for times that a test's clock starts from."""
    return _format(seconds, "milliseconds")


def parse_time(text: str) -> float | None:
    """Seconds since 1970; None if the text is no RFC 3339 time."""
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        return None
    return parsed.timestamp() if parsed.tzinfo else None


def _format(seconds: float, digits: str) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec=digits).replace("+00:00", "Z")
