"""The program that all of them serve: one call of the LM, four demonstrations."""

from typing import Any, Literal

import dspy

DEMOS = 4
Queue = Literal["billing", "shipping", "account", "hardware", "sales"]


class RouteTicket(dspy.Signature):  # type: ignore[misc]  # dspy has no types
    """Route a support ticket to the queue that handles it."""

    ticket: str = dspy.InputField()
    queue: Queue = dspy.OutputField()


class Triage(dspy.Module):  # type: ignore[misc]  # dspy has no types
    """One call of the LM a ticket."""

    def __init__(self) -> None:
        super().__init__()
        self.route = dspy.Predict(RouteTicket)

    def forward(self, ticket: str) -> Any:
        """A prediction with `queue`."""
        return self.route(ticket=ticket)

    async def aforward(self, ticket: str) -> Any:
        """The same on the event loop."""
        return await self.route.acall(ticket=ticket)


def score(inputs: dict[str, Any], prediction: Any) -> float:
    """The ruler: it must be on, because it is on in production."""
    return float(prediction.queue == "billing" or "invoice" in inputs["ticket"])


def build_demos() -> list[Any]:
    """Demonstrations of about 150 characters each."""
    text = "My parcel number {} has not arrived, the courier says it was delivered, and nobody answers the telephone"
    return [dspy.Example(ticket=text.format(number), queue="shipping") for number in range(DEMOS)]
