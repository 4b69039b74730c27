"""The state that members share, as state transfer sees it: chunks, each of one round, behind an interface.

Chunk i is theta of values [i * chunk_values, ...) as fp32 bytes, then the outer momentum of the same values. Its digest
is BLAKE3 of theta's digest and momentum's digest: so the chunk's digest and those of the two vectors cost one pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ops.codec import Codec, Encoded
from ops.digest import Buffer, digest, root
from p2p.protocol.fragments import Fragments

CHUNK_VALUES = 1 << 18
"""2 MiB a chunk: long enough for a fast link, short enough to spread over donors and to give way to a reduce. Equal for
all: roots depend on it."""
VALUE_BYTES = 8
"""theta and momentum of one value."""


def part_digests(chunk: bytes | bytearray | memoryview) -> tuple[bytes, bytes]:
    """The digests of theta and of momentum in a chunk."""
    view = memoryview(chunk).cast("B")
    half = len(view) // 2
    return digest(view[:half]), digest(view[half:])


def chunk_digest(parts: tuple[bytes, bytes]) -> bytes:
    """A chunk's digest from its `part_digests`."""
    return digest(*parts)


@dataclass(frozen=True, slots=True)
class StateDigests:
    """All that is said of a whole state; 32 bytes each. Equal on two members if and only if their states are."""

    round: int
    chunks: tuple[bytes, ...]
    root: bytes
    theta: bytes
    momentum: bytes

    @classmethod
    def of(cls, round: int, parts: Sequence[tuple[bytes, bytes]]) -> StateDigests:
        """From the `part_digests` of every chunk."""
        chunks = tuple(chunk_digest(pair) for pair in parts)
        theta, momentum = (root([pair[i] for pair in parts]) for i in range(2))
        return cls(round, chunks, root(chunks), theta, momentum)


class StateStore(Protocol):
    """What donors read and newcomers write. `read`, `replayed` and `write` block, and may be called from any thread."""

    @property
    def count(self) -> int:
        """Values in the flat vector."""

    @property
    def chunk_values(self) -> int:
        """Values in a chunk (but the last); a multiple of the codec's block."""

    @property
    def fragments(self) -> Fragments:
        """What each round moves; cut at the codec's blocks."""

    @property
    def codec(self) -> Codec:
        """Codec of the means."""

    @property
    def means(self) -> Mapping[int, Encoded]:
        """The committed means of the last rounds, by round; each of its round's fragment."""

    @property
    def manifests(self) -> Mapping[int, Sequence[bytes]]:
        """The chunks' digests after the last rounds, by round."""

    def version(self, index: int) -> int:
        """Round of a chunk; EMPTY (-2) if nothing is held, -1 for genesis."""

    def read(self, index: int) -> tuple[int, bytearray]:
        """(round, copy of the chunk's bytes), both of the same moment."""

    def write(self, index: int, round: int, data: Buffer) -> None:
        """Replace a chunk: its bytes as they were after `round`."""

    def replayed(self, index: int, round: int, mean: Encoded | None) -> bytearray:
        """The chunk, now at round - 1, as the outer step of `round` leaves it: a copy, the store stays as it is.

        `mean`: of those of the chunk's values that the round moves; None if it moves none of them.
        """

    def forget_history(self) -> None:
        """The means and manifests kept are of records that this run has abandoned."""

    async def digests(self) -> StateDigests:
        """Of the whole state, every chunk of which must be of one round. Hashed at most once a round, in threads."""


class OuterState(StateStore, Protocol):
    """The state store, as far as commits move it."""

    async def apply(self, mean: Encoded | None, round: int) -> None:
        """Take the outer step of `round`; None: a round without weight."""


def whole_at(store: StateStore, round: int) -> bool:
    """Whether every chunk is there, and of that round."""
    return all(store.version(index) == round for index in range(-(-store.count // store.chunk_values)))
