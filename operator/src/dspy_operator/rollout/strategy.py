"""The parts of an attempt's frozen plan that are about pods of the canary's own, and about a preview.

Built by `plan.py` from DSPyRollout.spec; parts of `model.Plan`.
"""

from dataclasses import dataclass

from dspy_operator.api.choices import Approximation, Router


@dataclass(frozen=True)
class Preview:
    """Blue-green: how long the canary is looked at before any traffic (seconds), and whether a person then decides."""

    duration: float
    auto_promote: bool = True


@dataclass(frozen=True)
class Routing:
    """How a canary with pods of its own gets its share; `canary_replicas` None: as many as the weight asks for."""

    router: Router = Router.REPLICAS
    canary_replicas: int | None = None
    approximation: Approximation = Approximation.REFUSE
