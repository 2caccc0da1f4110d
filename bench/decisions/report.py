"""The tables, as Markdown: what is printed here is what the documentation quotes."""

from collections.abc import Iterable, Iterator, Sequence

from bench.decisions.goals import Goal, get_shared_setting, get_stated
from bench.decisions.grid import Cell
from bench.decisions.results import Results


def say(share: float) -> str:
    """Two digits below 10 %, whole numbers above, 99.6 % not as 100."""
    percent = 100 * share
    if percent > 99 and share < 1:
        return f"{min(percent, 99.99):.4g} %"
    return f"{percent:.0f} %" if percent >= 9.95 or percent == 0 else f"{percent:.2g} %"


def count(number: float | None) -> str:
    return "-" if number is None else f"{number:,.0f}"


def build_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """One Markdown table."""
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def list_tables(results: Results) -> Iterator[tuple[str, str]]:
    """(title, table), in the order of the documentation."""
    yield from _list_grid(results)
    yield "Rules made as careful as this judge (at most 5 % at -2 %)", _build_tuned(results)
    yield "An equal canary whose trial never ends", _build_long(results)
    yield "Whole rollouts", _build_whole(results)
    yield "Late regressions (thumbs, 1,500 samples)", _build_late(results)
    yield "An outage of the LM while the split changes (thumbs)", _build_outages(results)
    yield "Latency, limit +20 %", _build_latencies(results)
    yield "Error rate, 1 % of stable's requests, limit +1 point", _build_errors(results)
    yield "Users who say the same several times (thumbs, 10/90)", _build_clusters(results)
    yield "A split that is not the table's (10 % expected)", _build_splits(results)
    yield "What `plan` says and what happens", _build_forecasts(results)
    yield "Traffic (thumbs, on evidence alone)", _build_traffic(results)


def _list_grid(results: Results) -> Iterator[tuple[str, str]]:
    head = (
        "rule", "rolled back: 0", "-2 %", "-5 %", "promoted: 0", "-10 %",
        "median samples to roll back: -10 %", "-20 %", "mean / Wald at -10 %",
    )  # fmt: skip
    for law, split in dict.fromkeys((cell.law, cell.split) for cell in results.cells):
        cells = [cell for cell in results.cells if (cell.law, cell.split) == (law, split)]
        rules = dict.fromkeys(cell.rule for cell in cells)
        rows = [_build_row(rule, {cell.drop: cell for cell in cells if cell.rule == rule}) for rule in rules]
        yield f"{law}, {split}", build_table(head, rows)


def _build_row(rule: str, at: dict[float, Cell]) -> list[str]:
    wald = at[0.1].mean_samples / (at[0.1].wald or 1)
    return [
        rule,
        *(say(at[drop].rolled_back) for drop in (0.0, 0.02, 0.05)),
        say(at[0.0].promoted),
        say(at[0.1].promoted),
        count(at[0.1].median_samples),
        count(at[0.2].median_samples),
        f"{wald:.2f}",
    ]


def _build_tuned(results: Results) -> str:
    rows = []
    for cell in results.tuned:
        shared = get_shared_setting(results.tuned, cell.rule)
        (own_10, own_20), (all_10, all_20) = cell.get_ratios(cell.setting), cell.get_ratios(shared)
        own, every = f"{own_10:.1f} / {own_20:.1f}", f"{all_10:.1f} / {all_20:.1f}"
        rows.append((cell.rule, cell.law, cell.split, count(cell.setting), own, count(shared), every))
    head = (
        "rule", "law", "split", "set for this cell", "median samples / ours at -10 / -20 %",
        "set for all cells", "median samples / ours at -10 / -20 %",
    )  # fmt: skip
    return build_table(head, sorted(rows))


def _build_long(results: Results) -> str:
    marks = [mark for mark in (100, 1000, 6000) if mark <= results.long[0].looks] or [results.long[0].looks]
    rows = [
        (run.law, run.rule, *(say(run.curve.get(mark, run.rolled_back)) for mark in marks))
        for run in results.long
    ]
    return build_table(("law", "rule", *(f"rolled back by look {mark:,}" for mark in marks)), rows)


