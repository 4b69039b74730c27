"""What a simulation is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field

from p2p.protocol.pieces import PieceSize
from swarm.simulate.virtual.links import PROFILES, Profile


@dataclass(frozen=True)
class Settings:
    """One simulated swarm. Equal settings give equal events, to the last."""

    nodes: int = 64
    rounds: int = 3
    """Training rounds to commit; round 0 only forms the first view."""
    seed: int = 0
    faults: str = "none"
    links: str | None = None
    """None: as the seed has it."""
    min_peers: int | None = None
    """None: as the seed has it, 1 or more than half of the nodes."""
    train_seconds: float = 2.0
    blocks_per_node: int = 2
    pieces: PieceSize = field(default=PieceSize(smallest=1024, largest=1 << 20, per_span=1))
    vector_bytes: float = 1e7
    """Of everybody's codes on the wire: 10 million values at int8."""
    fragments: int = 1
    """In which the vector is cut: each round averages one of them."""
    quota: int = 8
    sample_tokens: int = 10
    short_share: float = 0.2
    """How often a member leaves some of its samples unused."""
    encoded: bool = False
    """Small messages and headers travel as bytes: slower, and every codec is tried."""

    @property
    def profile(self) -> Profile:
        return PROFILES[self.links or sorted(PROFILES)[self.seed % len(PROFILES)]]

    @property
    def quorum(self) -> int:
        """Members that a round needs."""
        if self.min_peers is not None:
            return self.min_peers
        return self.nodes // 2 + 1 if self.seed // len(PROFILES) % 3 == 0 else 1
