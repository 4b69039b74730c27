"""A fixed small storm against everything that takes others' bytes; a million frames are benchmarks/fuzz.py."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

import pytest

from p2p.channel.hello import OPEN_MESSAGES
from p2p.protocol.message import Message
from p2p.protocol.messages import MESSAGES, encode
from p2p.protocol.model import BadMessage
from tests.fuzz.cores import KINDS, CoreStorm
from tests.fuzz.decoding import Decoding
from tests.fuzz.hostile import Hostile
from tests.fuzz.mutate import mutated
from tests.fuzz.shells import ANSWERS, QUESTIONS, reduce_storm, transfer_storm
from tests.fuzz.storm import Tally, footprint, storm
from tests.fuzz.wire import storm_on, victim

SEED = 2024


def outcomes(tally: Tally, name: str) -> set[str]:
    return {outcome.partition(": ")[2] for outcome in tally.outcomes if outcome.startswith(f"{name}: ")}


def test_nothing_that_reads_bytes_is_surprised(tmp_path: Path) -> None:
    decoding = Decoding(Random(SEED), tmp_path)
    tally = storm(decoding.targets(), 20_000, Tally())
    assert tally.findings == []
    assert {"taken", "refused"} <= outcomes(tally, "message")
    assert {"taken", "refused", "unfinished"} <= outcomes(tally, "frames")
    assert {"bad message", "refused: identity"} <= outcomes(tally, "handshake")
    assert outcomes(tally, "records on disk") >= {f"{count} of 4 records" for count in range(4)}


def test_live_cores_get_over_whatever_a_member_says() -> None:
    tally = storm(CoreStorm(Random(SEED)).targets(), 2_000, Tally())
    assert tally.findings == []
    said = outcomes(tally, "cores")
    refused = {outcome.partition(":")[0] for outcome in said}
    assert said >= {f"{kind.KIND} taken" for kind in KINDS}
    assert {f"{kind} refused" for kind in ("go", "part", "mean", "status")} <= refused


def test_a_reduce_gets_over_whatever_a_member_sends() -> None:
    tally = Tally()
    reduce_storm(Random(SEED), 600, tally)
    said = {outcome.partition(":")[0] for outcome in outcomes(tally, "reduce")}
    assert said >= {"go taken", "part taken", "part refused", "mean taken", "mean refused"}


def test_a_fetch_gets_over_whatever_a_donor_sends() -> None:
    tally = Tally()
    transfer_storm(Random(SEED), 400, tally)
    said = {outcome.partition(":")[0] for outcome in outcomes(tally, "transfer")}
    assert said >= {"chunk dropped", "get-chunk refused", "get-chunk taken", "records taken"}


def test_a_node_gets_over_whatever_comes(tmp_path: Path) -> None:
    tally = Tally()
    with victim(tmp_path / "log") as target:
        asyncio.run(storm_on(target, Random(SEED), 800, tally))
        reasons = target.facts()["reasons"]
    assert tally.frames >= 800
    assert {reason for reason in reasons if reason.startswith("peer_down: bad message: ")}
    assert all(reason.partition(": ")[2] for reason in reasons), "nobody is refused without a reason"


def test_every_message_is_sent_to_whoever_takes_it() -> None:
    assert {kind.KIND for kind in (*KINDS, *ANSWERS, *QUESTIONS)} == set(MESSAGES)


@pytest.mark.parametrize("kind", OPEN_MESSAGES.values(), ids=lambda kind: kind.KIND)
def test_hostile_messages_are_right_in_form_and_differ(kind: type[Message]) -> None:
    hostile, seen, malformed = Hostile(Random(SEED)), set[bytes](), 0
    for _ in range(100):
        message = hostile.message(kind)
        seen.add(encode(message))
        try:
            hostile.learn(kind.from_wire(tuple_of(message.to_wire())))
        except BadMessage:
            malformed += 1
    assert malformed <= 20, "nearly all get past the decoder"
    assert len(seen) > 5


def tuple_of(value: object) -> object:
    return tuple(tuple_of(item) for item in value) if isinstance(value, list | tuple) else value


def test_mutations_repeat_and_change() -> None:
    data = bytes(range(200))
    first, second = ([mutated(Random(seed), data, [data]) for seed in range(200)] for _ in range(2))
    assert first == second
    assert sum(one != data for one in first) > 180


def test_a_footprint_counts_what_is_held_and_stops_where_it_is_told() -> None:
    shared = [bytes(10_000)]
    one = {"own": bytes(5_000), "shared": shared}
    assert 15_000 < footprint(one) < 20_000
    assert 5_000 < footprint(one, (shared,)) < 8_000
