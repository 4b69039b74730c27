"""Events survive the way through the file, and the file survives its reader and writer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from swarm.events import (
    EVENTS,
    Adopted,
    AnswerDropped,
    AskedForRecord,
    Attempt,
    Behind,
    Checkpoint,
    CheckpointRefused,
    Committed,
    Dead,
    DonorDropped,
    Doubted,
    Error,
    Evaluated,
    EventFile,
    EventLog,
    EventReader,
    Excluded,
    Fetching,
    Forgotten,
    HistoryReplaced,
    Left,
    Notice,
    PeerDown,
    PeerUp,
    RankLost,
    Ready,
    Reducing,
    Refused,
    RefusedMessage,
    RefusedPlan,
    Repaired,
    Resumed,
    Returned,
    Round,
    Started,
    StoodStill,
    Straggler,
    Superseded,
    Synced,
    Train,
    Unreachable,
    Uploaded,
    Voted,
    Waiting,
    names,
    parse,
)

PEER = "12D3KooWDMQBiZnCJyaaEXxJCyKkjdCJZaUhS4YrCyTxp2SDcyf8"
ROUND = Round(
    round=3,
    node="node1",
    peer=PEER,
    loss=2.5,
    tokens=4096,
    inner_steps=10,
    train_seconds=4.0,
    data_seconds=0.5,
    reduce_seconds=0.5,
    round_seconds=5.0,
    bytes_sent=2_000_000,
    bytes_received=1_900_000,
    contributors=3,
    members=(PEER, "b", "c", "d"),
    record="aa",
    theta_digest="bb",
    momentum_digest="cc",
    codec="int8",
    attempt=1,
)
ALL = [
    Started(peer=PEER, port=7400, bootstrap=("/ip4/127.0.0.1/tcp/1/p2p/x",)),
    Waiting(peers=1, min_peers=4),
    Fetching(chunks=3, current=2, of_chunks=40, bytes=25_000_000, donors=1),
    PeerUp(peer=PEER),
    PeerDown(peer=PEER, reason="closed"),
    Synced(round=-1, bytes=0, seconds=0.0, donors=0),
    DonorDropped(peer=PEER, reason="sent false bytes for chunk 3 of round 7"),
    Train(round=0, inner_step=3, loss=5.5),
    Reducing(round=0, attempt=0, coordinator=PEER, members=4),
    ROUND,
    Evaluated(round=3, held_out_loss=2.25),
    Checkpoint(round=10, path="/var/lib/swarm/checkpoints/round-00000010-SDcyf8", bytes=8_000_000, seconds=0.1),
    Uploaded(round=10, url="s3://bucket/run", seconds=2.0),
    CheckpointRefused(path="/var/lib/swarm/checkpoints/round-00000010-SDcyf8", reason="theta is damaged"),
    Resumed(round=10, path="/var/lib/swarm/checkpoints/round-00000010-SDcyf8", inner_steps=400),
    Refused(peer=PEER, reason="another run"),
    Attempt(round=3, attempt=1, reason="a member died"),
    Straggler(round=3, peer=PEER),
    Unreachable(peer=PEER, reason="connection refused"),
    Doubted(round=3, peer=PEER, reason="silent for 6.1 s", heard_by=("b", "c")),
    Dead(round=3, peer=PEER, reason="silent for 6.1 s, and nobody hears it"),
    Returned(round=3, peer=PEER, was="dead", seconds=4.0),
    Forgotten(peer=PEER),
    RankLost(rank=1, reason="was killed", restarts=0),
    AnswerDropped(peer=PEER, reason="it did not take its get-chunk answer within 120 s"),
    Ready(round=3, tokens=4096, samples=32),
    Voted(round=3, attempt=1, record="aa"),
    Committed(round=3, attempt=1, record="aa", members=(PEER, "b"), weights=(4096, 0), signatures=2),
    Superseded(round=3, attempt=1, peer=PEER),
    Repaired(round=3, attempt=1, lost=(PEER,), segments=5, values=1000, kept=750),
    Adopted(round=3, attempt=1, holders=("b", "c"), missing=("d",)),
    Excluded(round=3, peer=PEER, reason="gives no promise"),
    RefusedMessage(round=3, peer=PEER, message="prepare", reason="a lower ballot than promised"),
    StoodStill(round=3, seconds=12.0),
    AskedForRecord(round=3, peer=PEER),
    HistoryReplaced(after=2, records=3, peer=PEER),
    RefusedPlan(round=3, peer=PEER, reason="a newcomer has weight"),
    Behind(reason="round 4 was committed without us"),
    Notice(message="the DHT is slow"),
    Left(round=9),
    Error(message="disk full"),
]


PROGRESS = (Train, Ready, Reducing, Voted, Committed)
"""Events for which people at a node's terminal are not disturbed."""


