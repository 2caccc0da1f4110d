"""The cases themselves; `cases.py` has the words that they are written in."""

from tests.unit.operator.metrics.cases import (
    NO_REQUESTS,
    NOT_SCRAPED,
    NOTHING,
    SCORES,
    UNSETTLED,
    Case,
    Moment,
    Seen,
    gained,
    one,
    only_errors,
    paired,
    two,
    unmeasured,
)
from tests.unit.operator.metrics.pages import PROGRAM, Page

from dspy_operator.api.names import Metric
from dspy_operator.rollout.judging import Counts

RESETS = (
    Case(
        "a process that starts anew counts from zero",
        (
            two(Page(100, 10), Page(50, 5)),
            two(Page(4, 1), Page(55, 6), gained(9, 2)),
            two(Page(6, 1), Page(55, 6), gained(2, 0)),
        ),
    ),
    Case(
        "a counter that starts anew alone takes the whole page along",
        (
            one(Page(100, 10, failed=3)),
            one(Page(2, 12, failed=4), gained(2, 12, failed=4)),
            one(Page(3, 12, failed=4), gained(1, 0)),
        ),
    ),
    Case(
        "a restart that has overtaken its old counts is growth",
        (one(Page(10, 1)), one(Page(30, 3), gained(20, 2))),
    ),
    Case(
        "a failure that is seen for the first time sets its base",
        (
            one(Page(10, 5, failed=None)),
            one(Page(20, 6, failed=4), gained(10, 1)),
            one(Page(20, 6, failed=6), gained(0, 0, failed=2)),
        ),
    ),
)

PODS = (
    Case(
        "a pod that comes counts from its second look on",
        (
            one(Page(100, 10)),
            two(Page(110, 11), Page(900, 90), gained(10, 1)),
            two(Page(110, 11), Page(905, 92), gained(5, 2)),
        ),
    ),
    Case(
        "a pod that goes takes its unscraped tail along",
        (
            two(Page(100, 10), Page(50, 5)),
            one(Page(103, 11), gained(3, 1)),
            one(Page(104, 11), gained(1, 0)),
        ),
    ),
    Case(
        "a pod that is replaced by another is first sight again",
        (
            one(Page(100, 10)),
            Moment({"pod-9": Page(5, 1)}, NOTHING),
            Moment({"pod-9": Page(8, 2)}, gained(3, 1)),
        ),
    ),
    Case(
        "a pod that is not yet ready counts as well",
        (
            two(Page(100, 10), Page(50, 5)),
            Moment({"pod-0": Page(101, 10), "pod-1": Page(53, 5)}, gained(4, 0), ready=frozenset({"pod-0"})),
        ),
    ),
    Case(
        "without a ready pod nothing is settled",
        (one(Page(100, 10)), one(Page(200, 90), UNSETTLED, ready=frozenset())),
    ),
)

SCRAPES = (
    Case(
        "a ready pod that one scrape missed catches up",
        (
            two(Page(100, 10), Page(50, 5)),
            two(Page(105, 11), None, UNSETTLED),
            two(Page(109, 12), Page(70, 9), gained(24, 5)),
        ),
    ),
    Case(
        "one pod of three that is not scraped settles nothing",
        (
            Moment({"pod-0": Page(1, 1), "pod-1": Page(1, 1), "pod-2": Page(1, 1)}),
            Moment({"pod-0": Page(9, 2), "pod-1": Page(9, 2), "pod-2": None}, UNSETTLED),
            Moment({"pod-0": Page(10, 2), "pod-1": Page(9, 2), "pod-2": Page(9, 2)}, gained(9, 1)),
        ),
    ),
    Case(
        "pods that nobody scrapes for a while lose nothing",
        (
            two(Page(100, 10), Page(50, 5)),
            two(None, None, NOT_SCRAPED),
            two(Page(120, 12), Page(60, 6), gained(30, 3)),
        ),
    ),
    Case(
        "a program that nobody has scraped yet is unmeasured",
        (
            Moment({}, ready=frozenset({"pod-0"})),
            Moment({}, NOT_SCRAPED, ready=frozenset({"pod-0"})),
            one(Page(100, 10), NOTHING),
            one(Page(101, 11), gained(1, 1)),
        ),
    ),
    Case(
        "a stale sample adds nothing and confirms nothing",
        (
            two(Page(100, 10), Page(50, 5, stamped=-40)),
            two(Page(105, 11), Page(50, 5, stamped=-40), gained(5, 1, confirmed=False)),
            two(Page(105, 11), Page(58, 7), gained(8, 2)),
        ),
    ),
    Case(
        "late scores count in the look in which they arrive",
        (one(Page(100, 10)), one(Page(100, 10, late=4), gained(0, 0, late=4))),
    ),
)

