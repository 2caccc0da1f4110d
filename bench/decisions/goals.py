"""The goals that the judge is held to, and whether they were reached."""

from collections.abc import Iterator
from dataclasses import dataclass

from bench.decisions.grid import Cell, LongRun, Tuned
from bench.decisions.results import Results
from bench.decisions.rivals import ARGO, OURS, STEPPED
from bench.decisions.rollouts import Outcome

TWO_ROWS = f"{OURS}, 2 rows"


@dataclass(frozen=True)
class Goal:
    """`limit` is the most that `measured` may be, or the least."""

    name: str
    limit: float
    measured: float
    is_most: bool = True

    @property
    def is_reached(self) -> bool:
        """Equality reaches it; a rounding error is no miss."""
        slack = 1e-9
        return self.measured <= self.limit + slack if self.is_most else self.measured >= self.limit - slack


def list_goals(results: Results) -> list[Goal]:
    """Every goal, in the order of the documentation."""
    return [
        *_list_grid(results),
        *_list_tuned(results),
        *_list_long(results.long),
        *_list_whole(results.whole),
        *_list_late(results),
        *_list_scenarios(results),
        *_list_plan(results),
        *_list_traffic(results),
        Goal("verdicts that a restart leaves as they were", 1.0, results.replayed, is_most=False),
    ]


def _list_grid(results: Results) -> Iterator[Goal]:
    ours = [cell for cell in results.cells if cell.rule == OURS]
    at = {drop: [cell for cell in ours if cell.drop == drop] for drop in (0.0, 0.02, 0.1)}
    yield Goal("rolled back at -2 %, worst cell", 0.05, max(cell.rolled_back for cell in at[0.02]))
    yield Goal("rolled back at 0 %, worst cell", 0.01, max(cell.rolled_back for cell in at[0.0]))
    argo = [cell for cell in results.cells if cell.rule == ARGO and cell.drop == 0]
    fewer = min(theirs.rolled_back / floor(cell) for theirs, cell in zip(argo, at[0.0], strict=True))
    yield Goal("failureLimit's false roll-backs / ours, worst cell", 100, fewer, is_most=False)
    yield Goal("promoted at -10 %, worst cell", 0.01, max(cell.promoted for cell in at[0.1]))
    for rule, laws, limit in (
        (OURS, {"thumbs", "five-point", "skewed"}, 2.2),
        (OURS, {"judge"}, 3.5),
        (TWO_ROWS, {"thumbs", "five-point"}, 2.2),
    ):
        ratios = [
            cell.mean_samples / cell.wald
            for cell in results.cells
            if cell.rule == rule and cell.law in laws and cell.drop == 0.1 and cell.wald
        ]
        yield Goal(f"mean samples / Wald at -10 %, {rule}: {', '.join(sorted(laws))}", limit, max(ratios))


def floor(cell: Cell | LongRun) -> float:
    """Its false roll-backs, at least one in all runs: a rule without any is not infinitely better."""
    return max(cell.rolled_back, 1 / cell.runs)


def get_shared_setting(tuned: list[Tuned], rule: str) -> int:
    """The one setting of a rule that is careful enough in every cell: nobody knows the law in advance."""
    return max(cell.setting for cell in tuned if cell.rule == rule)


def _list_tuned(results: Results) -> Iterator[Goal]:
    for rule, limits in (("literal, minSamples", (2.0, 4.0)), ("failureLimit", (2.5, 8.0))):
        setting = get_shared_setting(results.tuned, rule)
        ratios = [cell.get_ratios(setting) for cell in results.tuned if cell.rule == rule]
        for column, drop in enumerate((10, 20)):
            name = f"{rule} {setting}, at most 5 % at -2 % in every cell: samples / ours at -{drop} %, worst cell"
            yield Goal(name, limits[column], min(ratio[column] for ratio in ratios), is_most=False)


def _list_long(runs: list[LongRun]) -> Iterator[Goal]:
    ours = [run for run in runs if run.rule == OURS]
    argo = [run for run in runs if run.rule == ARGO]
    looks = ours[0].looks
    yield Goal(f"rolled back at 0 % in {looks:,} looks, worst law", 0.01, max(r.rolled_back for r in ours))
    fewer = min(theirs.rolled_back / floor(mine) for theirs, mine in zip(argo, ours, strict=True))
    yield Goal(f"failureLimit's false roll-backs / ours in {looks:,} looks", 100, fewer, is_most=False)