def test_there_is_an_example_of_every_event() -> None:
    assert {event.EVENT for event in ALL} == set(EVENTS)


def test_a_reader_gets_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "events.jsonl"
    log = EventLog(path, quiet=True, clock=lambda: 12.5)
    for event in ALL:
        log.write(event)
    log.close()
    log.close()
    assert list(EventReader(path).new()) == [(12.5, event) for event in ALL]
    first = json.loads(path.read_text().splitlines()[0])
    assert first["event"] == "started"
    assert first["time"] == 12.5


def test_a_reader_follows_a_growing_file_and_leaves_a_half_line_for_later(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    reader = EventReader(path)
    assert list(reader.new()) == []
    path.write_text('{"time":1,"event":"left","round":1}\n{"time":2,"ev')
    assert list(reader.new()) == [(1.0, Left(round=1))]
    assert list(reader.new()) == []
    with path.open("a") as file:
        file.write('ent":"left","round":2}\n')
    assert list(reader.new()) == [(2.0, Left(round=2))]


@pytest.mark.parametrize(
    "line", ["", "[]", "3", '{"event":"left"}', '{"time":1,"event":"dance"}', '{"time":1,"event":"left","round":"x"}']
)
def test_unknown_lines_are_no_events(line: str) -> None:
    assert parse(line) is None


def test_unknown_fields_are_ignored() -> None:
    assert parse('{"time":1,"event":"left","round":4,"mood":"good"}') == (1.0, Left(round=4))


def test_a_restarted_node_appends(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for number in (1, 2):
        log = EventLog(path, quiet=True)
        log.write(Left(round=number))
        log.close()
    assert [event for _, event in EventReader(path).new()] == [Left(round=1), Left(round=2)]


def test_people_get_one_line_an_event_and_none_for_progress_within_a_round(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    for event in ALL:
        log.write(event)
    log.close()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == len(ALL) - len(PROGRESS)
    assert "round 3 committed: loss 2.500, 3 of 4 members in the mean" in captured.err
    assert "attempt 1" in captured.err
    assert all(bool(event.line()) != isinstance(event, PROGRESS) for event in ALL)


def test_quiet_means_quiet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = EventLog(tmp_path / "events.jsonl", quiet=True)
    log.write(Left(round=1))
    log.close()
    assert capsys.readouterr().err == ""


def test_a_file_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EventFile, match=r"cannot write events to .*--state-dir"):
        EventLog(tmp_path / "file" / "events.jsonl")


def test_lines_for_people() -> None:
    synced = Synced(round=4, bytes=8_000_000, seconds=1.5, donors=3)
    assert synced.line() == "state of round 4: 8.00 MB from 3 donors in 1.5 s"
    idle = ROUND.model_copy(update={"loss": None, "attempt": 0})
    assert "did not train" in idle.line()
    assert "attempt" not in idle.line()
    assert Repaired(round=3, attempt=1, lost=(), segments=5).line() == "round 3, attempt 1: repairs the last one"
    adopted = Adopted(round=3, attempt=1, holders=("b", "c"), missing=())
    assert adopted.line() == "round 3, attempt 1: adopts what b and c voted for"
    assert names(()) == "nobody"
    assert names(("peer-a", "peer-b", "peer-c")) == "peer-a, peer-b and peer-c"


def test_words_of_peers_do_not_reach_the_terminal_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log.write(PeerDown(peer=PEER, reason="bye\x1b[2J\nfake line"))
    assert capsys.readouterr().err.splitlines()[0].endswith("is down: bye?[2J?fake line")
    ((_, event),) = EventReader(tmp_path / "events.jsonl").new()
    assert event == PeerDown(peer=PEER, reason="bye\x1b[2J\nfake line"), "the file has them as they were"
