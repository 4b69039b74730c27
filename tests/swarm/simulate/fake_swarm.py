"""Stands in for the `swarm` command in tests of the orchestrator: a node that writes events and trains nothing.

    python fake_swarm.py FOLDER bootstrap|node OPTIONS

All fake nodes share the memory that FOLDER is: rounds are committed in lockstep by the numbers that founders write to
it, and FOLDER/trouble.json says which node misbehaves, how and when: {"node1": {"kind": "dies", "round": 2}}.
"""

from __future__ import annotations

import json
import signal
import sys
import time
import tomllib
from pathlib import Path

from swarm.events import Error, Evaluated, EventLog, Left, PeerUp, Round, Started, Synced, Train

ROUND_SECONDS = 0.15


def main() -> None:
    shared, command, *options = Path(sys.argv[1]), *sys.argv[2:]
    given = dict(zip(options[::2], options[1::2], strict=True))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if command == "bootstrap":
        bootstrap(shared)
    Fake(shared, tomllib.loads(Path(given["--config"]).read_text())).live()


def bootstrap(shared: Path) -> None:
    if (shared / "no-bootstrap").exists():
        sys.exit("no luck today")
    (shared / "pids").mkdir(exist_ok=True)
    sys.stdout.write("/ip4/127.0.0.1/tcp/1/p2p/12D3KooWDMQBiZnCJyaaEXxJCyKkjdCJZaUhS4YrCyTxp2SDcyf8\n")
    sys.stdout.flush()
    while True:
        signal.pause()


class Fake:
    def __init__(self, shared: Path, config: dict[str, dict[str, object]]) -> None:
        self.shared, self.node, self.run = shared, config["node"], config["run"]
        self.name = str(self.node["name"])
        trouble = shared / "trouble.json"
        self.trouble = json.loads(trouble.read_text()).get(self.name, {}) if trouble.exists() else {}
        self.log = EventLog(Path(str(self.node["state_dir"])) / "events.jsonl", quiet=True)
        self.members = shared / "members"
        self.members.mkdir(exist_ok=True)
        self.last = int(str(self.node.get("rounds", 1 << 30)))

    def live(self) -> None:
        self.log.write(Started(peer=self.name, port=1, bootstrap=()))
        begin = self._join()
        for number in range(begin, self.last + 1):
            self._misbehave(number)
            self._wait_for(number)
            self._round(number, newcomer=number == begin and begin > 1)
        self.log.write(Left(round=self.last))

    def _join(self) -> int:
        """The first round we take part in: founders wait for each other, newcomers enter the next round."""
        founder = bool(self.node["found"])
        clock = self.shared / "clock"
        begin = 1 if founder else int(clock.read_text()) + 2
        self.log.write(Synced(round=begin - 1, bytes=0 if founder else 1000, seconds=0.1, donors=0 if founder else 2))
        (self.members / self.name).write_text(str(begin))
        while founder and len(list(self.members.iterdir())) < int(str(self.run["founders"])):
            time.sleep(0.01)
        for peer in self._present(begin):
            if peer != self.name:
                self.log.write(PeerUp(peer=peer))
        return begin

    def _wait_for(self, number: int) -> None:
        """Rounds follow one another at a pace that all can read from the clock file."""
        started = self.shared / "started"
        if not started.exists():
            started.write_text(str(time.time()))
        while time.time() < float(started.read_text() or time.time()) + number * ROUND_SECONDS:
            time.sleep(0.01)
        fresh = self.shared / f"clock-{self.name}"
        fresh.write_text(str(number))
        fresh.replace(self.shared / "clock")  # whole at every moment, for those who join

    def _present(self, number: int) -> list[str]:
        return sorted(path.name for path in self.members.iterdir() if int(path.read_text() or 99) <= number)

    def _round(self, number: int, newcomer: bool) -> None:
        self.log.write(Train(round=number, inner_step=int(str(self.run["inner_steps"])), loss=5.0 / number))
        members = [self.name] if self.trouble else [n for n in self._present(number) if n == self.name or n == "node0"]
        odd = self.trouble.get("kind") == "disagrees" and self.trouble["round"] == number
        event = Round(
            round=number,
            node=self.name,
            peer=self.name,
            loss=None if newcomer else 5.0 / number,
            tokens=0 if newcomer else 640,
            inner_steps=0 if newcomer else 10,
            train_seconds=0.1,
            reduce_seconds=0.02,
            round_seconds=ROUND_SECONDS,
            bytes_sent=1000,
            bytes_received=1000,
            contributors=len(members),
            members=tuple(members),
            record=f"{number:02x}",
            theta_digest="ff" if odd else f"{number:02x}",
            momentum_digest=f"{number:02x}",
            codec="int8",
            attempt=0,
        )
        self.log.write(event)
        if self.name == "node0":
            self.log.write(Evaluated(round=number, held_out_loss=5.5 / number))

    def _misbehave(self, number: int) -> None:
        if self.trouble.get("round") != number:
            return
        match self.trouble["kind"]:
            case "dies":
                self.log.write(Error(message="out of luck"))
                sys.exit("node: something is broken")
            case "silent":
                while True:
                    signal.pause()
            case "stubborn":
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                while True:
                    signal.pause()


main()