def _build_whole(results: Results) -> str:
    rows = []
    for outcome in results.whole:
        course, (stated, _) = outcome.course, get_stated(outcome)
        end = "rolled back" if course.drops[0] <= 0.02 else "promoted"
        rows.append((
            course.law, count(course.deadline), say(course.drops[0]),
            f"{say(outcome.rolled_back)} ({say(outcome.rolled_back_by_evidence)})",
            f"{say(outcome.promoted)} ({say(outcome.promoted_by_evidence)})",
            f"{end} {say(stated)}", count(outcome.median_samples),
        ))  # fmt: skip
    head = (
        "law", "deadline, samples at 50 %", "drop", "rolled back (on evidence)", "promoted (on evidence)",
        "stated", "median samples",
    )  # fmt: skip
    return build_table(head, rows)


def _build_late(results: Results) -> str:
    rows = [
        (
            f"good for {o.course.gate} samples at 10 % and {o.course.late} at 50 %",
            say(o.course.drops[1]),
            say(o.promoted),
            say(o.promoted_by_evidence),
            count(o.median_samples),
        )
        for o in results.late
    ]
    return build_table(("canary", "then worse by", "promoted", "on evidence", "median samples"), rows)


def _build_outages(results: Results) -> str:
    found: dict[tuple[str, str], dict[float, tuple[float, float]]] = {}
    for outage in results.outages:
        ends = (outage.rolled_back, outage.promoted)
        found.setdefault((outage.rule, outage.order), {})[outage.drop] = ends
    rows = [(rule, order, say(at[0.0][0]), say(at[0.1][1])) for (rule, order), at in found.items()]
    return build_table(("rule", "the outage", "equal canary rolled back", "-10 % promoted"), sorted(rows))


def _build_latencies(results: Results) -> str:
    rows = [
        (
            f"x {latency.canary:g}",
            f"x {latency.stable:g}",
            say(latency.rolled_back),
            say(latency.absolute_alone),
            say(latency.promoted),
            count(latency.looks_to_roll_back),
            count(latency.looks_to_promote),
        )
        for latency in results.latencies
    ]
    head = (
        "canary", "stable", "rolled back", "absolute test alone", "promoted",
        "looks to roll back", "to promote",
    )  # fmt: skip
    return build_table(head, rows)


def _build_errors(results: Results) -> str:
    rows = [
        (
            f"+{100 * e.points:g} points",
            say(e.rolled_back),
            say(e.promoted),
            count(e.requests_to_roll_back),
            count(e.requests_to_promote),
        )
        for e in results.errors
    ]
    head = ("canary", "rolled back", "promoted", "requests to roll back", "to promote")
    return build_table(head, rows)


def _build_clusters(results: Results) -> str:
    rows = [
        (
            count(c.size),
            say(c.drop),
            say(c.with_dispersion),
            say(c.without),
            f"{c.mean_dispersion:.2f}",
        )
        for c in results.clusters
    ]
    return build_table(("scores a user", "drop", "rolled back", "without m̂", "mean m̂ after 100 looks"), rows)


def _build_splits(results: Results) -> str:
    rows = [
        (say(s.share), count(s.requests), say(s.alarmed), count(s.median_requests)) for s in results.splits
    ]
    return build_table(("canary's true share", "requests", "alarmed", "half alarmed after requests"), rows)


def _build_forecasts(results: Results) -> str:
    rows = [
        (f.law, f.split, f.verdict, count(f.planned), count(f.measured), f"{f.ratio:.2f}")
        for f in results.forecasts
    ]
    return build_table(("law", "split", "verdict", "planned samples", "measured mean", "ratio"), rows)


def _build_traffic(results: Results) -> str:
    rows = [
        (
            f"{t.requests_per_hour:,.0f}",
            f"{t.weight} %",
            say(t.drop),
            f"{t.hours:g}",
            say(t.rolled_back),
            say(t.promoted),
            "-" if t.median_hours is None else f"{t.median_hours:.2g}",
            say(t.unpaired),
        )
        for t in results.traffic
    ]
    head = (
        "requests an hour", "weight", "drop", "hours watched", "rolled back", "promoted",
        "median hours to a verdict", "canary's samples without a partner",
    )  # fmt: skip
    return build_table(head, rows)


def build_goal_line(goal: Goal) -> str:
    """'reached', or 'MISSED', the goal, its limit, what was measured."""
    word = "reached" if goal.is_reached else "MISSED "
    sign = "at most" if goal.is_most else "at least"
    return f"{word}  {goal.name}, {sign} {goal.limit:g}: {goal.measured:.4g}"
