"""`swarm status` turns a node's word into a table or JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import msgpack
import pytest
from rich.console import Console

from p2p.channel.hello import Hello
from p2p.observe import Observation
from p2p.protocol.ballot import Ballot
from p2p.protocol.messages import Assignment, Ledger, Record, Seat, Segment, SignedRecord, Status
from swarm import status as status_module
from swarm.status import BadAddress, describe, parse_address, show_status, table

PEER = "12D3KooWDMQBiZnCJyaaEXxJCyKkjdCJZaUhS4YrCyTxp2SDcyf8"
OTHER = "12D3KooWR4fByffuYFqzqG6J6APa4sta78rktJjFN8RNMhJtetHw"

HELLO = Hello(
    version=1,
    peer=PEER,
    instance=b"i" * 8,
    secret=b"s" * 32,
    lost=b"",
    role="member",
    fingerprint=b"f" * 32,
    run=msgpack.packb({"name": "my [red]run", "model": "demo"}),
)
STATUS = Status(
    sequence=1,
    height=3,
    head=b"h" * 32,
    tokens_total=12_345,
    state_root=b"r" * 32,
    phase="training",
    inner_step=7,
    moved=0,
    promised=None,
    ready=None,
    vote=None,
    hears=(7, 1 << 31),
    silent=((OTHER, 4.25),),
    waiting_on=(),
)
RECORD = Record(
    round=3,
    previous=b"p" * 32,
    fingerprint=b"f" * 32,
    ballot=Ballot(round=3, attempt=0, rank=0, lineage=0),
    seats=(Seat(peer=PEER, tokens=5, used=()), Seat(peer=OTHER, tokens=0, used=())),
    codec="int8",
    piece=5,
    segments=(
        Segment(stop=5, contributors=b"\3", digest=b"d" * 32),
        Segment(stop=10, contributors=b"\3", digest=b"e" * 32),
    ),
    state_root=b"",
    tokens_total=12_345,
    ledger=Ledger(cursor=0, free=(), assigned=(Assignment(peer=PEER, ranges=()),)),
)
SEEN = Observation(HELLO, STATUS, SignedRecord(record=RECORD, signatures=()))


def printed(seen: Observation) -> str:
    console = Console(width=120, record=True, file=None)
    with console.capture() as capture:
        console.print(table("127.0.0.1:7400", describe(seen)))
    return capture.get()


def test_facts_are_plain_values() -> None:
    facts = json.loads(json.dumps(describe(SEEN)))
    assert facts["peer"] == PEER
    assert facts["run"] == "my [red]run"
    assert facts["round"] == 3
    assert facts["members"] == [
        {"peer": PEER, "tokens": 5, "weight": 5},
        {"peer": OTHER, "tokens": 0, "weight": 0},
    ]
    assert facts["next_view"] == [PEER]
    assert facts["silent"] == {OTHER: 4.2}


def test_the_table_says_what_matters_and_takes_a_name_for_a_name() -> None:
    text = printed(SEEN)
    for words in (PEER, "my [red]run (demo)", "training, inner step 7", "2, 1 of them in the mean; 1 next", "12,345"):
        assert words in text
    assert f"{OTHER} for 4.2 s" in text


def test_a_round_that_averaged_one_fragment_says_which() -> None:
    record = RECORD.model_copy(update={"fragments": 4})
    assert "3, fragment 4 of 4" in printed(replace(SEEN, record=SignedRecord(record=record, signatures=())))
    assert "fragment" not in printed(SEEN)


def test_a_node_before_its_first_record() -> None:
    early = STATUS.model_copy(update={"height": -1, "state_root": b"", "silent": ()})
    text = printed(Observation(HELLO, early, None))
    assert "none yet" in text
    assert "not held yet" in text


@pytest.mark.parametrize("run", [b"", b"\xc1", msgpack.packb([1, 2])])
def test_nonsense_about_the_run_is_left_out(run: bytes) -> None:
    assert describe(replace(SEEN, hello=HELLO.model_copy(update={"run": run})))["run"] is None


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("127.0.0.1:7400", "127.0.0.1", 7400), ("[::1]:1", "::1", 1), ("a.b:65535", "a.b", 65535)],
)
def test_addresses(text: str, host: str, port: int) -> None:
    assert parse_address(text) == (host, port)


@pytest.mark.parametrize("text", ["", "host", ":7400", "host:", "host:0", "host:65536", "::1:7400", "ho st:1"])
def test_bad_addresses_are_told_how_to_write_one(text: str) -> None:
    with pytest.raises(BadAddress, match="write HOST:PORT"):
        parse_address(text)


@pytest.mark.parametrize("as_json", [True, False])
def test_show_status(as_json: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    async def observe(host: str, port: int, seconds: float) -> Observation:
        assert (host, port) == ("127.0.0.1", 7400)
        return SEEN

    monkeypatch.setattr(status_module, "observe", observe)
    show_status("127.0.0.1:7400", as_json=as_json)
    out = capsys.readouterr().out
    assert (json.loads(out)["peer"] == PEER) if as_json else (PEER in out)
