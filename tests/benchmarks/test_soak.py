"""The soak's verdict: a leak is told from a number that swings."""

from __future__ import annotations

from random import Random

from benchmarks.soak import judge

ROUNDS = range(200)


def test_a_leak_is_found_under_noise() -> None:
    random = Random(0)
    leak = [(float(round), 300.0 + 0.1 * round + random.uniform(-5, 5)) for round in ROUNDS]
    _, problems = judge({("node0", "node", "memory MB"): leak})
    assert len(problems) == 1
    assert problems[0].startswith("memory MB of the node of node0 grows by ")


def test_what_swings_or_only_grows_at_the_start_is_flat() -> None:
    swings = [(float(round), 20.0 + round % 7) for round in ROUNDS]
    warms_up = [(float(round), min(300.0, 200.0 + 5 * round)) for round in ROUNDS]
    lines, problems = judge({("n0", "node", "tasks"): swings, ("n0", "node", "memory MB"): warms_up})
    assert problems == []
    assert len(lines) == 3