STATED = {
    ("thumbs", 600): (0.037, 0.146, 0.018, 0.0),
    ("thumbs", 1500): (0.003, 0.052, 0.002, 0.0),
    ("five-point", 600): (0.010, 0.078, 0.004, 0.0),
    ("five-point", 1500): (0.001, 0.020, 0.001, 0.0),
}
"""Of whole rollouts: rolled back at 0 and -2 %, promoted at -10 and -20 %."""


def get_stated(outcome: Outcome) -> tuple[float, float]:
    """(stated, measured) share of the wrong end."""
    drop = outcome.course.drops[0]
    column = (0.0, 0.02, 0.10, 0.20).index(drop)
    stated = STATED[outcome.course.law, outcome.course.deadline][column]
    return stated, outcome.rolled_back if drop <= 0.02 else outcome.promoted


def _list_whole(outcomes: list[Outcome]) -> Iterator[Goal]:
    differences = [abs(stated - measured) for stated, measured in map(get_stated, outcomes)]
    yield Goal("whole rollouts: farthest from the stated share of wrong ends", 0.01, max(differences))
    bad = [outcome for outcome in outcomes if outcome.course.drops[0] >= 0.1]
    wrong = max(outcome.promoted_by_evidence for outcome in bad)
    yield Goal("whole rollouts: -10 % or worse promoted on evidence", 0.01, wrong)


def _list_late(results: Results) -> Iterator[Goal]:
    wrong = max(outcome.promoted for outcome in results.late if outcome.course.late == 0)
    yield Goal("good for 600 samples, bad from the second step on: promoted", 0.01, wrong)


def _list_scenarios(results: Results) -> Iterator[Goal]:
    ours = [outage for outage in results.outages if outage.rule == STEPPED]
    false = max(outage.rolled_back for outage in ours if outage.drop == 0)
    masked = max(outage.promoted for outage in ours if outage.drop > 0)
    yield Goal("outage and split change: equal canary rolled back", 0.01, false)
    yield Goal("outage and split change: -10 % promoted", 0.01, masked)
    yield Goal("samples until an all-zero canary falls", 60, max(results.dead.values()))
    shared = [latency for latency in results.latencies if 1 <= latency.canary / latency.stable <= 1.2]
    twice = [latency for latency in results.latencies if latency.canary / latency.stable == 2]
    slowed = [latency.rolled_back for latency in shared if latency.stable == 2]
    yield Goal("latency: rolled back although the provider slows both x 2", 0.0, max(slowed))
    looks = max(float(latency.looks_to_roll_back or 1e9) for latency in twice)
    yield Goal("latency: looks until a canary x 2 is rolled back", 4, looks)
    errors = {rate.points: rate for rate in results.errors}
    yield Goal("error rate: equal canary rolled back", 0.01, errors[0.0].rolled_back)
    yield Goal(
        "error rate: requests until +5 points are rolled back", 250, errors[0.05].requests_to_roll_back or 1e9
    )
    right = next(split for split in results.splits if split.share == 0.1)
    wrong = next(split for split in results.splits if split.share == 0.13)
    yield Goal("split as the table says: alarmed", 0.002, right.alarmed)
    yield Goal("13 % instead of 10 %: requests until half alarmed", 2500, wrong.median_requests or 1e9)


def _list_plan(results: Results) -> Iterator[Goal]:
    judged = [f.ratio for f in results.forecasts if f.law == "judge" and f.verdict == "RollBack"]
    others = [f.ratio for f in results.forecasts if not (f.law == "judge" and f.verdict == "RollBack")]
    yield Goal("plan: measured mean / planned, least", 0.7, min(others), is_most=False)
    yield Goal("plan: measured mean / planned, most", 1.3, max(others))
    yield Goal("plan: the same, grades rolled back, least", 0.35, min(judged), is_most=False)


def _list_traffic(results: Results) -> Iterator[Goal]:
    good = max(traffic.rolled_back for traffic in results.traffic if traffic.drop == 0)
    bad = max(traffic.promoted for traffic in results.traffic if traffic.drop > 0)
    yield Goal("20 an hour to 600 a minute: equal canary rolled back", 0.05, good)
    yield Goal("20 an hour to 600 a minute: -10 % promoted", 0.05, bad)
