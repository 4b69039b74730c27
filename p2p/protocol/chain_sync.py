"""Bringing the record chain to the head that members report, from one donor at a time.

If the donor's history leaves ours, the fork is looked for backwards in doubling steps, and what we have beyond it is
replaced; if the donor then cannot show the way to the head, ours is put back.
"""

from __future__ import annotations

from collections.abc import Sequence

from p2p.protocol.chain import GENESIS, InvalidRecord, RecordChain, Tip, record_hash
from p2p.protocol.holdings import Target
from p2p.protocol.messages import GetRecords, SignedRecord

LIMIT = 64
"""Records in one answer."""


class OtherHistory(InvalidRecord):
    """Good records, but not what the donor reported: it may have gone over to another history meanwhile."""


def knows(chain: RecordChain, round: int, head: bytes) -> bool:
    """Whether the record of `round` in this chain has that hash."""
    return GENESIS <= round <= chain.tip.height and chain.hash_at(round) == head


class ChainSync:
    """One try, with one donor, to reach `target`."""

    def __init__(self, chain: RecordChain, target: Target) -> None:
        self._chain = chain
        self._target = target
        self._start = max(0, min(chain.tip.height + 1, target.round))
        self._step = 1
        self._replaced: list[SignedRecord] = []
        self._mine: Tip = chain.tip
        self.fork = chain.tip.height
        """Last round of ours that the donor's history shares."""
        self.forked = False
        """Whether records of ours were replaced: then states after `fork` are of another history, too."""

    @property
    def done(self) -> bool:
        return knows(self._chain, self._target.round, self._target.head)

    def question(self) -> GetRecords:
        """What to ask the donor now. Raises InvalidRecord if it reports a head that no records lead to."""
        if self._start > self._target.round:
            raise InvalidRecord("a head before the first record that is not this run's")
        return GetRecords(start=self._start, limit=min(LIMIT, self._target.round - self._start + 1))

    def take(self, records: Sequence[SignedRecord]) -> None:
        """Answer to `question`, signatures checked already.

        Raises InvalidRecord if the donor cannot be honest, OtherHistory if it need not be a liar, LookupError if it has
        no answer.
        """
        if not records:
            raise LookupError(f"it has no record of round {self._start}")
        if len(records) > LIMIT or any(one.record.round != self._start + i for i, one in enumerate(records)):
            raise InvalidRecord(f"other records than the {LIMIT} at most from round {self._start} on that it was asked")
        if self._start > self._chain.tip.height + 1 or records[0].record.previous != self._chain.hash_at(
            self._start - 1
        ):
            self._look_further_back()
            return
        for signed in records:
            self._add(signed)
        self._start = records[-1].record.round + 1
        if self._start > self._target.round and not self.done:
            raise OtherHistory("a history that does not lead to the head it reports")

    def undo(self, *, lied: bool) -> None:
        """The donor failed: have our own records back. What it added to them stays, unless it lied."""
        if self.done or self._chain.tip != self._mine or not (self.forked or lied):
            return
        self._chain.truncate(self.fork)
        for signed in self._replaced:
            self._chain.append(signed)

    def _look_further_back(self) -> None:
        if self._start == 0:
            raise InvalidRecord("a history that does not begin with this run")
        self._start = max(0, min(self._start, self._chain.tip.height + 1) - self._step)
        self._step *= 2

    def _add(self, signed: SignedRecord) -> None:
        round = signed.record.round
        tip = self._chain.tip
        if round <= tip.height:
            if self._chain.hash_at(round) == record_hash(signed.record):
                return
            self._replaced = [self._chain.record(own) for own in range(round, tip.height + 1)]
            self.fork, self.forked = round - 1, True
            self._chain.truncate(round - 1)
        self._chain.append(signed)
        self._mine = self._chain.tip
