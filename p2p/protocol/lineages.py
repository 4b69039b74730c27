"""Auditing the chains of several nodes side by side: what they share is proved once, and where they part is found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from p2p.protocol.audit import Audit
from p2p.protocol.chain import InvalidRecord, Verify, check_signatures, record_hash
from p2p.protocol.messages import SignedRecord
from p2p.protocol.model import BadMessage, unpack


class Violation(ValueError):
    """The first thing that is wrong: in whose chains, in which round, what."""

    def __init__(self, nodes: tuple[str, ...], round: int, what: str) -> None:
        place = f"after round {round - 1}" if round else "at the start"
        super().__init__(f"{', '.join(nodes)}: {place}: {what}")
        self.nodes, self.round, self.what = nodes, round, what


@dataclass
class Lineage:
    """One history: what is proved of it, and the nodes whose chains follow it to its end or end within it."""

    nodes: tuple[str, ...]
    audit: Audit


@dataclass(frozen=True)
class Fork:
    """Where histories part."""

    after: int
    """The last round that they share."""
    sides: tuple[tuple[str, ...], ...]
    """The nodes on each side."""
    signed_both: tuple[str, ...]
    """Peers whose signature is under more than one of the next records."""


@dataclass
class _Branch:
    """One of the records that come next in a lineage, as its nodes keep it: signatures may differ."""

    copies: list[tuple[SignedRecord, tuple[str, ...]]] = field(default_factory=list)

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(node for _, nodes in self.copies for node in nodes)

    @property
    def signers(self) -> set[str]:
        return {signed.record.members[rank] for signed, _ in self.copies for rank, _ in signed.signatures}


class Lineages:
    """`chains`: by node, the bodies of its records from round 0 on (msgpack of SignedRecord.to_wire()).

    An iterator may raise InvalidRecord where a chain cannot be read on.
    """

    def __init__(self, chains: Mapping[str, Iterator[bytes]], fingerprint: bytes, verify: Verify) -> None:
        self._chains = dict(chains)
        self._verify = verify
        self.all = [Lineage(tuple(chains), Audit.genesis(fingerprint))]
        self.ended: dict[str, int] = {}
        """Height at which a node's chain ends."""
        self.forks: list[Fork] = []

    def step(self) -> bool:
        """Prove the next record of every chain; False when all have ended. Raises Violation."""
        before, self.all = self.all, []
        for position, lineage in enumerate(before):
            try:
                self.all += self._step(lineage)
            except Violation:
                self.all += before[position:]
                raise
        return len(self.ended) < len(self._chains)

    def _step(self, lineage: Lineage) -> list[Lineage]:
        branches = self._branches(lineage)
        grown = [Lineage(branch.nodes, self._proved(lineage.audit, branch)) for branch in branches]
        if len(grown) > 1:
            sides = tuple(side.nodes for side in grown)
            self.forks.append(Fork(lineage.audit.tip.height, sides, _signed_both(branches)))
            return grown
        return [Lineage(lineage.nodes, grown[0].audit)] if grown else [lineage]

    def _proved(self, audit: Audit, branch: _Branch) -> Audit:
        after: Audit | None = None
        for signed, nodes in branch.copies:
            try:
                if after is None:
                    after = audit.extended(signed, self._verify)
                else:
                    check_signatures(signed, self._verify)
            except InvalidRecord as error:
                raise Violation(nodes, audit.tip.height + 1, str(error)) from None
        assert after is not None, "a branch has a copy at least"
        return after

    def _branches(self, lineage: Lineage) -> list[_Branch]:
        """The different records that come next, and who has which."""
        bodies: dict[bytes, list[str]] = {}
        for node in lineage.nodes:
            if node not in self.ended and (body := self._next(node, lineage.audit.tip.height)) is not None:
                bodies.setdefault(body, []).append(node)
        branches: dict[bytes, _Branch] = {}
        for body, nodes in bodies.items():
            try:
                signed = SignedRecord.from_wire(unpack(body, len(body)))
            except BadMessage as error:
                raise Violation(tuple(nodes), lineage.audit.tip.height + 1, f"no record: {error}") from None
            digest = record_hash(signed.record) if len(bodies) > 1 else b""  # nothing to compare it with
            branch = branches.setdefault(digest, _Branch())
            branch.copies.append((signed, tuple(nodes)))
        return list(branches.values())

    def _next(self, node: str, height: int) -> bytes | None:
        try:
            body = next(self._chains[node], None)
        except InvalidRecord as error:
            raise Violation((node,), height + 1, str(error)) from None
        if body is None:
            self.ended[node] = height
        return body


def _signed_both(branches: list[_Branch]) -> tuple[str, ...]:
    counts = Counter(signer for branch in branches for signer in branch.signers)
    return tuple(sorted(signer for signer, count in counts.items() if count > 1))
