"""The report of a simulation: what each round cost and gave, the totals, and everything that went wrong.

Totals are over rounds that trained (round 0 only forms the first view):

- bytes_per_param_per_round: mean over members and rounds of the bytes a member sent, at its sockets, as encrypted,
  per parameter; state sent to newcomers is not in it (see transfer_bytes_sent of each row).
- expected_bytes_per_param: the butterfly's payload for the same members and rounds, (N-1)/N * (C/N * p + m) / 8
  for N members of which C contribute: parts of p bits a value to N-1 owners from contributors, one N-th of the mean at
  m bits a value to N-1 others by all; an F-th of that where a round averages one of F fragments.
- longest_stall_seconds: the longest time between the first commits of two successive rounds, wherever they were.
- utilisation: the part of their time that members who trained spent training: training / (training + reduce + waiting),
  where the denominator is the whole time from commit to commit.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from swarm.events import Round
from swarm.simulate.board import Board
from swarm.simulate.injector import Done
from swarm.simulate.scenario import Scenario

ROW: tuple[str, ...] = (
    "round",
    "node",
    "loss",
    "tokens",
    "inner_steps",
    "train_seconds",
    "reduce_seconds",
    "round_seconds",
)
ROW += ("bytes_sent", "bytes_received", "transfer_bytes_sent", "contributors", "members")
ROW += ("record", "theta_digest", "momentum_digest")
LONG_STALL_SECONDS = 10.0


class Bits(NamedTuple):
    """Of a value on the wire."""

    part: float
    mean: float


def build_report(
    scenario: Scenario, board: Board, done: Iterable[Done], problems: list[str], params: int, bits: Bits
) -> dict[str, Any]:
    """The content of report.json. params: values of the flat vector; bits: of the codec."""
    rounds = sorted((event for view in board.nodes.values() for event in view.rounds), key=lambda e: (e.round, e.node))
    faults = faults_of(done)
    return {
        "rounds": [_row(event) for event in rounds],
        "totals": totals(board, rounds, scenario.run.codec, params, bits),
        "held_out": [{"round": number, "loss": loss} for number, loss in held_out(board).items()],
        "faults": faults,
        "problems": problems + check(scenario, board, faults),
        "scenario": {"nodes": scenario.nodes, "rounds": scenario.rounds, "run": scenario.run_config.model_dump()},
    }


def totals(board: Board, rounds: list[Round], codec: str, params: int, bits: Bits) -> dict[str, Any]:
    trained = [event for event in rounds if event.contributors]
    losses = list(held_out(board).values())
    return {
        "params": params,
        "codec": codec,
        "rounds": len({event.round for event in trained}),
        "seconds": round(board.seconds(), 1),
        "tokens": sum(event.tokens for event in trained),
        "tokens_per_second": tokens_per_second(trained),
        "mfu": _mean(event.mfu for event in trained if event.mfu is not None),
        "bytes_per_param_per_round": _mean((e.bytes_sent - e.transfer_bytes_sent) / params for e in trained),
        "expected_bytes_per_param": _mean(
            expected_bytes(len(e.members), e.contributors, bits) / e.fragments for e in trained
        ),
        "utilisation": utilisation(trained),
        "held_out_loss_first": losses[0] if losses else None,
        "held_out_loss_last": losses[-1] if losses else None,
        "longest_stall_seconds": round(max(board.stalls), 1) if board.stalls else None,
        "stalls_over_10_s": sum(seconds > LONG_STALL_SECONDS for seconds in board.stalls),
    }


def expected_bytes(members: int, contributors: int, bits: Bits) -> float:
    """Payload that the mean member sends in a round, bytes per parameter."""
    return (members - 1) / members * (contributors / members * bits.part + bits.mean) / 8


def tokens_per_second(rounds: Iterable[Round]) -> float | None:
    """Of all members together, by the time from commit to commit that the slowest of them saw."""
    tokens, seconds = 0, dict[int, float]()
    for event in rounds:
        tokens += event.tokens
        seconds[event.round] = max(seconds.get(event.round, 0.0), event.round_seconds)
    return tokens / sum(seconds.values()) if any(seconds.values()) else None


def utilisation(rounds: Iterable[Round]) -> float | None:
    """Training over all time, of the members that trained."""
    busy = total = 0.0
    for event in rounds:
        if event.inner_steps:
            busy += event.train_seconds
            total += max(event.round_seconds, event.train_seconds + event.reduce_seconds)
    return busy / total if total else None


def held_out(board: Board) -> dict[int, float]:
    """Held-out loss by round, in order; all members hold the same parameters, so one that told is enough."""
    losses: dict[int, float] = {}
    for view in board.nodes.values():
        for event in view.evaluations:
            losses.setdefault(event.round, event.held_out_loss)
    return dict(sorted(losses.items()))


def check(scenario: Scenario, board: Board, faults: Iterable[Mapping[str, Any]]) -> list[str]:
    """What must not happen and did: lost rounds, members that disagree, members without a round, absent newcomers."""
    told: dict[int, list[Round]] = defaultdict(list)
    for view in board.nodes.values():
        for event in view.rounds:
            told[event.round].append(event)
    names = {view.peer: view.name for view in board.nodes.values() if view.peer}
    disturbed = set(board.nodes) if scenario.partitions else {f["node"] for f in faults if f["kind"] != "join"}
    last = scenario.rounds or max(told, default=0)
    problems = [f"round {number} was lost: no node committed it" for number in range(1, last + 1) if number not in told]
    for number, events in sorted(told.items()):
        for group in _must_agree(events, board) if scenario.partitions else [events]:
            problems += _differences(number, group, names)
        if board.dismissed is None or number <= board.dismissed:
            missing = _silent(events, names) - disturbed
            problems += [f"round {number}: {name} was a member and did not commit it" for name in sorted(missing)]
    for fault in faults:
        name = fault["node"]
        if fault["kind"] == "join" and name not in disturbed and not any(e.tokens for e in board.nodes[name].rounds):
            problems.append(f"{name} joined after round {fault['after_round']} and never trained in a round")
    return problems


def _silent(events: list[Round], names: Mapping[str, str]) -> set[str]:
    """Members of a round that did not tell of it."""
    committed = {event.peer for event in events}
    return {names.get(peer, peer) for event in events for peer in event.members if peer not in committed}


def _must_agree(events: list[Round], board: Board) -> list[list[Round]]:
    """After a partition one side's rounds are dropped: whoever committed the same record must agree, and all those who
    did not fetch another state since."""
    by_record: dict[str, list[Round]] = defaultdict(list)
    for event in events:
        by_record[event.record].append(event)
    kept = {id(event) for view in board.nodes.values() for event in view.rounds[view.kept :]}
    return [*by_record.values(), [event for event in events if id(event) in kept]]


def _differences(number: int, events: Iterable[Round], names: Mapping[str, str]) -> list[str]:
    problems = []
    for field in ("record", "theta_digest", "momentum_digest"):
        holders: dict[str, set[str]] = defaultdict(set)
        for event in events:
            holders[getattr(event, field)].add(names.get(event.peer, event.peer))
        if len(holders) > 1:
            sides = " against ".join(f"{value[:8]} ({', '.join(sorted(who))})" for value, who in holders.items())
            problems.append(f"round {number}: {field} differs: {sides}")
    return problems


def faults_of(done: Iterable[Done]) -> list[dict[str, Any]]:
    """Who, what, after which round, when and, where it is known, for how long."""
    return [_fault(item) for item in done]


def _fault(done: Done) -> dict[str, Any]:
    after = done.round if done.fault.after_round is None else done.fault.after_round
    fault = {"kind": done.fault.kind, "node": done.node, "after_round": after, "seconds": round(done.seconds, 1)}
    return fault if done.fault.seconds is None else fault | {"lasting": round(done.fault.seconds, 1)}


def _row(event: Round) -> dict[str, Any]:
    row = {key: getattr(event, key) for key in ROW}
    row["members"] = len(event.members)
    if row["loss"] is not None and not math.isfinite(row["loss"]):
        row["loss"] = None  # JSON has no NaN
    return row


def _mean(values: Iterable[float]) -> float | None:
    numbers = list(values)
    return sum(numbers) / len(numbers) if numbers else None
