"""The signs and colours of the terminal: one place, so that a phase looks the same everywhere. Pure."""

from dspy_operator.cli.views.model import Health, StepState

BAR_CELLS = 10
FULL, EMPTY = "█", "░"

HEALTH_STYLE = {Health.HEALTHY: "green", Health.IN_PROGRESS: "yellow", Health.DEGRADED: "red"}
HEALTH_SIGN = {Health.HEALTHY: "✔", Health.IN_PROGRESS: "◌", Health.DEGRADED: "✖"}

STEP_SIGN = {StepState.DONE: "✔", StepState.CURRENT: "◉", StepState.AHEAD: "○", StepState.FAILED: "✖"}
STEP_STYLE = {
    StepState.DONE: "green",
    StepState.CURRENT: "bold yellow",
    StepState.AHEAD: "dim",
    StepState.FAILED: "bold red",
}

PHASE_STYLE = {
    "Promoted": "green",
    "RolledBack": "red",
    "RollingBack": "red",
    "Aborted": "red",
    "Superseded": "dim",
    "Healthy": "green",
    "Degraded": "red",
    "Paused": "cyan",
}
VERDICT_STYLE = {"Promote": "green", "RollBack": "bold red", "Wait": "yellow", "Unmeasured": "magenta"}


def bar(share: float, cells: int = BAR_CELLS) -> str:
    """Draw a share from 0 to 1; any share above 0 shows, and only the whole fills it."""
    clamped = min(max(share, 0.0), 1.0)
    full = int(clamped * cells)
    if clamped > 0 and full == 0:
        full = 1
    return FULL * full + EMPTY * (cells - full)
