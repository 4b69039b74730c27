"""A report in a few lines, for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

BASELINES = {"alone": "one node alone", "alone_all_tokens": "one, all tokens", "data_parallel": "data parallel"}
"""What the fields of swarm.baseline.Baseline are called in summary and plot."""
MOST_FAULTS = 20
"""A summary lists so many; of more it gives the numbers."""


def summary(report: Mapping[str, Any]) -> list[str]:
    """The report in a few lines, for people."""
    numbers = report["totals"]
    asked = report["scenario"]["rounds"]
    lines = [
        f"rounds committed    {numbers['rounds']}{f' of {asked}' if asked else ''} in {numbers['seconds']:.0f} s",
        f"held-out loss       {_shown(numbers['held_out_loss_first'])} -> {_shown(numbers['held_out_loss_last'])} nats "
        "per token",
        f"bytes per parameter {_shown(numbers['bytes_per_param_per_round'])} sent by a member in a round "
        f"(payload alone: {_shown(numbers['expected_bytes_per_param'])}, {numbers['codec']})",
        f"utilisation         {_shown(numbers['utilisation'])} of the time spent training"
        + (f", MFU {100 * numbers['mfu']:.1f} %" if numbers["mfu"] is not None else ""),
        f"throughput          {numbers['tokens_per_second'] or 0:,.0f} tokens/s of all members together",
    ]
    for name, loss in report.get("baseline", {}).items():
        lines.append(f"{BASELINES[name]:<19} {loss:.3f} nats per token held out")
    lines += _faults(report["faults"])
    lines.append(
        f"stalls              {_shown(numbers['longest_stall_seconds'])} s without a new round at most, "
        f"{numbers['stalls_over_10_s']} times more than 10 s"
    )
    if "audit_summary" in report:
        lines.append(f"audit               {report['audit_summary']}")
    if not report["problems"]:
        lines.append("digests             theta and momentum identical on all members after every round")
    return lines + [f"PROBLEM             {problem}" for problem in report["problems"]]


def _faults(faults: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line each, or one for each kind where they are many."""
    if len(faults) > MOST_FAULTS:
        return [f"{kind:<19} {count} times" for kind, count in Counter(f["kind"] for f in faults).most_common()]
    return [f"{f['kind']:<19} {f['node']} after round {f['after_round']} ({f['seconds']} s)" for f in faults]


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
