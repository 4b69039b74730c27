"""A mesh with a reducer behind it, as benchmarks and tests of the reduce want it: real links, and no rounds."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from ops.codec import Codec
from p2p.channel.hello import Hello, RunIdentity
from p2p.channel.mesh import Mesh
from p2p.identity import Identity
from p2p.protocol.message import Message
from p2p.protocol.messages import Go, Mean, Part
from p2p.reduce.reducer import Reducer
from swarm.outer_state import KEEP_MEANS

FINGERPRINT = bytes(32)


class ReduceNode:
    """A MeshHandler."""

    def __init__(self, codec: Codec, count: int, pool: ThreadPoolExecutor, lanes: int = 1) -> None:
        """count: values of the vector."""
        self.codec, self.count = codec, count
        self.identity = Identity.generate()
        self.name = self.identity.peer_id
        self.mesh = Mesh(self.identity, RunIdentity(FINGERPRINT), self, bulk_lanes=lanes)
        # memory for means is made ready as a node does it
        self.reducer = Reducer(codec, count, self.name, self.mesh, pool, held=[count] * KEEP_MEANS)

    def open_payload(self, peer: str, message: Message, size: int) -> Sequence[memoryview] | None:
        assert isinstance(message, Part | Mean)
        return self.reducer.open_payload(peer, message, size)

    def on_message(self, peer: str, message: Message, payload: Sequence[memoryview] | None) -> None:
        if isinstance(message, Go):
            self.reducer.on_go(peer, message)
        else:
            assert isinstance(message, Part | Mean)
            self.reducer.on_payload(peer, message, payload)

    def on_link_up(self, peer: str, _hello: Hello) -> None:
        self.reducer.on_link_up(peer)

    def on_link_down(self, peer: str, _reason: str) -> None:
        self.reducer.on_link_down(peer)

    def on_unreachable(self, _peer: str, _reason: str) -> None:
        """Whom the benchmark or test has killed."""

    def on_refused(self, peer: str, reason: str) -> None:
        raise AssertionError(f"{peer}: {reason}")
