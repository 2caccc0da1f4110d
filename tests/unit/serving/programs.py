"""The programs that the server's tests serve."""

import time
from typing import Any, Literal

import dspy

import dspy_server

Queue = Literal["billing", "shipping", "account"]
REFUSALS = dspy_server.counter("triage_refusals_total")


class RouteTicket(dspy.Signature):
    """Route a support ticket to the queue that handles it."""

    ticket: str = dspy.InputField()
    queue: Queue = dspy.OutputField()


class Triage(dspy.Module):
    """Has both ways to be called."""

    def __init__(self) -> None:
        super().__init__()
        self.route = dspy.Predict(RouteTicket)

    def forward(self, ticket: str) -> dspy.Prediction:
        return self.route(ticket=ticket)

    async def aforward(self, ticket: str) -> dspy.Prediction:
        if "refuse" in ticket:
            REFUSALS.inc()
        if "explode" in ticket:
            raise ValueError("a secret of the user")
        return await self.route.acall(ticket=ticket)


class AnswerTicket(dspy.Signature):
    """Answer a support ticket."""

    ticket: str = dspy.InputField(desc="what the customer wrote")
    mood: Literal["calm", "angry"] = dspy.OutputField()
    answer: str = dspy.OutputField(desc="two sentences at most")
    advice: str = dspy.OutputField()


class Reply(dspy.Module):
    """Has text to stream, from its second predictor; what the first one says is nobody's business."""

    def __init__(self) -> None:
        super().__init__()
        self.think = dspy.Predict("ticket -> answer")
        self.reply = dspy.Predict(AnswerTicket)

    async def aforward(self, ticket: str) -> dspy.Prediction:
        if "think" in ticket:
            await self.think.acall(ticket=ticket)
        prediction = await self.reply.acall(ticket=ticket)
        if "late" in ticket:
            raise ValueError("a secret of the user")
        return prediction


class SyncReply(dspy.Module):
    """The same in a thread."""

    def __init__(self) -> None:
        super().__init__()
        self.think = dspy.Predict("ticket -> answer")
        self.reply = dspy.Predict(AnswerTicket)

    def forward(self, ticket: str) -> dspy.Prediction:
        return self.reply(ticket=ticket)


class SyncTriage(dspy.Module):
    """Has no `aforward`: runs in a worker thread."""

    def __init__(self) -> None:
        super().__init__()
        self.route = dspy.Predict(RouteTicket)

    def forward(self, ticket: str) -> dspy.Prediction:
        if "refuse" in ticket:
            REFUSALS.inc()
        return self.route(ticket=ticket)


class Blocking(SyncTriage):
    """Calls the LM synchronously on the event loop."""

    async def aforward(self, ticket: str) -> dspy.Prediction:
        return self.route(ticket=ticket)


class Other(dspy.Module):
    """Another set of fields."""

    def __init__(self) -> None:
        super().__init__()
        self.route = dspy.Predict("question, context -> answer")

    def forward(self, question: str, context: str) -> dspy.Prediction:
        return self.route(question=question, context=context)


class Conversation(dspy.Module):
    """Takes what was said before."""

    def __init__(self) -> None:
        super().__init__()
        self.reply = dspy.Predict("history: dspy.History, question -> answer")

    def forward(self, history: dspy.History, question: str) -> dspy.Prediction:
        return self.reply(history=history, question=question)


class Broken(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        raise RuntimeError("no such model")


NOT_A_PROGRAM = 3


def build_triage() -> Triage:
    return Triage()


def build_slowly() -> Triage:
    """A program that takes long to build, as one that loads an index does."""
    time.sleep(1.0)
    return Triage()


def score(inputs: dict[str, Any], prediction: dspy.Prediction) -> float:
    if "unscored" in inputs["ticket"]:
        raise KeyError(inputs["ticket"])
    if "infinite" in inputs["ticket"]:
        return float("inf")
    return 0.5 if prediction.queue == "billing" else 0.25


class TwoStep(dspy.Module):
    """Asks twice: both answers must come from the same artifact."""

    def __init__(self) -> None:
        super().__init__()
        self.first = dspy.Predict(RouteTicket)
        self.second = dspy.Predict(RouteTicket)

    async def aforward(self, ticket: str) -> dspy.Prediction:
        first = await self.first.acall(ticket=ticket)
        second = await self.second.acall(ticket=ticket)
        return dspy.Prediction(queue=first.queue, again=second.queue)


def score_reply(_inputs: dict[str, Any], prediction: dspy.Prediction) -> float:
    return float(len(prediction.answer) > 3)


class ConstantJudge(dspy.Module):
    """Asks its LM how it finds an answer and says what it wants."""

    def __init__(self) -> None:
        super().__init__()
        self.route = dspy.Predict("question -> verdict")

    def forward(self, inputs: dict[str, Any], outputs: dict[str, Any]) -> dspy.Prediction:
        if "crash" in inputs["ticket"]:
            raise KeyError(inputs["ticket"])
        self.route(question=f"{inputs['ticket']} {outputs['queue']}")
        return dspy.Prediction(score="a lot" if "nan" in inputs["ticket"] else 0.6)
