"""The coordinator's side of the committed round: collect, (prepare,) plan, count votes, commit.

Pure: `step(now)` looks at the board and returns effects. Any member can hold this part; `RoundCore` asks only the one
that the board names. The first member of the view, if it committed the round before, opens attempt 0 without asking.
Everybody else, and every further attempt, first collects promises: nobody who promised follows a lower ballot any more,
and each tells what it has. Then, as in Paxos:

1. somebody voted: the record of the highest vote may have been committed by a coordinator who died, so it is adopted:
   whoever misses some of its mean gets that from those who have it, votes, and it is committed;
2. nobody voted, but a plan was under way: it is repaired, what was done of it stays (p2p/protocol/repair.py);
3. nothing was under way: a fresh plan for those who are ready.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable

from p2p.protocol import notes
from p2p.protocol.ballot import Ballot
from p2p.protocol.board import Board
from p2p.protocol.chain import record_hash
from p2p.protocol.effects import Effect, Note, Send
from p2p.protocol.entrance import Entrance
from p2p.protocol.messages import Commit, Plan, Prepare, Promise, Record, SignedRecord, Vote
from p2p.protocol.plan import BadPlan, check_draft, fresh, seat_of
from p2p.protocol.repair import adopted, repaired
from p2p.protocol.stall import StallWatch

REPEAT_SECONDS = 1.0
PROMISE_SECONDS = 6.0
REST_SECONDS = 5.0
STRAGGLER_SECONDS = 30.0
"""The least that the ready half of the members waits for the others; grows with the measured round."""
STRAGGLER_ROUNDS = 2.0

Verify = Callable[[str, bytes, bytes], bool]
"""(peer id, record hash, signature) -> whether the peer signed it."""


class Coordinator:
    """Drives one round; a fresh one is made for each."""

    def __init__(self, board: Board, verify: Verify, began: float, first: bool, entrance: Entrance) -> None:
        """`first`: we committed the round before in this life, so that attempt 0 is ours if the first rank is."""
        self.board = board
        self.verify = verify
        self.entrance = entrance
        self.began = began
        self.first = first
        self.ballot: Ballot | None = None
        self.plan: Plan | None = None
        self.excluded: set[str] = set()
        self.promises: dict[str, Promise] = {}
        self.records: dict[str, tuple[bytes, Record]] = {}
        """The newest record that each voter showed us, with its hash."""
        self.stall = StallWatch(board)
        self._voters: tuple[str, ...] = ()
        """Whose votes the plan waits for."""
        self._half_ready: float | None = None
        self._since = began
        self._resting_until = began
        self._asked = began

    def step(self, now: float) -> list[Effect]:
        """Do what is due; called after every input, only while we are the coordinator."""
        if self.ballot is None:
            return self._open(now) if now >= self._resting_until else []
        if self.plan is None:
            return self._evaluate(now)
        return self._tally(now)

    def rest(self, now: float) -> None:
        """Somebody else drives the round; leave it to them for a while, lest two take turns in stopping each other."""
        self.give_up()
        self._resting_until = now + REST_SECONDS

    def give_up(self) -> None:
        """We are not the coordinator (any more)."""
        self.ballot = self.plan = None

    # --- opening an attempt ---

    def _open(self, now: float) -> list[Effect]:
        promise = self.board.highest_promise(now)
        if promise is not None:
            return self._prepare(self._why_open(promise, now), now)
        if self.first and self.board.rank(self.board.me) == 0:
            return self._try_fresh(self.board.head.ballot(0, 0), now)
        return self._prepare("", now) if self._may_plan(now) else []

    def _why_open(self, promise: Ballot, now: float) -> str:
        """Members follow somebody who does not drive the round any more."""
        view = self.board.head.view
        if promise.rank >= len(view):
            return "a coordinator was lost"
        peer = view[promise.rank]
        if peer == self.board.me:
            return "its last attempt was given up"
        return f"lost its coordinator {peer}: {self._why_lost(peer, now)}"

    def _prepare(self, reason: str, now: float) -> list[Effect]:
        highest = self.board.highest_promise(now)
        attempt = 1 + max(highest.attempt if highest else 0, self.ballot.attempt if self.ballot else 0)
        self.ballot = self.board.head.ballot(attempt, self.board.rank(self.board.me))
        self.plan = None
        self.promises = {}
        self._since = self._asked = now
        note = Note("attempt", {"round": self.board.round, "attempt": attempt, "reason": reason})
        effects: list[Effect] = [note] if reason else []
        return [*effects, Send(None, self._question()), Send(self.board.me, self._question())]

    def _question(self) -> Prepare:
        assert self.ballot is not None
        return Prepare(ballot=self.ballot)

    # --- promises ---

    def on_promise(self, peer: str, promise: Promise) -> list[Effect]:
        """A member's answer to our question. A vote counts with the record that it is for, and the right signature."""
        record, vote = promise.voted, promise.vote
        if (record is None) != (vote is None):
            return self._refuse(peer, "a vote without its record")
        if record is not None and vote is not None:
            digest = record_hash(record)
            if vote.record_hash != digest or record.previous != self.board.head.hash or peer not in record.voters:
                return self._refuse(peer, "a vote for what is no record of this round with a seat for it")
            if not self.verify(peer, digest, vote.signature):
                return self._refuse(peer, "a vote with a wrong signature")
            if not (record.complete and self._follows(record)):
                return self._refuse(peer, "a vote for a record that does not follow from our head")
            self.know_record(peer, digest, record)
        if promise.ballot == self.ballot:
            self.promises[peer] = promise
        return []

    def on_link_up(self, peer: str) -> None:
        """What it promised may be of a life before this one."""
        self.promises.pop(peer, None)

    def know_record(self, voter: str, digest: bytes, record: Record) -> None:
        """What this voter's signature is under."""
        self.records[voter] = digest, record

    def _refuse(self, peer: str, reason: str) -> list[Effect]:
        return [notes.refused(self.board.round, peer, Promise.KIND, reason)]

    def _evaluate(self, now: float) -> list[Effect]:
        assert self.ballot is not None
        asked = [peer for peer in self.board.possible(now) if peer not in self.excluded]
        if self._outranked(asked):
            self.rest(now)
            return []
        missing = [peer for peer in asked if peer not in self.promises]
        if missing and now - self._since > PROMISE_SECONDS:
            return self._exclude(missing, "gives no promise")
        if missing:
            if now - self._asked < REPEAT_SECONDS:
                return []
            self._asked = now
            return [Send(peer, self._question()) for peer in missing]
        return self._plan_next(asked, now)

    def _outranked(self, peers: Iterable[str]) -> bool:
        """Whether one of them has promised to follow a higher ballot than ours."""
        assert self.ballot is not None
        promises = (self.board.statuses[peer].promised for peer in peers)
        return any(ballot is not None and self.board.in_reach(ballot) and self.ballot < ballot for ballot in promises)

    def _exclude(self, peers: Collection[str], reason: str) -> list[Effect]:
        self.excluded.update(peers)
        fields = {"round": self.board.round, "reason": reason}
        return [Note("excluded", {"peer": peer, **fields}) for peer in sorted(peers)]

    def _plan_next(self, live: list[str], now: float) -> list[Effect]:
        """With everybody's promise in hand."""
        assert self.ballot is not None
        record = self._highest_voted(live)
        plans = [plan for peer in live if (plan := self.promises[peer].plan) is not None]
        newest = max(plans, key=lambda plan: plan.ballot.key(), default=None)
        draft = record or (newest.draft if newest is not None else None)
        if draft is not None and self._has_unmet(draft, now):
            return []
        if record is not None:
            return self._adopt(record, live, now)
        if newest is not None and self._sound(newest):
            known = [p for p in live if self._keeps_seat(newest.draft, p)]
            promises = {peer: self.promises[peer] for peer in known}
            owners = self.stall.reach_all(newest.draft.voters, now)
            mended = repaired(self.board.rules, self.board.head, self.ballot, newest, promises, owners)
            if mended is not None:
                return [self._note_repair(newest, mended), *self._send(mended, mended.draft.voters, now)]
        return self._try_fresh(self.ballot, now)

    def _has_unmet(self, draft: Record, now: float) -> bool:
        """Whether it has voters that others hear and we have yet to meet: they answer within a promise's time, or it is
        done without them."""
        waits = now - self._since <= PROMISE_SECONDS
        return waits and bool(self.board.unmet(peer for peer in draft.voters if peer not in self.excluded))

    def _keeps_seat(self, draft: Record, peer: str) -> bool:
        """False for a live member whose seat is not what it promised with: it has restarted."""
        seat = next((seat for seat in draft.seats if seat.peer == peer), None)
        ready = self.promises[peer].ready
        return seat is None or (ready is not None and seat.present and seat_of(peer, ready) == seat)

    def _follows(self, draft: Record) -> bool:
        try:
            check_draft(self.board.rules, self.board.head, draft)
        except BadPlan:
            return False
        return True

    def _sound(self, plan: Plan) -> bool:
        owners = [route.owner for route in plan.routes]
        seats, segments = len(plan.draft.seats), len(plan.draft.segments)
        return len(owners) == segments and max(owners, default=0) < seats and self._follows(plan.draft)

    def _note_repair(self, old: Plan, new: Plan) -> Note:
        lost = sorted(set(old.draft.voters) - set(new.draft.voters))
        reports = [p.means for p in self.promises.values() if p.plan is not None and p.plan.ballot == old.ballot]
        held = sum(max(column) for column in zip(*reports, strict=False)) * old.draft.piece
        count = self.board.rules.fragments.size(self.board.round)
        fields = {"round": self.board.round, "attempt": new.ballot.attempt, "lost": lost}
        numbers = {"segments": len(new.draft.segments), "values": count, "kept": min(held, count)}
        return Note("repaired", fields | numbers)

    # --- votes of earlier attempts ---

    def _highest_voted(self, live: Collection[str]) -> Record | None:
        """The record of the newest vote that the live promised with, and whose mean they still have."""
        found = [
            (vote.ballot.key(), record_hash(promise.voted), promise.voted)
            for peer, promise in ((peer, self.promises[peer]) for peer in live)
            if (vote := promise.vote) is not None
            and promise.voted is not None
            and vote.ballot.round == self.board.round
            and self._keeps_seat(promise.voted, peer)
        ]
        return max(found, key=lambda entry: entry[:2])[2] if found else None

    def _adopt(self, record: Record, live: Collection[str], now: float) -> list[Effect]:
        """Commit the record if its live seats have all voted for it, else bring it to those who have not."""
        assert self.ballot is not None
        digest = record_hash(record)
        voters = tuple(peer for peer in record.voters if peer in live and self._keeps_seat(record, peer))
        promised = {peer: vote for peer in voters if (vote := self.promises[peer].vote) is not None}
        votes = {peer: vote for peer, vote in promised.items() if vote.record_hash == digest}
        fields = {"round": self.board.round, "attempt": self.ballot.attempt, "holders": sorted(votes)}
        note = Note("adopted", fields | {"missing": sorted(set(voters) - set(votes))})
        if len(votes) == len(voters):
            return [note, *self._commit(record, votes)]
        near = set(self.stall.reach_all(voters, now))
        holders = [peer for peer in votes if peer in near] or list(votes)
        return [note, *self._send(adopted(record, self.ballot, holders), voters, now)]

    # --- the plan ---

    def _may_plan(self, now: float) -> bool:
        ready, expected, late = self._readiness(now)
        if len(ready) < self.board.rules.quorum(self.board.head):
            return False
        if late and not self._deadline_passed(expected, ready, late, now):
            return False
        return not self.entrance.held_open(self.board, self.excluded, now)

    def _readiness(self, now: float) -> tuple[dict[str, object], list[str], list[str]]:
        ready: dict[str, object] = {p: r for p, r in self.board.ready(now).items() if p not in self.excluded}
        expected = [peer for peer in self.board.expected(now) if peer not in self.excluded]
        return ready, expected, [peer for peer in expected if peer not in ready]

    def _try_fresh(self, ballot: Ballot, now: float) -> list[Effect]:
        if not self._may_plan(now):
            self._readmit(now)
            return []
        _, _, late = self._readiness(now)
        ready = {peer: report for peer, report in self.board.ready(now).items() if peer not in self.excluded}
        self.ballot = ballot
        owners = self.stall.reach_all(ready, now)
        root, rates = self.board.state_root(ready), self.board.rates(ready)
        plan = fresh(self.board.rules, self.board.head, ballot, ready, root, owners, rates)
        why = {
            peer: "its training stands still" if self.board.frozen(peer, now) else "it is not ready" for peer in late
        }
        notes = [Note("straggler", {"round": ballot.round, "peer": peer, "reason": why[peer]}) for peer in late]
        return [*notes, *self._send(plan, plan.draft.voters, now)]

    def _readmit(self, now: float) -> None:
        """Ask those anew who were left out, if a round needs them."""
        quorum = self.board.rules.quorum(self.board.head)
        ready = self.board.ready(now)
        if len(ready) >= quorum > sum(peer not in self.excluded for peer in ready):
            self.excluded.clear()
            self._since = now

    def _send(self, plan: Plan, voters: tuple[str, ...], now: float) -> list[Effect]:
        self.plan, self._voters, self._since = plan, voters, now
        self.stall.begin(plan, now)
        return [Send(peer, plan) for peer in voters]

    def _deadline_passed(
        self, expected: Collection[str], ready: Collection[str], late: Collection[str], now: float
    ) -> bool:
        """Whether the ready half has waited for the rest long enough, measured by its own round."""
        done = len(expected) - len(late)
        if 2 * done < len(expected) or not ready:
            self._half_ready = None
            return False
        if self._half_ready is None:
            self._half_ready = now
        if all(self.board.frozen(peer, now) for peer in late):
            return True
        patience = max(STRAGGLER_SECONDS, (STRAGGLER_ROUNDS - 1) * (self._half_ready - self.began))
        return now - self._half_ready > patience

    # --- votes and the commit ---

    def _tally(self, now: float) -> list[Effect]:
        assert self.plan is not None
        assert self.ballot is not None
        if gone := [peer for peer in self._voters if not self._takes_part(peer, now)]:
            return self._prepare("; ".join(f"lost {peer}: {self._why_lost(peer, now)}" for peer in gone), now)
        if self._outranked(self._voters):
            self.rest(now)
            return []
        votes = {peer: vote for peer in self._voters if (vote := self._vote_of_plan(peer)) is not None}
        if len(votes) == len(self._voters):
            return self._decide(votes, now)
        waiting = [peer for peer in self._voters if peer not in votes]
        verdict = self.stall.judge(waiting, now)
        if verdict is None:
            return []
        notes = self._exclude([verdict.blamed], verdict.reason) if verdict.blamed else []
        return [*notes, *self._prepare(verdict.reason, now)]

    def _takes_part(self, peer: str, now: float) -> bool:
        """Whether this seat lives and is still at our head, for all we know."""
        status = self.board.statuses.get(peer)
        if status is None or not self.board.alive(peer, now) or status.phase == "syncing":
            return False
        return status.height <= self.board.head.height

    def _why_lost(self, peer: str, now: float) -> str:
        standing = self.board.liveness.standing(peer, now)
        if not standing.alive:
            return standing.reason
        status = self.board.statuses.get(peer)
        if status is None or status.phase == "syncing":
            return "it fetches the state"
        further = status.height > self.board.head.height
        return "it is a round further" if further else "it and another member miss each other"

    def _vote_of_plan(self, peer: str) -> Vote | None:
        vote = self.board.statuses[peer].vote
        if vote is None or vote.ballot != self.ballot:
            return None
        return vote if self.verify(peer, vote.record_hash, vote.signature) else None

    def _decide(self, votes: dict[str, Vote], now: float) -> list[Effect]:
        counts = Counter(vote.record_hash for vote in votes.values())
        winner = max(counts, key=lambda found: (counts[found], found))
        if len(counts) > 1:
            odd = sorted(peer for peer, vote in votes.items() if vote.record_hash != winner)
            reason = f"different results at {', '.join(odd)}"
            return [*self._exclude(odd, "its result differs"), *self._prepare(reason, now)]
        record = next((record for digest, record in self.records.values() if digest == winner), None)
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
