"""A virtual node's fetch: the shell that p2p.transfer.fetch is, around the same cores, with content for bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from p2p.protocol.chain import Verify, state_root_after
from p2p.protocol.chain_sync import ChainSync, knows
from p2p.protocol.donors import Request
from p2p.protocol.fragments import Fragments
from p2p.protocol.holdings import Held, Source, Target, choose_target
from p2p.protocol.messages import Records
from p2p.protocol.need import Need
from p2p.protocol.sizes import Sizes
from p2p.protocol.transfer import FetchCore
from p2p.protocol.transfer_actions import Ask, Drop, Replay, Unask
from p2p.protocol.transfer_messages import Chunk, Manifest, MeanSlice, NotAvailable, Withdraw
from swarm.simulate.virtual.content import CHUNKS, root_of
from swarm.simulate.virtual.donor import CHUNK_BYTES, MEAN_BYTES, Courier
from swarm.simulate.virtual.records_fetch import RecordsFetch
from swarm.simulate.virtual.timeline import ticks

TICK = ticks(0.5)
HASH_TICKS = 2
"""What hashing, replaying or storing a chunk takes: other things happen meanwhile."""

Answer = Manifest | Chunk | MeanSlice | NotAvailable | Records


def sizes_for(fragments: Fragments) -> Sizes:
    """Of a vector in these fragments, and in CHUNKS chunks."""
    return Sizes(fragments, -(-fragments.count // CHUNKS), CHUNK_BYTES, MEAN_BYTES)


class VirtualFetch:
    """One fetch; `done(target)` is called when every chunk is verified, `done(None)` when there is no need any more."""

    def __init__(
        self,
        node: Courier,
        sizes: Sizes,
        verify: Callable[[str, bytes, bytes], bool],
        seed: bytes,
        need: Need,
        done: Callable[[Target | None], None],
        dropped: Callable[[Drop], None],
    ) -> None:
        self._node, self._sizes, self._need, self._done, self._dropped = node, sizes, need, done, dropped
        self._verify: Verify = lambda peer, _domain, data, signature: verify(peer, data, signature)
        store = node.store
        held = [Held(round, chunk) for round, chunk in zip(store.rounds, store.chunks, strict=True)]
        self._core = FetchCore(sizes, held, seed)
        self._sync: RecordsFetch | None = None
        self.ended = False
        node.after(0, self._tick)

    def stop(self) -> None:
        self.ended = True

    # --- the loop ---

    def _tick(self, _one: object, _other: object) -> None:
        if self.ended:
            return
        if not self._need.goes_on(self._node.now()):
            self.ended = True
            self._done(None)
            return
        self._step()
        self._node.after(TICK, self._tick)

    def _step(self) -> None:
        now, core = self._node.now(), self._core
        believed = [source for source in self._need.sources(now) if source.root and core.trusts(source.peer, now)]
        target = self._choose(believed)
        if target is not None and self._sync is None:
            if knows(self._node.chain, target.round, target.head):
                self._aim(target, believed)
            else:
                peers = [s.peer for s in believed if (s.height, s.head) == (target.round, target.head)]
                self._sync = RecordsFetch(self._node, core, target, peers, self._verify, self._synced)
        elif (current := core.holdings.target) and knows(self._node.chain, current.round, current.head):
            self._aim(current, believed)
        for action in core.poll(now):
            if isinstance(action, Ask):
                if not self._node.send(action.request.peer, action.request.message):
                    core.lost(action.request.peer, "no link", now)
            elif isinstance(action, Unask):
                self._node.send(action.request.peer, Withdraw(request=action.request.id))
            elif isinstance(action, Replay):
                mean = self._node.store.means.get(action.round)
                self._node.after(HASH_TICKS, self._replay, (action.index, action.round, None), mean)
            else:
                self._dropped(action)
        if core.done and self._sync is None and target in (None, core.holdings.target) and not self.ended:
            self.ended = True
            assert core.holdings.target is not None
            self._done(core.holdings.target)

    def _choose(self, sources: Sequence[Source]) -> Target | None:
        target, current = choose_target(sources), self._core.holdings.target
        if target is None or current is None or target.round >= current.round:
            return target
        still = any(Target(source.height, source.head, source.root) == current for source in sources)
        return current if still and knows(self._node.chain, current.round, current.head) else target

    def _aim(self, target: Target, sources: Sequence[Source]) -> None:
        chain = self._node.chain
        oldest = max(-1, target.round - self._sizes.replay_limit)
        roots = {round: state_root_after(chain, round) for round in range(oldest, target.round)}
        weightless = {r for r in range(oldest + 1, target.round + 1) if not chain.record(r).record.steps}
        donors = {source.peer: source.height for source in sources if self._fits(source, target)}
        self._core.aim(
            target,
            donors,
            roots={round: root for round, root in roots.items() if root},
            local=frozenset(weightless) | self._node.store.means.keys(),
            height=chain.tip.height,
            now=self._node.now(),
        )

    def _fits(self, source: Source, target: Target) -> bool:
        if source.height == target.round:
            return (source.head, source.root) == (target.head, target.root)
        return knows(self._node.chain, source.height, source.head)

    # --- answers ---

    def on_message(self, peer: str, message: Answer, content: object) -> None:
        now, core = self._node.now(), self._core
        if isinstance(message, Records):
            if self._sync is not None:
                self._sync.on_records(peer, message)
        elif isinstance(message, NotAvailable):
            core.refused(peer, message.request, now)
        else:
            request = core.arrived(peer, message.request, now)
            if request is not None:
                self._take(request, message, content)
        if not self.ended:
            self._step()

    def _take(self, request: Request, message: Manifest | Chunk | MeanSlice, content: object) -> None:
        if isinstance(message, Manifest):
            assert isinstance(content, tuple)
            self._core.manifest(request, content, root_of(content))
        elif isinstance(message, Chunk):
            self._node.after(HASH_TICKS, self._judge, (request, message.round), content)
        else:
            self._node.after(HASH_TICKS, self._replay, (request.index, request.round, request), content)

    def _judge(self, asked: tuple[Request, int], digest: bytes) -> None:
        if not self.ended:
            request, round = asked
            self._keep(request.index, self._core.judge_chunk(request, round, digest))

    def _replay(self, job: tuple[int, int, Request | None], mean: bytes | None) -> None:
        if not self.ended:
            index, round, request = job
            digest = self._node.store.replayed(index, round, mean)
            self._keep(index, self._core.judge_replay(index, round, digest, request))

    def _keep(self, index: int, held: Held | None) -> None:
        if held is not None:
            self._node.store.write(index, held.round, held.digest)
            self._core.settle(index, held)
        self._step()

    def link_down(self, peer: str, reason: str) -> None:
        self._core.lost(peer, f"link lost: {reason}", self._node.now())
        if self._sync is not None:
            self._sync.link_down(peer)
        if not self.ended:
            self._step()

    def _synced(self, sync: ChainSync) -> None:
        """The chain has reached the target, or nobody could bring it there for now."""
        self._sync = None
        if sync.done and sync.forked:
            self._node.store.forget_history()
            self._core.leave_history(sync.fork)
