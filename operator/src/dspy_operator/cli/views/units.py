"""Numbers for people: percent, ages, times of day. Pure."""

from datetime import UTC, datetime

MINUTE, HOUR, DAY = 60, 3600, 86400


def percent(value: str | int) -> str:
    """Write a percentage with a space: `10 %`; what is none stays as it is."""
    written = f"{value}%" if isinstance(value, int) else value
    return f"{written[:-1].rstrip()} %" if written.endswith("%") else written


def age(seconds: float | None) -> str:
    """Write a length of time as kubectl does: `45s`, `12m`, `3h5m`, `2d4h`; empty if unknown."""
    if seconds is None:
        return ""
    whole = max(0, int(seconds))
    if whole < 2 * MINUTE:
        return f"{whole}s"
    if whole < 2 * HOUR:
        return f"{whole // MINUTE}m"
    if whole < 2 * DAY:
        minutes = whole % HOUR // MINUTE
        return f"{whole // HOUR}h{minutes}m" if minutes else f"{whole // HOUR}h"
    hours = whole % DAY // HOUR
    return f"{whole // DAY}d{hours}h" if hours else f"{whole // DAY}d"


def since(now: float, then: float | None) -> str:
    """Write how long ago `then` was; empty if unknown."""
    return age(None if then is None else now - then)


def clock(at: float | None) -> str:
    """Write an instant as `2026-11-23 08:15:47Z`; empty if unknown."""
    return "" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def change(drop: str) -> str:
    """Write a drop as status has it in words: `1.2%` is `worse by 1.2%`, `-0.5 points` better; empty if unknown."""
    if not drop:
        return ""
    amount = drop.removeprefix("-")
    if not amount.partition(" ")[0].strip("0.%"):
        return "no difference"
    return f"better by {amount}" if drop.startswith("-") else f"worse by {amount}"
