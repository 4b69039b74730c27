"""What must hold at every moment, checked on each event that could break it.

1. One record a round in a lineage: two different records that follow the same one were signed by different processes,
   and only after a cut or a freeze, or when all who had signed the first are gone.
2. Equal state for equal heads.
3. Exact means: sum(w x) / sum(w) of the very codes and weights of the contributors that the record names.
4. An exact ledger: committed, free and assigned samples are [0, cursor), each of them once.

Progress and memory are looked at by `watch.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from p2p.protocol import bitmap, ledger
from p2p.protocol.chain import genesis_hash, record_hash
from p2p.protocol.messages import Record, SignedRecord
from p2p.protocol.model import Range
from swarm.simulate.virtual.content import Codes, Mean

Signer = tuple[str, int]
"""(peer, which of its lives in a lineage): who syncs anew has forgotten what it voted for."""


class Violation(Exception):
    """Something that must never happen has happened; the text says what."""


@dataclass
class Committed:
    """A record that somebody applied."""

    record: Record
    signers: frozenset[Signer]
    samples: tuple[Range, ...]
    """All samples committed by this lineage up to here, merged."""
    means: bytes
    """Digest of the mean that the first member to apply it held."""


class Checker:
    """Sees every vote, every commit and every state of all nodes."""

    def __init__(self, fingerprint: bytes, lives: Callable[[Signer], bool] = lambda _signer: True) -> None:
        """`lives`: whether that process still runs, and has not fallen behind since."""
        self._lives = lives
        self.records: dict[bytes, Committed] = {}
        """By hash."""
        self.height = -1
        self.forks = 0
        self.may_fork = False
        """Whether anybody was ever cut off or frozen: if not, there is no reason for two histories."""
        self._children: dict[bytes, list[bytes]] = {}
        self._roots: dict[bytes, bytes] = {}
        self._genesis = genesis_hash(fingerprint)
        self._votes: dict[bytes, dict[str, int]] = {}

    def voted(self, peer: str, life: int, digest: bytes) -> bool:
        """A node signed a record. True if nobody had signed that one before."""
        first = digest not in self._votes
        self._votes.setdefault(digest, {})[peer] = life
        return first

    def applied(self, peer: str, signed: SignedRecord, means: Mapping[int, Mean], digest: bytes) -> bool:
        """A node applies a record, with these means (by piece); `digest` is of them all. True if it is new."""
        name = record_hash(signed.record)
        known = self.records.get(name)
        if known is not None:
            if known.means != digest:
                raise Violation(f"{peer} applies round {signed.record.round} with another mean than others")
            return False
        record = signed.record
        found = Committed(record, self._signers(signed, name), self._samples(record), digest)
        self._check_siblings(found)
        self._check_means(record, means)
        self.records[name] = found
        self._children.setdefault(record.previous, []).append(name)
        self.height = max(self.height, record.round)
        return True

    def holds(self, peer: str, head: bytes, root: bytes) -> None:
        """A node holds state with that root after the record `head`."""
        if self._roots.setdefault(head, root) != root:
            raise Violation(f"{peer} holds another state after record {head.hex()[:8]} than others")

    # --- the rules ---

    def _signers(self, signed: SignedRecord, name: bytes) -> frozenset[Signer]:
        votes = self._votes.get(name, {})
        members = signed.record.members
        missing = [members[rank] for rank, _ in signed.signatures if members[rank] not in votes]
        if missing or not signed.signatures:
            raise Violation(f"round {signed.record.round} is committed without votes of {missing or 'anybody'}")
        return frozenset((members[rank], votes[members[rank]]) for rank, _ in signed.signatures)

    def _check_siblings(self, found: Committed) -> None:
        siblings = self._children.get(found.record.previous, ())
        kept = any(self._lives(signer) for other in siblings for signer in self.records[other].signers)
        if kept and not self.may_fork:
            raise Violation(f"round {found.record.round} is committed twice, differently, and nobody was cut off")
        for other in siblings:
            both = found.signers & self.records[other].signers
            self.forks += 1
            if both:
                who = ", ".join(sorted(peer for peer, _ in both))
                raise Violation(f"round {found.record.round} is committed twice, differently, and {who} signed both")

    def _check_means(self, record: Record, means: Mapping[int, Mean]) -> None:
        where = f"the mean of round {record.round}"
        if not record.steps:
            return
        quantised: dict[str, Codes] = {}
        for piece, expected in enumerate(expected_parts(record)):
            mean = means.get(piece)
            if (
                mean is None
                or [(codes.peer, weight) for codes, weight in zip(mean.codes, mean.weights, strict=True)] != expected
            ):
                raise Violation(
                    f"{where} in piece {piece} is not of the contributors and weights that the record names"
                )
            for codes in mean.codes:
                if quantised.setdefault(codes.peer, codes) is not codes:
                    raise Violation(f"{where} mixes two different contributions of {codes.peer}")
        for seat in record.seats:
            mine = quantised.get(seat.peer)
            if seat.weight and mine is None:
                raise Violation(f"{where} has nothing of {seat.peer}, who has weight")
            said = record.round, seat.tokens, seat.used, seat.earlier
            if mine is not None and (mine.round, mine.tokens, mine.used, mine.earlier) != said:
                raise Violation(f"{where} has codes of {seat.peer} that are not of this round, or of another weight")

    def _samples(self, record: Record) -> tuple[Range, ...]:
        """The samples that the lineage has committed with this record; checks the ledger."""
        before: tuple[Range, ...] = ()
        if record.previous != self._genesis:
            parent = self.records.get(record.previous)
            if parent is None:
                raise Violation(f"round {record.round} follows a record that nobody applied")
            before = parent.samples
        used = [span for seat in record.seats for span in seat.used]
        settled = record.ledger
        outstanding = [span for assignment in settled.assigned for span in assignment.ranges]
        everything = (*before, *used, *settled.free, *outstanding)
        whole = ledger.merged(everything)
        if ledger.size(everything) != settled.cursor or whole != (((0, settled.cursor),) if settled.cursor else ()):
            raise Violation(f"the ledger of round {record.round} loses samples or has some twice")
        return ledger.merged((*before, *used))


def expected_parts(record: Record) -> list[list[tuple[str, float]]]:
    """Of each piece, who is in its mean with which weight, by the record's own words."""
    pieces: list[list[tuple[str, float]]] = []
    for segment in record.segments:
        seats = [record.seats[rank] for rank in bitmap.unpack(segment.contributors)]
        named = [(seat.peer, float(seat.weight)) for seat in seats]
        while len(pieces) * record.piece < segment.stop:
            pieces.append(named)
    return pieces
