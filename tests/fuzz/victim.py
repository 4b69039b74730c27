"""A node in a process of its own, to be attacked: a real member, alone in its run, that commits round after round.

Prints its peer id and port, then, for each line it reads, what has happened, as JSON. It keeps counts only.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop

from p2p.chain_file import ChainFile
from tests.fuzz.storm import in_short
from tests.p2p.member_swarm import FINGERPRINT, MemberSwarm, Player


class Facts:
    """What the player told and did, counted and then forgotten."""

    def __init__(self, player: Player) -> None:
        self._player = player
        self._reasons = Counter[str]()
        self._rounds = 0

    def take(self) -> dict[str, object]:
        player = self._player
        assert player.playing is not None
        if player.playing.done():
            player.playing.result()
        for event, fields in player.notes:
            if event in ("peer_down", "refused", "refused_plan", "donor_dropped"):
                self._reasons[f"{event}: {in_short(str(fields['reason']))}"] += 1
        self._rounds += len(player.committed)
        player.notes.clear()
        player.outcomes.clear()
        player.fetched.clear()
        return {
            "reasons": self._reasons,
            "rounds": self._rounds,
            "links": len(player.mesh.peers()),
            "tasks": len(asyncio.all_tasks()),
        }


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def main() -> None:
    loop = asyncio.get_running_loop()
    with TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        swarm = MemberSwarm(pool, founders=1)
        chain = ChainFile(Path(folder) / "records", FINGERPRINT)
        player = await swarm.add(may_found=True, chain=chain)
        facts = Facts(player)
        _say(f"{player.contact.peer} {player.contact.addresses[0][1]}")
        while await loop.run_in_executor(None, sys.stdin.readline):
            _say(json.dumps(facts.take()))
        await swarm.stop(player)
        chain.close()


if __name__ == "__main__":
    uvloop.run(main())