TABLES = (
    Case(
        "samples from before the table was in effect are dropped",
        (
            two(Page(100, 10, generation=6), Page(50, 5, generation=6)),
            two(Page(110, 11, generation=7), Page(60, 6, generation=6), UNSETTLED),
            two(Page(120, 12), Page(70, 7), Seen()),
            two(Page(123, 13), Page(71, 7), gained(4, 1)),
        ),
    ),
    Case(
        "a look while the canary cannot be loaded is not settled",
        (one(Page(100, 10)), one(Page(150, 10, loaded=0), UNSETTLED), one(Page(151, 11), gained(1, 1))),
    ),
)


def triple_case(name: str, *triple: float) -> Case:
    """Stable's scores in one pod stand at (12, 6, 3) and become that; two requests more, one elsewhere."""
    return Case(
        f"an increment with {name} is dropped",
        (
            two(Page(12, 1), Page(5, 5)),
            two(
                Page(14, 1, scores=(triple[0], triple[1], triple[2])),
                Page(6, 5),
                Seen(
                    {"score": (Counts(0, 0, 0), Counts(1, 0.5, 0.25)), "errors": (Counts(0), Counts(3))},
                    (0, 3),
                    dropped=1,
                ),
            ),
            two(Page(14, 1, scores=triple_after(triple)), Page(6, 5), gained_scores_only()),
        ),
    )


def triple_after(triple: tuple[float, ...]) -> tuple[object, object, object]:
    """Two scores of 0.5 later."""
    return triple[0] + 2, triple[1] + 1, triple[2] + 0.5


def gained_scores_only() -> Seen:
    """The look after a dropped one goes on from there: nothing is counted twice."""
    return Seen({"score": (Counts(0, 0, 0), Counts(2, 1, 0.5)), "errors": (Counts(0), Counts(0))})


TRIPLES = (
    triple_case("a sum that fell", 14, 5, 3.5),
    triple_case("more sum than samples", 14, 9, 3.5),
    triple_case("more squares than sum", 14, 7, 5),
    triple_case("squares below what the sum needs", 14, 7.5, 3.1),
    triple_case("squares that fell", 14, 7, 2),
)

NUMBERS = tuple(
    Case(
        f"a sum of {value} is unmeasured and the next look covers it",
        (
            two(Page(100, 10), Page(50, 5)),
            two(
                Page(110, 11, scores=(110, value, 27.5)),
                Page(51, 5),
                unmeasured(f"{Metric.SCORE_SUM} is {float(value)}"),
            ),
            two(Page(112, 12), Page(52, 5), gained(14, 2)),
        ),
    )
    for value in ("NaN", "+Inf", "-Inf")
)

TWICE = f'{Metric.SCORE_SAMPLES}{{{{who}},source="metric",tenant="x"}} 4'

RELABELLED = f'{Metric.HTTP_REQUESTS}{{program="{PROGRAM}",revision='

SERIES = (
    Case(
        "a series that comes twice for a pod is unmeasured",
        (
            one(Page(100, 10)),
            one(
                Page(110, 11, more=(TWICE,)),
                unmeasured(f"{Metric.SCORE_SAMPLES} comes twice for the same pod"),
            ),
            one(Page(111, 12), gained(11, 2)),
        ),
    ),
    Case(
        "of a pair of scrapers one counts and the other takes over at zero",
        (
            paired(Page(100, 10), None, "one", "two"),
            paired(Page(110, 11), gained(10, 1), "one", "two"),
            paired(Page(115, 12), NOTHING, "two"),
            paired(Page(118, 13), gained(3, 1), "one", "two"),
        ),
    ),
    Case(
        "a series that a page drops and shows again is first sight",
        (
            two(Page(100, 10), Page(50, 5)),
            two(
                Page(110, 11, without=SCORES),
                Page(51, 6),
                Seen(
                    {
                        "score": (Counts(1, 0.5, 0.25), Counts(1, 0.5, 0.25)),
                        "errors": (Counts(2), Counts(11)),
                    },
                    (2, 11),
                ),
            ),
            two(
                Page(120, 12),
                Page(51, 6),
                Seen(
                    {"score": (Counts(0, 0, 0), Counts(0, 0, 0)), "errors": (Counts(1), Counts(10))}, (1, 10)
                ),
            ),
            two(Page(121, 13), Page(51, 6), gained(1, 1)),
        ),
    ),
    Case(
        "requests under another name are unmeasured by the old name",
        (
            one(Page(100, 10)),
            one(Page(110, 11, renamed=((Metric.HTTP_REQUESTS, "dspy_http_requests_v2_total"),)), NO_REQUESTS),
            one(Page(111, 12), gained(11, 2)),
        ),
    ),
    Case(
        "requests under another label are unmeasured by their name",
        (
            one(Page(100, 10)),
            one(Page(110, 11, renamed=((RELABELLED, RELABELLED.replace("revision", "rev")),)), NO_REQUESTS),
            one(Page(111, 12), gained(11, 2)),
        ),
    ),
    Case(
        "scores under another name are no scores",
        (
            one(Page(100, 10)),
            one(Page(110, 11, renamed=(("dspy_score_", "dspy_mark_"),)), only_errors(10, 1)),
        ),
    ),
)

CASES = (*RESETS, *PODS, *SCRAPES, *TABLES, *TRIPLES, *NUMBERS, *SERIES)
