"""The fetching machine under any order of events, searched by hypothesis.

Whatever is answered, refused, lost, falsified or committed in between: it is never done with a wrong chunk, it accuses
no honest donor, no chunk gets lost between the queues, and one honest donor is enough for it to end.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from p2p.protocol.donors import Request
from p2p.protocol.fragments import Fragments
from p2p.protocol.holdings import EMPTY, NOTHING_HELD, Held, Need, Target
from p2p.protocol.sizes import Sizes
from p2p.protocol.transfer import FetchCore
from p2p.protocol.transfer_actions import Ask, Drop, Replay, Unask
from p2p.protocol.transfer_messages import GetChunk, GetManifest
from tests.p2p.protocol.records import peer
from tests.p2p.protocol.transfer_world import root_of, truth

FALSE = b"\0" * 32
HONEST, OTHERS = peer(0), [peer(1), peer(2)]
KEPT = 2
"""Rounds whose means donors keep."""
MOST_ROUNDS = 9


class Fetching(RuleBasedStateMachine):
    """A newcomer, an honest donor and two of any kind. `stored` is what the store really holds."""

    @initialize(chunks=st.integers(1, 5), start=st.sampled_from([EMPTY, -1, 0]), vouch=st.booleans(), seed=st.binary())
    def begin(self, chunks: int, start: int, vouch: bool, seed: bytes) -> None:
        self.chunks, self.vouch = chunks, vouch
        self.height, self.now = 0, 0.0
        self.asked: list[Request] = []
        self.replays: list[Replay] = []
        self.drops: list[Drop] = []
        self.stored = [NOTHING_HELD if start == EMPTY else Held(start, truth(index, start)) for index in range(chunks)]
        self.local = frozenset[int]()
        self.core = FetchCore(Sizes(Fragments.whole(chunks), 1, 8, 2), self.stored, seed)
        self.look()

    # --- the swarm ---

    def manifest(self, round: int) -> list[bytes]:
        return [truth(index, round) for index in range(self.chunks)]

    @rule()
    def look(self) -> None:
        """Hear what the swarm reports, and do what is due."""
        roots = {round: root_of(self.manifest(round)) for round in range(max(-1, self.height - 5), self.height)}
        self.core.aim(
            Target(self.height, truth(-1, self.height), root_of(self.manifest(self.height))),
            dict.fromkeys([HONEST, *OTHERS], self.height),
            roots=roots if self.vouch else {},
            local=self.local,
            height=self.height,
            now=self.now,
        )
        for action in self.core.poll(self.now):
            if isinstance(action, Ask):
                self.asked.append(action.request)
            elif isinstance(action, Replay):
                self.replays.append(action)
            elif isinstance(action, Unask):  # the donor may answer all the same
                assert self.core.request(action.request.peer, action.request.id) is None
            else:
                self.drops.append(action)

    @precondition(lambda self: self.height < MOST_ROUNDS)
    @rule(own=st.booleans())
    def commit(self, own: bool) -> None:
        self.height += 1
        if own:
            self.local |= {self.height}

    @rule(seconds=st.sampled_from([0.1, 5.0, 70.0, 400.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    # --- what donors do ---

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def answer_truly(self, data: st.DataObject) -> None:
        self._answer(data.draw(st.sampled_from(self.asked)), lie=False)

    @precondition(lambda self: any(request.peer != HONEST for request in self.asked))
    @rule(data=st.data(), label=st.integers(-1, 3))
    def answer_falsely(self, data: st.DataObject, label: int) -> None:
        """Other bytes, or true ones under a false label."""
        request = data.draw(st.sampled_from([request for request in self.asked if request.peer != HONEST]))
        self._answer(request, lie=True, label=label)

    @precondition(lambda self: any(request.peer != HONEST for request in self.asked))
    @rule(data=st.data())
    def refuse(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from([request for request in self.asked if request.peer != HONEST]))
        self.asked.remove(request)
        self.core.refused(request.peer, request.id, self.now)

    @rule(who=st.sampled_from([HONEST, *OTHERS]))
    def lose_the_link(self, who: str) -> None:
        self.asked = [request for request in self.asked if request.peer != who]
        self.core.lost(who, "link lost", self.now)

    @precondition(lambda self: self.replays)
    @rule()
    def replay_with_our_own_mean(self) -> None:
        replay = self.replays.pop()
        self._replay(replay.index, replay.round, None, lie=False)

    def _answer(self, request: Request, *, lie: bool, label: int = 0) -> None:
        self.asked.remove(request)
        if self.core.request(request.peer, request.id) is None:
            return  # given up meanwhile
        kept = range(self.height - KEPT + 1, self.height + 1)
        if not lie and not isinstance(request.message, GetChunk) and request.round not in kept:
            self.core.refused(request.peer, request.id, self.now)
            return
        assert self.core.arrived(request.peer, request.id, self.now) == request
        if isinstance(request.message, GetManifest):
            digests = [FALSE] * self.chunks if lie else self.manifest(request.round)
            self.core.manifest(request, digests, root_of(digests))
        elif isinstance(request.message, GetChunk):
            digest = FALSE if lie and not label else truth(request.index, self.height)
            held = self.core.judge_chunk(request, self.height + (label if lie else 0), digest)
            self._store(request.index, held)
        else:
            self._replay(request.index, request.round, request, lie=lie)

    def _replay(self, index: int, round: int, request: Request | None, *, lie: bool) -> None:
        base = self.stored[index]
        sound = not lie and base == Held(round - 1, truth(index, round - 1), base.sender)
        digest = truth(index, round) if sound else FALSE
        self._store(index, self.core.judge_replay(index, round, digest, request))

    def _store(self, index: int, held: Held | None) -> None:
        if held is not None:
            self.stored[index] = held
            self.core.settle(index, held)

    # --- what must hold ---

    @invariant()
    def never_done_with_a_wrong_chunk(self) -> None:
        if self.core.done:
            target = self.core.holdings.target
            assert target is not None
            found = [(held.round, held.digest) for held in self.stored]
            assert found == [(target.round, truth(index, target.round)) for index in range(self.chunks)]

    @invariant()
    def no_honest_donor_is_accused(self) -> None:
        assert not [drop for drop in self.drops if drop.peer == HONEST and drop.reason.startswith("sent")]

    @invariant()
    def every_chunk_is_in_one_place(self) -> None:
        work = self.core._work
        for index in range(self.chunks):
            places = [index in work.busy, index in work.missing, index in work.undecided]
            places += [index in waiting for waiting in work.behind.values()]
            assert sum(places) == (0 if self.core.holdings.need(index) is Need.NOTHING and not places[0] else 1)

    def teardown(self) -> None:
        """From here on the others are mute: the honest donor is enough."""
        for _ in range(400):
            if self.core.done and self.core.holdings.target.round == self.height:  # type: ignore[union-attr]
                break
            self.look()
            for request in [request for request in self.asked if request.peer == HONEST]:
                self._answer(request, lie=False)
            while self.replays:
                self.replay_with_our_own_mean()
            self.never_done_with_a_wrong_chunk()
            self.no_honest_donor_is_accused()
            self.now += 5.0
        else:
            raise AssertionError("the fetch does not end")


TestFetching = Fetching.TestCase
TestFetching.settings = settings(max_examples=100, stateful_step_count=40)
