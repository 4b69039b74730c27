"""The loss plot of a simulation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swarm.simulate.summary import BASELINES

MARKS = {
    "join": "tab:green",
    "restart": "tab:olive",
    "leave": "tab:orange",
    "kill": "tab:red",
    "freeze": "tab:blue",
    "cut": "tab:purple",
    "heal": "tab:pink",
}
MOST_NAMED = 16
"""With more nodes or faults than this, their names would cover the plot."""
BASELINE_COLOURS = ("tab:brown", "tab:purple", "tab:blue")


def plot(report: Mapping[str, Any], path: Path) -> None:
    """Write a PNG: held-out loss and each node's training loss by round, with the faults marked."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # draws without a display
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    lines: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for row in report["rounds"]:
        if row["loss"] is not None:
            lines[row["node"]].append((row["round"], row["loss"]))
    for node, points in sorted(lines.items()):
        label = f"{node}, training" if len(lines) <= MOST_NAMED else None
        axes.plot(*zip(*points, strict=True), marker=".", linewidth=1, alpha=0.6, label=label)
    if report["held_out"]:
        points = [(point["round"], point["loss"]) for point in report["held_out"]]
        axes.plot(*zip(*points, strict=True), color="black", marker="o", linewidth=2, label="swarm, held out")
    for (name, loss), colour in zip(report.get("baseline", {}).items(), BASELINE_COLOURS, strict=False):
        axes.axhline(loss, color=colour, linestyle=":", label=f"{BASELINES[name]}, held out at the end")
    for fault in report["faults"]:
        axes.axvline(fault["after_round"], color=MARKS[fault["kind"]], linestyle="--", linewidth=1)
        text = f" {fault['node']}: {fault['kind']}" if len(report["faults"]) <= MOST_NAMED else ""
        axes.text(fault["after_round"], 0.98, text, rotation=90, va="top", transform=axes.get_xaxis_transform())
    axes.set(xlabel="round", ylabel="loss, nats per token", title="Swarm: loss by round")
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)
