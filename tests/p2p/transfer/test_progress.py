"""What a node that is being given state can say of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

from p2p.protocol.holdings import EMPTY
from p2p.protocol.message import Message
from p2p.transfer.progress import FetchProgress
from tests.p2p.transfer.network import CHUNKS, COUNT, Network, Node, Swarm


async def test_progress_goes_from_nothing_to_all_chunks_while_a_fetch_goes_on() -> None:
    with ThreadPoolExecutor(2) as pool:
        swarm = Swarm(Network(), pool, 3)
        await swarm.start(2)
        node = Node(swarm.network, 7, pool, round=EMPTY)
        said: list[FetchProgress] = []

        def watch(_sender: str, _to: str, _message: Message) -> None:
            if (progress := node.transfer.progress) is not None:
                said.append(progress)

        swarm.network.watch = watch
        assert node.transfer.progress is None
        result = await node.transfer.fetch(swarm.sources)
        assert node.transfer.progress is None
        await swarm.close()
    assert said[0] == FetchProgress(chunks=0, current=0, of_chunks=CHUNKS, bytes=0, donors=0)
    assert all(before.chunks <= after.chunks and before.bytes <= after.bytes for before, after in pairwise(said))
    assert any(0 < progress.chunks < CHUNKS for progress in said)
    assert all(progress.current == progress.chunks for progress in said)
    assert max(progress.donors for progress in said) == len(result.donors) == 3
    assert 4 * COUNT < said[-1].bytes <= result.bytes


async def test_chunks_of_an_earlier_round_are_here_but_not_up_to_date() -> None:
    with ThreadPoolExecutor(2) as pool:
        swarm = Swarm(Network(), pool, 2)
        await swarm.start(1)
        node = Node(swarm.network, 7, pool, round=EMPTY)
        await node.transfer.fetch(swarm.sources)
        await swarm.commit()
        said: list[FetchProgress] = []

        def watch(_sender: str, _to: str, _message: Message) -> None:
            if (progress := node.transfer.progress) is not None:
                said.append(progress)

        swarm.network.watch = watch
        await node.transfer.fetch(swarm.sources)
        await swarm.close()
    assert {progress.chunks for progress in said} == {CHUNKS}
    assert said[0].current == 0
