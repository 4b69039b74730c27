"""Fetching state from many donors at once, as a pure machine: which donor is asked for what, and whom to believe.

The owner tells it what the swarm reports (`aim`), what came (`arrived`, the verdicts, `settle`) and the time; `poll`
says what to do next. Answers are measured, so that fast donors get more work; near the end, an idle donor is asked for
what a slow one still owes. A donor that lies, falls silent or vanishes costs the answers that were under way.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence

from p2p.protocol.donors import RETRY_SECONDS, Donor, DonorPool, Kind, Request
from p2p.protocol.holdings import Held, Holdings, Target
from p2p.protocol.sizes import Sizes
from p2p.protocol.transfer_actions import Action, Ask, Drop, Replay, Unask
from p2p.protocol.transfer_messages import GetChunk, GetManifest, GetMean
from p2p.protocol.worklist import Worklist

LOCAL_REPLAYS = 8
"""Chunks that are brought up with our own means at a time."""
MANIFEST_SECONDS = 3.0
"""After so long, another donor is asked for a manifest, too: it is small, and much hangs on it."""
STEAL_FACTOR = 4.0
"""An idle donor is asked for what another owes if it would give it so many times sooner. Lower, and donors that are as
fast as each other send much of the same."""
STEAL_SECONDS = 0.5
"""And if it is owed for longer than this: less is not worth sending anything twice, and donors all stand still now and
then for as long."""
UNHEARD_SECONDS = 30.0
"""A chunk of a round that nobody has committed, for all we hear, is kept for so long."""


class FetchCore:
    """The machine; see the module's text. `done` when every chunk is proved to be the target's."""

    def __init__(self, sizes: Sizes, held: Sequence[Held], seed: bytes) -> None:
        """`held`: the chunks in the store, digests included. `seed`: makes newcomers prefer different donors."""
        assert len(held) == sizes.chunks
        self.sizes = sizes
        self.holdings = Holdings(held, sizes.replay_limit, sizes.moves)
        order = random.Random(seed)
        self._donors = DonorPool(order)
        self._work = Worklist(self.holdings, order.sample(range(len(held)), len(held)))
        self._next_id = order.getrandbits(48)
        self._actions: list[Action] = []
        self._wanted: list[int] = []
        self._local: frozenset[int] = frozenset()
        self._false_local: frozenset[int] = frozenset()
        self._height = -1
        self._left = 0
        """Requests up to this number were made while another history was ours."""
        self._now = 0.0

    # --- what the swarm says -------------------------------------------------------------------------------------

    def aim(
        self,
        target: Target,
        donors: Mapping[str, int],
        *,
        roots: Mapping[int, bytes],
        local: Collection[int],
        height: int,
        now: float,
    ) -> None:
        """What the swarm is at: may be called as often as one likes.

        `donors`: peers on the target's lineage that hold state, and the round each reports. `roots`: see Holdings.
        `local`: rounds that need no donor to be replayed. `height`: newest round that is known to be committed.
        """
        self._now, self._height = now, max(height, target.round)
        self._donors.see(donors, target.round - self.sizes.replay_limit)
        before = (self.holdings.target, self.holdings.roots, self._local)
        self.holdings.aim(target, roots)
        self._local = frozenset(local) - self._false_local
        if before != (self.holdings.target, self.holdings.roots, self._local):
            self._sort()

    def leave_history(self, fork: int) -> None:
        """The records after round `fork` were replaced by those of another history; `aim` must follow."""
        self.holdings.leave_history(fork)
        self._left = self._next_id

    def trusts(self, peer: str, now: float) -> bool:
        """False while a liar is being left alone."""
        donor = self._donors.get(peer)
        return donor is None or not donor.lies or now >= donor.until

    def poll(self, now: float) -> list[Action]:
        """What to do now. Each action is returned once."""
        self._now = now
        if self.holdings.target is not None:
            self._expire()
            self._give_up_means()
            self._ask_manifests()
            self._replay_local()
            self._assign()
        actions, self._actions = self._actions, []
        return actions

    @property
    def done(self) -> bool:
        return self.holdings.target is not None and self._work.empty

    # --- what came -----------------------------------------------------------------------------------------------

    def request(self, peer: str, request_id: int) -> Request | None:
        """The request that this answer belongs to, if it is awaited from that peer."""
        donor = self._donors.get(peer)
        return donor.outstanding.get(request_id) if donor else None

    def moved(self, peer: str, now: float) -> None:
        """Bytes of an answer come in from that donor."""
        if donor := self._donors.get(peer):
            donor.moved(now)

    def arrived(self, peer: str, request_id: int, now: float) -> Request | None:
        """The whole answer is here. Follow up with `manifest`, or with a verdict and `settle`. None: ignore it."""
        self._now = now
        donor = self._donors.get(peer)
        request = donor.answered(request_id, now) if donor else None
        if request is not None and request.index >= 0:
            for other in self._work.work_on(request.index):
                if owner := self._donors.get(other.peer):
                    owner.cancelled(other.id)
                    self._actions.append(Unask(other))
        return request

    def manifest(self, request: Request, digests: Sequence[bytes], root: bytes) -> None:
        """A manifest came, `root` is the root of its digests."""
        agreed = self.holdings.roots.get(request.round)
        if agreed is None or self._outdated(request):
            return
        if root != agreed:
            self.lied(request.peer, f"sent a manifest of round {request.round} with another root than agreed on")
            return
        lies = self.holdings.learn(request.round, digests)
        self._sort()
        for peer, reason in lies:
            self.lied(peer, reason)

    def judge_chunk(self, request: Request, round: int, digest: bytes) -> Held | None:
        """A chunk came; `digest` is of its bytes. Store what this returns, then `settle`; None: it is settled."""
        if self._outdated(request):
            self.settle(request.index, None)
            return None
        lie = self.holdings.judge_chunk(request.index, round, digest, request.round)
        if lie is None:
            return Held(round, digest, request.peer)
        self.settle(request.index, None)
        self.lied(request.peer, lie)
        return None

    def judge_replay(self, index: int, round: int, digest: bytes, request: Request | None) -> Held | None:
        """A chunk was brought to `round` by the mean that was asked for so; None: by our own. Else as `judge_chunk`."""
        if request is not None and self._outdated(request):
            self.settle(index, None)
            return None
        sender = request.peer if request else ""
        store, false_mean = self.holdings.judge_replay(index, round, digest)
        if store:
            return Held(round, digest, self.holdings.replay_sender(index, sender))
        if false_mean:
            self.false_mean(index, round, sender)
        else:
            self.settle(index, None)
        return None

    def _outdated(self, request: Request) -> bool:
        """Whether the answer may be of the history that we have left: it proves nothing, and is of no use."""
        return request.id <= self._left

    def false_mean(self, index: int, round: int, sender: str) -> None:
        """A slice is not of the committed mean, or no mean at all; settles its chunk."""
        if not sender:
            self._false_local |= {round}
            self._local -= {round}
        self.settle(index, None)
        if sender:
            self.lied(sender, f"sent a false mean of round {round} for chunk {index}")

    def settle(self, index: int, held: Held | None) -> None:
        """The store now holds this; None: what it held."""
        self._work.settle(index, held, self._now)
        if held is not None and held.round not in self.holdings.manifests and held.round not in self._wanted:
            self._wanted = self.holdings.wanted_manifests()

    def refused(self, peer: str, request_id: int, now: float) -> None:
        """NotAvailable came."""
        self._now = now
        donor = self._donors.get(peer)
        request = donor.cancelled(request_id) if donor else None
        if donor is None or request is None:
            return
        donor.moved(now)
        self._work.unask(request, now)
        if isinstance(request.message, GetChunk):
            self._donors.slow_down(donor, now)
        self._lacks(request)

    def _lacks(self, request: Request) -> None:
        """This donor will not give that mean or manifest; a chunk it may give at another time."""
        if not isinstance(request.message, GetChunk):
            kind: Kind = "mean" if isinstance(request.message, GetMean) else "manifest"
            self._donors.refuse(request.peer, kind, request.round, self._now)

    def lied(self, peer: str, reason: str) -> None:
        """This peer was caught at something; the answers it owes are asked of others.

        One that is not known to be on our history may have given what is true on its own: it is left alone for a
        moment only.
        """
        donor = self._donors.get(peer)
        if donor is not None and not donor.present:
            self._actions.append(Drop(peer, f"{reason}; it may have left our history"))
            self._unask(self._donors.strike(donor, self._now))
        elif (requests := self._donors.punish(peer, self._now)) is not None:
            self._actions.append(Drop(peer, reason, lied=True))
            self._unask(requests)

    def lost(self, peer: str, reason: str, now: float) -> None:
        """The link to this donor broke."""
        self._now = now
        if donor := self._donors.get(peer):
            self._strike(donor, reason, RETRY_SECONDS)

    # --- doubts --------------------------------------------------------------------------------------------------

    def _strike(self, donor: Donor, reason: str, seconds: float) -> None:
        if donor.outstanding:
            self._actions.append(Drop(donor.peer, reason))
        self._unask(self._donors.strike(donor, self._now, seconds))

    def _unask(self, requests: Sequence[Request]) -> None:
        for request in requests:
            self._work.unask(request, self._now)
            self._actions.append(Unask(request))

    def _expire(self) -> None:
        for donor in self._donors.all():
            silent = donor.silent_for(self._now)
            if silent is not None:
                for request in donor.outstanding.values():
                    self._lacks(request)
                self._strike(donor, f"silent for {silent:.1f} s with answers outstanding", 10 * RETRY_SECONDS)
        for index, since in list(self._work.undecided.items()):
            held = self.holdings.held[index]
            patience = UNHEARD_SECONDS if held.sender else 0.0
            if held.round > self._height and self._now >= since + patience:
                self._work.forget(index, self._now)
                if held.sender:
                    self.lied(held.sender, f"sent a chunk of round {held.round}, which nobody has committed")

    def _give_up_means(self) -> None:
        """Fetch chunks anew whose next mean every donor has refused."""
        for round in [round for round, waiting in self._work.behind.items() if waiting]:
            if round not in self._local and self._donors.all_refused("mean", round, self._now):
                self.holdings.gone.add(round)
                self._sort()

    def _settled(self, round: int) -> bool:
        """Whether this round's manifest is here, or will never be."""
        if round in self.holdings.manifests or round not in self.holdings.roots:
            return True
        return round != self._aimed_at() and self._donors.all_refused("manifest", round, self._now)

    def _sort(self) -> None:
        self._work.place_all(self._now)
        self._wanted = self.holdings.wanted_manifests()

    def _aimed_at(self) -> int:
        assert self.holdings.target is not None
        return self.holdings.target.round

    # --- requests ----------------------------------------------------------------------------------------------------

    def _ask_manifests(self) -> None:
        for round in self._wanted:
            asked = self._donors.asked_for_manifest(round)
            if round in self.holdings.manifests or any(self._now < r.sent_at + MANIFEST_SECONDS for r in asked):
                continue
            since = self._now - RETRY_SECONDS if round == self._aimed_at() else float("-inf")
            able = [
                donor
                for donor in self._donors.usable(self._now, round)
                if not self._donors.refused(donor.peer, "manifest", round, since)
                and all(donor.peer != request.peer for request in asked)
            ]
            if able:
                donor = self._donors.quickest(able, self.sizes.chunk_bytes)
                message = GetManifest(request=self._new_id(), round=round)
                self._ask(donor, message, -1, round, 32 * self.sizes.chunks)

    def _replay_local(self) -> None:
        """Start what needs no donor."""
        under_way = sum(not requests for requests in self._work.busy.values())
        ready = [(round, self._work.take_behind) for round in self._work.behind.keys() & self._local]
        ready += [(round, self._work.take_unmoved) for round in self._work.unmoved]
        for round, take in sorted(ready, key=lambda entry: entry[0]):
            if not (self._settled(round - 1) and self._settled(round)):
                continue
            while under_way < LOCAL_REPLAYS and (index := take(round)) is not None:
                self._work.work_on(index)
                self._actions.append(Replay(index, round))
                under_way += 1

    def _assign(self) -> None:
        """Give every donor work until its window is full."""
        ready = self._donors.usable(self._now)
        while ready:
            room = self.sizes.memory_bytes - self._donors.outstanding_bytes()
            ready = [donor for donor in ready if self._has_room(donor, room)]
            if not ready:
                return
            donor = self._donors.quickest(ready, self.sizes.chunk_bytes)
            if not (self._ask_mean(donor) or self._ask_chunk(donor) or self._steal(donor)):
                ready.remove(donor)

    def _has_room(self, donor: Donor, room: int) -> bool:
        if not donor.outstanding:
            return room > 0
        window = min(self.sizes.window_bytes, donor.window(self.sizes.chunk_bytes))
        return (
            min(room, window - donor.outstanding_bytes) >= self.sizes.chunk_bytes
            and len(donor.outstanding) < donor.most
        )

    def _ask_mean(self, donor: Donor) -> bool:
        for round in list(self._work.behind):
            able = donor.height >= round and not self._donors.refused(donor.peer, "mean", round)
            if not able or round in self._local or not (self._settled(round - 1) and self._settled(round)):
                continue
            index = self._work.take_behind(round)
            if index is not None:
                start, stop = self.sizes.moved(index, round)
                message = GetMean(request=self._new_id(), round=round, start=start, stop=stop)
                self._ask(donor, message, index, round, self.sizes.slice_bytes(start, stop))
                return True
        return False

    def _ask_chunk(self, donor: Donor) -> bool:
        if donor.height < self._aimed_at() or (index := self._work.take_missing()) is None:
            return False
        self._ask(donor, GetChunk(request=self._new_id(), index=index), index, donor.height, self.sizes.chunk_bytes)
        return True

    def _steal(self, donor: Donor) -> bool:
        """Ask an idle donor, too, for what a slower one would deliver much later."""
        if donor.outstanding or donor.height < self._aimed_at():
            return False
        typical = self._donors.typical_rate()
        rate = donor.rate or typical
        late: list[tuple[float, int, Request]] = []
        for requests in self._work.busy.values():
            owner = self._donors.get(requests[0].peer) if len(requests) == 1 else None
            if owner is None or owner is donor:
                continue
            request = requests[0]
            wait = max(owner.seconds_for(0, typical), self._now - request.sent_at)
            lacks = isinstance(request.message, GetMean) and self._donors.refused(donor.peer, "mean", request.round)
            if not lacks and wait > max(STEAL_SECONDS, STEAL_FACTOR * request.size / rate):
                late.append((wait, request.id, request))
        if not late:
            return False
        request = max(late)[2]
        message = request.message.model_copy(update={"request": self._new_id()})
        round = donor.height if isinstance(message, GetChunk) else request.round
        self._ask(donor, message, request.index, round, request.size)
        return True

    def _ask(self, donor: Donor, message: GetManifest | GetChunk | GetMean, index: int, round: int, size: int) -> None:
        request = Request(message.request, donor.peer, message, index, round, size, self._now)
        donor.asked(request)
        if index >= 0:
            self._work.ask(request)
        self._actions.append(Ask(request))

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id
