"""What the member notices becomes events, and hostile knocking does not become a full disk."""

from __future__ import annotations

from pathlib import Path

from swarm.events import Dead, DonorDropped, Event, EventLog, EventReader, Notice, Refused
from swarm.listener import EventListener

PEER = "12D3KooWDMQBiZnCJyaaEXxJCyKkjdCJZaUhS4YrCyTxp2SDcyf8"


class Heard:
    def __init__(self, folder: Path) -> None:
        self.now = 0.0
        self._reader = EventReader(folder / "events.jsonl")
        self.listener = EventListener(EventLog(folder / "events.jsonl", quiet=True), lambda: self.now)

    def new(self) -> list[Event]:
        return [event for _, event in self._reader.new()]


def test_a_note_becomes_the_event_of_its_name(tmp_path: Path) -> None:
    heard = Heard(tmp_path)
    heard.listener("dead", {"round": 3, "peer": PEER, "reason": "silent"})
    heard.listener("donor_dropped", {"peer": PEER, "reason": "lied"})
    assert heard.new() == [Dead(round=3, peer=PEER, reason="silent"), DonorDropped(peer=PEER, reason="lied")]


def test_knocking_again_and_again_is_told_once_a_minute(tmp_path: Path) -> None:
    heard = Heard(tmp_path)
    for second in range(100):
        heard.now = float(second)
        heard.listener("refused", {"peer": f"192.0.2.7:{second}", "reason": "no TLS"})
    assert heard.new() == [
        Refused(peer="192.0.2.7:0", reason="no TLS"),
        Refused(peer="192.0.2.7:60", reason="no TLS", times=60),
    ]


def test_a_crowd_is_told_in_part_and_counted(tmp_path: Path) -> None:
    heard = Heard(tmp_path)
    for number in range(1000):
        heard.listener("refused", {"peer": f"192.0.2.{number}:1", "reason": "no TLS"})
    assert len(heard.new()) < 100
    heard.now = 120.0
    heard.listener("refused", {"peer": PEER, "reason": "another run"})
    notice, refused = heard.new()
    assert isinstance(notice, Notice)
    assert "940 more refusals" in notice.message
    assert refused == Refused(peer=PEER, reason="another run")
