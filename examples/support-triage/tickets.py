"""Invents support tickets: the world that the program is compiled for, and the traffic that it serves.

A pure function of (seed, number), standard library only. Five queues of four things; a ticket names two or
three things of its queue amid small talk that all queues share; one in ten mentions another queue's thing.
"""

from __future__ import annotations

import random
from typing import TypedDict

THINGS = {
    "billing": ("invoice", "refund", "subscription", "VAT number"),
    "shipping": ("parcel", "courier", "tracking page", "customs form"),
    "account": ("password", "login", "verification code", "profile"),
    "hardware": ("battery", "screen", "charger", "firmware"),
    "sales": ("quote", "discount", "reseller contract", "demo"),
}
GREETINGS = ("Hello,", "Hi team,", "Good morning,", "Dear support,", "Hey,")
OPENINGS = (
    "I have a question about the",
    "there is a problem with the",
    "I still wait for news about the",
    "nobody could explain to me the",
    "I am writing again because of the",
    "my colleague complained about the",
)
JOINTS = ("and also the", "and the", "together with the", "next to the")
ASIDES = (
    "The {thing} was fine, by the way.",
    "Please ignore my older ticket on the {thing}.",
)
CLOSINGS = (
    "Please answer soon.",
    "Thanks for your help!",
    "This is quite urgent, my customers are waiting.",
    "I tried everything in the manual.",
    "It worked last week.",
    "Kind regards from Lisbon.",
    "Could somebody call me back?",
    "We are a small family business.",
)
ASIDE_SHARE = 0.1


class Ticket(TypedDict):
    """What a customer wrote, and the queue whose people solved it."""

    ticket: str
    queue: str


def build_ticket(seed: int, number: int) -> Ticket:
    """The ticket of that number in the stream of that seed; the order number makes its text unique."""
    rng = random.Random(f"{seed}/{number}")
    queue = rng.choice(list(THINGS))
    named = rng.sample(THINGS[queue], rng.choice((2, 2, 3)))
    story = f"{rng.choice(GREETINGS)} {rng.choice(OPENINGS)} {named[0]}"
    for thing in named[1:]:
        story += f" {rng.choice(JOINTS)} {thing}"
    sentences = [f"{story}, order {seed % 100}{number:06d}.", rng.choice(CLOSINGS)]
    if rng.random() < ASIDE_SHARE:
        other = rng.choice([q for q in THINGS if q != queue])
        sentences.insert(1, rng.choice(ASIDES).format(thing=rng.choice(THINGS[other])))
    return {"ticket": " ".join(sentences), "queue": queue}
