"""Routes a support ticket to the queue that handles it: the program, its ruler and its metric.

`Triage` is what gets compiled and served. `score` judges an answer in production, where nobody knows the
right queue; `metric` judges it by a label, for optimizers, `dspy.Evaluate` and the regression gate.
"""

import re
from typing import Any, Literal

import dspy

Queue = Literal["billing", "shipping", "account", "hardware", "sales"]

# The support team's own word list: what an agent looks for when checking where a ticket went. Not complete:
# nobody thought of a `demo` or a `profile`.
LEXICON: dict[str, tuple[str, ...]] = {
    "billing": ("invoice", "refund", "subscription", "vat"),
    "shipping": ("parcel", "courier", "tracking", "customs"),
    "account": ("password", "login", "verification"),
    "hardware": ("battery", "screen", "charger", "firmware"),
    "sales": ("quote", "discount", "reseller"),
}


class RouteTicket(dspy.Signature):
    """Route a support ticket to the queue that handles it."""

    ticket: str = dspy.InputField()
    queue: Queue = dspy.OutputField()


class Triage(dspy.Module):
    """One call of the LM per ticket."""

    def __init__(self) -> None:
        super().__init__()
        self.route = dspy.Predict(RouteTicket)

    def forward(self, ticket: str) -> dspy.Prediction:
        """A prediction with `queue`."""
        return self.route(ticket=ticket)

    async def aforward(self, ticket: str) -> dspy.Prediction:
        """The same without blocking a thread."""
        return await self.route.acall(ticket=ticket)


def score(inputs: dict[str, Any], prediction: dspy.Prediction) -> float:
    """Does the queue fit the words of the ticket? No gold label is needed.

    1.0: no other queue has more of its words in the ticket. 0.5: another has more, but this one has some; or
    the ticket has no word of the list at all, so that nobody can tell. 0.0: it has only other queues' words.
    """
    words = set(re.findall(r"[a-z]+", str(inputs["ticket"]).lower()))
    hits = {queue: len(words.intersection(lexicon)) for queue, lexicon in LEXICON.items()}
    most, mine = max(hits.values()), hits.get(prediction.queue, 0)
    if most == 0:
        return 0.5
    if mine == most:
        return 1.0
    return 0.5 if mine else 0.0


def metric(
    example: dspy.Example,
    prediction: dspy.Prediction,
    trace: object = None,  # noqa: ARG001 - optimizers pass it
) -> float:
    """1.0 for the labelled queue, else 0.0."""
    return float(prediction.queue == example.queue)
