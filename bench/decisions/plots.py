"""Two figures: how soon a worse canary falls, and how many equal ones fall while one keeps looking."""

from pathlib import Path

import matplotlib as mpl
from bench.decisions.results import Results
from bench.decisions.rivals import OURS
from matplotlib.figure import Figure

SIZE = (8.0, 4.5)


def draw_plots(results: Results, folder: Path) -> list[Path]:
    """`detection.svg` and `false-rollbacks.svg`, the same bytes for the same figures."""
    mpl.rcParams["svg.hashsalt"] = "decisions"
    paths = []
    for name, figure in (
        ("detection.svg", draw_detection(results)),
        ("false-rollbacks.svg", draw_false_rollbacks(results)),
    ):
        path = folder / name
        figure.savefig(path, format="svg", metadata={"Date": None})
        paths.append(path)
    return paths


def draw_detection(results: Results) -> Figure:
    """Share of canaries rolled back over their samples: a line a drop for this judge, dashed ones for rivals."""
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    for index, (drop, curves) in enumerate(sorted(results.curves.items())):
        for rule, curve in curves.items():
            if rule != OURS and drop not in {0.0, 0.1}:
                continue
            style = "-" if rule == OURS else {"failureLimit 3": "--", "t-test": ":"}.get(rule, "-.")
            samples = [20 * (look + 1) for look in range(len(curve))]
            label = f"{rule}, {-100 * drop:.0f} %" if drop else f"{rule}, equal"
            axes.plot(samples, curve, style, color=f"C{index}", label=label, linewidth=1.2)
    axes.set(xlabel="canary's thumbs (20 a look, 180 of stable)", ylabel="rolled back", ylim=(0, 1.02))
    axes.legend(fontsize=7, loc="center right")
    return figure


def draw_false_rollbacks(results: Results) -> Figure:
    """Share of equal canaries rolled back over looks, thumbs."""
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    for run in (run for run in results.long if run.law == "thumbs"):
        axes.plot(list(run.curve), list(run.curve.values()), label=run.rule, linewidth=1.2)
    axes.axhline(0.05, color="grey", linewidth=0.8, linestyle=":")
    axes.set(
        xlabel="looks of 20 + 180 thumbs", ylabel="equal canaries rolled back", xscale="log", ylim=(0, 1.5)
    )
    axes.set_yscale("symlog", linthresh=0.001)
    axes.legend(fontsize=8)
    return figure
