"""A virtual node's outer state: digests of chunks in place of chunks, and what donors give of it."""

from __future__ import annotations

from collections.abc import Sequence

from p2p.protocol.holdings import EMPTY
from p2p.protocol.sizes import Sizes
from swarm.simulate.virtual.content import CHUNKS, GENESIS, root_of, stepped

KEEP_MEANS = 4


class VirtualStore:
    """As `swarm.outer_state.OuterState`, for content. A mean is the digest that stands for all of it."""

    def __init__(self, sizes: Sizes) -> None:
        """`sizes`: what each round moves."""
        self._sizes = sizes
        self._keep = KEEP_MEANS * len(sizes.fragments)
        self.rounds = [-1] * CHUNKS
        self.chunks = list(GENESIS)
        self.means: dict[int, bytes] = {}
        self.manifests: dict[int, Sequence[bytes]] = {}

    @property
    def round(self) -> int | None:
        """The round that all chunks are at; None while they differ."""
        rounds = set(self.rounds)
        return rounds.pop() if len(rounds) == 1 and EMPTY not in rounds else None

    def apply(self, mean: bytes | None, round: int) -> None:
        """The outer step of `round`, which all chunks must be one short of; None: a round without weight."""
        assert self.round == round - 1, (self.rounds, round)
        if mean is not None:
            self.means[round] = mean
            for old in sorted(self.means)[: -self._keep]:
                del self.means[old]
        for index in range(CHUNKS):
            self.chunks[index] = self.replayed(index, round, mean)
            self.rounds[index] = round

    def replayed(self, index: int, round: int, mean: bytes | None) -> bytes:
        """The chunk, now at round - 1, as the outer step of `round` leaves it."""
        assert self.rounds[index] == round - 1, (self.rounds[index], round)
        if mean is None or not self._sizes.moves(index, round):
            return self.chunks[index]
        return stepped(index, self.chunks[index], mean)

    def write(self, index: int, round: int, digest: bytes) -> None:
        self.chunks[index], self.rounds[index] = digest, round

    def forget_history(self) -> None:
        """The means and manifests kept are of records that the run has abandoned."""
        self.means.clear()
        self.manifests.clear()

    def root(self) -> bytes:
        """Root of the whole state, every chunk of which must be of one round."""
        round = self.round
        assert round is not None, "chunks of several rounds have no common root"
        chunks = tuple(self.chunks)
        self.manifests[round] = chunks
        for old in sorted(self.manifests)[: -self._keep - 1]:
            del self.manifests[old]
        return root_of(chunks)
