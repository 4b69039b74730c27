"""The coordinator's side of the committed round: collect, (prepare,) plan, count votes, commit.

Pure: `step(now)` looks at the board and returns effects. Any member can hold this part; `RoundCore` asks only the one
that the board names. Attempt 0 needs no preparation. Every further attempt first collects promises and the highest
votes: a record that all its live seats have voted for may have been committed by a coordinator who died, so it is
committed again (it is the same record); otherwise some live seat will never vote for it, and a new plan is safe.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection

from p2p.protocol.board import Board
from p2p.protocol.chain import record_hash
from p2p.protocol.effects import Effect, Note, Send
from p2p.protocol.messages import Ballot, Commit, Plan, Prepare, Record, SignedRecord, Status, Vote, Voted
from p2p.protocol.plan import draft

REPEAT_SECONDS = 1.0
PROMISE_SECONDS = 6.0
STALL_SECONDS = 15.0
"""A reduce in which no seat got a byte of mean for so long is tried again without the member most waited for."""
REST_SECONDS = 5.0
STRAGGLER_SECONDS = 30.0
"""The least that the ready half of the members waits for the others; grows with the measured round."""
STRAGGLER_ROUNDS = 2.0

Verify = Callable[[str, bytes, bytes], bool]
"""(peer id, record hash, signature) -> whether the peer signed it."""


class Coordinator:
    """Drives one round; a fresh one is made for each."""

    def __init__(self, board: Board, verify: Verify, began: float) -> None:
        self.board = board
        self.verify = verify
        self.began = began
        self.ballot: Ballot | None = None
        self.plan: Record | None = None
        self.excluded: set[str] = set()
        self.reports: dict[bytes, Record] = {}
        self._half_ready: float | None = None
        self._since = began
        self._resting_until = began
        self._asked = began
        self._progress = -1

    def step(self, now: float) -> list[Effect]:
        """Do what is due; called after every input, only while we are the coordinator."""
        if self.ballot is None:
            return self._open(now) if now >= self._resting_until else []
        if self.plan is None:
            return self._evaluate(now)
        return self._tally(now)

    def rest(self, now: float) -> None:
        """Somebody else drives the round; leave it to them for a while, lest two take turns in stopping each other."""
        self.ballot = self.plan = None
        self._resting_until = now + REST_SECONDS

    # --- opening an attempt ---

    def _open(self, now: float) -> list[Effect]:
        highest = self.board.highest_promise(now)
        if highest is None:
            return self._try_plan(Ballot(round=self.board.round, attempt=0, rank=self.board.rank(self.board.me)), now)
        return self._prepare("a coordinator was lost", now)

    def _prepare(self, reason: str, now: float) -> list[Effect]:
        highest = self.board.highest_promise(now)
        attempt = 1 + max(highest.attempt if highest else 0, self.ballot.attempt if self.ballot else 0)
        self.ballot = Ballot(round=self.board.round, attempt=attempt, rank=self.board.rank(self.board.me))
        self.plan = None
        self._since = self._asked = now
        note = Note("attempt", {"round": self.board.round, "attempt": attempt, "reason": reason})
        return [note, Send(None, self._question()), Send(self.board.me, self._question())]

    def _question(self) -> Prepare:
        assert self.ballot is not None
        return Prepare(ballot=self.ballot, head=self.board.head.hash)

    # --- promises and votes of earlier attempts ---

    def on_voted(self, peer: str, voted: Voted) -> None:
        """A member reports the record that it voted for."""
        digest = record_hash(voted.record)
        if voted.record.previous == self.board.head.hash and self.verify(peer, digest, voted.signature):
            self.reports[digest] = voted.record

    def _evaluate(self, now: float) -> list[Effect]:
        assert self.ballot is not None
        here = self.board.here(now)
        promises = {peer: self.board.statuses[peer].promised for peer in here}
        if any(promise is not None and self.ballot < promise for promise in promises.values()):
            self.rest(now)
            return []
        missing = [peer for peer in here if promises[peer] != self.ballot and peer not in self.excluded]
        if missing and now - self._since > PROMISE_SECONDS:
            self.excluded.update(missing)
        elif missing:
            if now - self._asked < REPEAT_SECONDS:
                return []
            self._asked = now
            return [Send(peer, self._question()) for peer in missing]
        return self._recovered(here) or self._try_plan(self.ballot, now)

    def _recovered(self, here: list[str]) -> list[Effect]:
        """Commit the record of the highest vote if all its live seats voted for it."""
        votes = {peer: vote for peer in here if (vote := self._valid_vote(peer)) is not None}
        highest = max(votes.values(), key=lambda vote: vote.ballot.key(), default=None)
        record = self.reports.get(highest.record_hash) if highest else None
        if highest is None or record is None:
            return []
        live = [peer for peer in record.members if peer in here]
        if any(peer not in votes or votes[peer].record_hash != highest.record_hash for peer in live):
            return []
        return self._commit(record, {peer: votes[peer] for peer in live})

    def _valid_vote(self, peer: str) -> Vote | None:
        vote = self.board.statuses[peer].vote
        if vote is None or vote.ballot.round != self.board.round:
            return None
        return vote if self.verify(peer, vote.record_hash, vote.signature) else None

    # --- the plan ---

    def _try_plan(self, ballot: Ballot, now: float) -> list[Effect]:
        ready = {peer: report for peer, report in self.board.ready(now).items() if peer not in self.excluded}
        expected = [peer for peer in self.board.expected(now) if peer not in self.excluded]
        late = [peer for peer in expected if peer not in ready]
        if len(ready) < self.board.rules.quorum(self.board.head) or (
            late and not self._deadline_passed(expected, ready, now)
        ):
            return []
        root = self.board.state_root(ready)
        self.ballot, self._since, self._progress = ballot, now, -1
        self.plan = draft(self.board.rules, self.board.head, ballot, ready, root)
        notes: list[Effect] = [Note("straggler", {"round": ballot.round, "peer": peer}) for peer in late]
        return [*notes, *(Send(peer, Plan(draft=self.plan)) for peer in self.plan.members)]

    def _deadline_passed(self, expected: list[str], ready: Collection[str], now: float) -> bool:
        """Whether the ready half has waited for the rest long enough, measured by its own round."""
        done = sum(peer in ready for peer in expected)
        if 2 * done < len(expected) or not done:
            self._half_ready = None
            return False
        if self._half_ready is None:
            self._half_ready = now
        patience = max(STRAGGLER_SECONDS, (STRAGGLER_ROUNDS - 1) * (self._half_ready - self.began))
        return now - self._half_ready > patience

    # --- votes and the commit ---

    def _tally(self, now: float) -> list[Effect]:
        assert self.plan is not None
        assert self.ballot is not None
        here = set(self.board.here(now))
        seats = self.plan.members
        if gone := [peer for peer in seats if peer not in here]:
            return self._prepare(f"lost {', '.join(gone)}", now)
        if any(p is not None and self.ballot < p for p in (self.board.statuses[peer].promised for peer in seats)):
            self.rest(now)
            return []
        votes = {peer: vote for peer in seats if (vote := self._valid_vote(peer)) and vote.ballot == self.ballot}
        if len(votes) == len(seats):
            return self._decide(votes, now)
        return self._watch_progress([peer for peer in seats if peer not in votes], now)

    def _decide(self, votes: dict[str, Vote], now: float) -> list[Effect]:
        counts = Counter(vote.record_hash for vote in votes.values())
        winner = counts.most_common(1)[0][0]
        if len(counts) > 1:
            odd = sorted(peer for peer, vote in votes.items() if vote.record_hash != winner)
            self.excluded.update(odd)
            return self._prepare(f"different results at {', '.join(odd)}", now)
        record = self.reports.get(winner)
        if record is None:  # we hold no seat in our own plan, so a voter has to tell us what it signed
            if now - self._asked < REPEAT_SECONDS:
                return []
            self._asked = now
            return [Send(next(iter(votes)), self._question())]
        return self._commit(record, votes)

    def _commit(self, record: Record, votes: dict[str, Vote]) -> list[Effect]:
        signatures = tuple((rank, votes[peer].signature) for rank, peer in enumerate(record.members) if peer in votes)
        message = Commit(signed=SignedRecord(record=record, signatures=signatures))
        return [Send(None, message), Send(self.board.me, message)]

    def _watch_progress(self, waiting: list[str], now: float) -> list[Effect]:
        statuses = [self.board.statuses[peer] for peer in waiting]
        progress = sum(status.reduced for status in statuses) - len(statuses) * self.board.rules.count
        if progress != self._progress:
            self._progress, self._since = progress, now
        if now - self._since <= STALL_SECONDS:
            return []
        blamed = self._blame(statuses, waiting)
        self.excluded.add(blamed)
        return self._prepare(f"no progress, most wait for {blamed}", now)

    def _blame(self, statuses: list[Status], waiting: list[str]) -> str:
        """Who holds the reduce up: first one that never took the plan, then the one that most of them wait for."""
        for peer, status in zip(waiting, statuses, strict=True):
            if status.promised != self.ballot:
                return peer
        counts = Counter(peer for status in statuses for peer in status.waiting_on)
        return max(counts, key=lambda peer: (counts[peer], peer), default=waiting[-1])
