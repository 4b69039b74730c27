"""Fetching state: the shell around `FetchCore` and `ChainSync`, for a newcomer and for a member that fell behind.

Hashing, replaying and storing happen in threads; what came goes into the store only when the core believes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TypeVar

from ops.codec import BadCodes, Encoded
from ops.digest import SIZE, root
from p2p.listener import Listener
from p2p.protocol.chain import InvalidRecord, RecordChain, Verify, check_signatures, state_root_after
from p2p.protocol.chain_sync import ChainSync, OtherHistory, knows
from p2p.protocol.donors import Request
from p2p.protocol.holdings import EMPTY, NOTHING_HELD, Held, Source, Target, choose_target
from p2p.protocol.messages import GetRecords, Records, SignedRecord
from p2p.protocol.model import BadMessage
from p2p.protocol.sizes import Sizes
from p2p.protocol.transfer import FetchCore
from p2p.protocol.transfer_actions import Ask, Drop, Replay, Unask
from p2p.protocol.transfer_messages import Chunk, Manifest, MeanSlice, NotAvailable, Withdraw
from p2p.transfer.donor import Carrier
from p2p.transfer.progress import FetchProgress
from p2p.transfer.state import VALUE_BYTES, StateStore, chunk_digest, part_digests

TICK_SECONDS = 0.5
"""How often sources are looked at when nothing else happens."""
RECORDS_SECONDS = 20.0
"""Patience for an answer of records."""

T = TypeVar("T")
Answer = Manifest | Chunk | MeanSlice | NotAvailable | Records
Bulk = Manifest | Chunk | MeanSlice
Sources = Callable[[], Iterable[Source]]


@dataclass
class FetchResult:
    """What a fetch reached, and what it took."""

    round: int = EMPTY
    head: bytes = b""
    root: bytes = b""
    seconds: float = 0.0
    bytes: int = 0
    """Payload of the answers that were of use."""
    donors: dict[str, int] = field(default_factory=dict)
    """Of which so many came from each donor."""
    chunks: int = 0
    """Chunks that came whole."""
    replayed: int = 0
    """Steps by which chunks were brought up with means, ours or others'."""
    dropped: list[tuple[str, str]] = field(default_factory=list)
    """Donors that were left alone for a while, and why."""


def sizes_of(store: StateStore) -> Sizes:
    mean_bytes = store.codec.code_bytes(store.chunk_values) + 4 * store.codec.scale_count(store.chunk_values)
    chunk_bytes = VALUE_BYTES * store.chunk_values
    return Sizes(store.fragments, store.chunk_values, chunk_bytes, mean_bytes)


class Fetch:
    """One fetch, from `run` to its result. Nobody else writes to the store meanwhile; the chain may grow."""

    def __init__(
        self,
        carrier: Carrier,
        store: StateStore,
        chain: RecordChain,
        pool: Executor,
        verify: Verify,
        now: Callable[[], float],
        seed: bytes,
        listener: Listener,
        sizes: Sizes | None = None,
    ) -> None:
        self._carrier, self._store, self._chain, self._pool = carrier, store, chain, pool
        self._verify, self._now, self._seed, self._listener = verify, now, seed, listener
        self._sizes = sizes or sizes_of(store)
        self._core = FetchCore(self._sizes, [NOTHING_HELD] * self._sizes.chunks, seed)
        self._result = FetchResult()
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: BaseException | None = None
        self._open: dict[int, tuple[str, Encoded | memoryview]] = {}
        """Memory of answers that are coming in, and from whom, by request."""
        self._records: tuple[str, int, asyncio.Future[tuple[SignedRecord, ...]]] | None = None
        self._syncing = False
        self._history: tuple[bytes, int, dict[int, bytes], frozenset[int]] = (b"", EMPTY, {}, frozenset())

    async def run(self, sources: Sources) -> FetchResult:
        """Until every chunk is at the newest state that most sources report, verified. However long that takes."""
        begin = self._now()
        held = await asyncio.gather(*(self._thread(self._hash_own, index) for index in range(self._sizes.chunks)))
        self._core = FetchCore(self._sizes, held, self._seed)
        try:
            while not self._step(list(sources())):
                await self._woken()
                if self._failed is not None:
                    raise self._failed
        finally:
            await self._stop()
        target = self._core.holdings.target
        assert target is not None
        digests = await self._store.digests()
        assert (digests.round, digests.root) == (target.round, target.root), "the store lost what it was given"
        self._result.round, self._result.head, self._result.root = target.round, target.head, target.root
        self._result.seconds = self._now() - begin
        return self._result

    @property
    def progress(self) -> FetchProgress:
        held, target = self._core.holdings.held, self._core.holdings.target
        chunks = sum(one.round != EMPTY for one in held)
        current = sum(target is not None and one.round == target.round for one in held)
        return FetchProgress(chunks, current, len(held), self._result.bytes, len(self._result.donors))

    # --- the loop ----------------------------------------------------------------------------------------------------

    def _step(self, sources: Sequence[Source]) -> bool:
        """Aim at the newest target, do what the core wants; True when it is reached."""
        believed = [source for source in sources if source.root and self._core.trusts(source.peer, self._now())]
        target = self._choose(believed)
        if target is not None and not self._syncing:
            if knows(self._chain, target.round, target.head):
                self._aim(target, believed)
            else:
                self._syncing = True
                self._spawn(self._sync(target, believed))
        elif (current := self._core.holdings.target) and knows(self._chain, current.round, current.head):
            self._aim(current, believed)
        for action in self._core.poll(self._now()):
            if isinstance(action, Ask):
                self._ask(action.request)
            elif isinstance(action, Unask):
                self._carrier.send(action.request.peer, Withdraw(request=action.request.id))
            elif isinstance(action, Replay):
                self._spawn(self._replay(action.index, action.round, self._store.means.get(action.round), None))
            else:
                self._drop(action)
        return self._core.done and not self._syncing and target in (None, self._core.holdings.target)

    def _choose(self, sources: Sequence[Source]) -> Target | None:
        """What most report; but while anybody bears out what we aim at, not an earlier state of the same history."""
        target, current = choose_target(sources), self._core.holdings.target
        if target is None or current is None or target.round >= current.round:
            return target
        still = any(Target(source.height, source.head, source.root) == current for source in sources)
        return current if still and knows(self._chain, current.round, current.head) else target

    def _aim(self, target: Target, sources: Sequence[Source]) -> None:
        roots, weightless = self._known_history(target)
        donors = {source.peer: source.height for source in sources if self._fits(source, target)}
        self._core.aim(
            target,
            donors,
            roots=roots,
            local=weightless | self._store.means.keys(),
            height=self._chain.tip.height,
            now=self._now(),
        )

    def _known_history(self, target: Target) -> tuple[dict[int, bytes], frozenset[int]]:
        """(state roots after the last rounds, those of the last rounds that had no weight), from the records."""
        head = self._chain.tip.head
        if self._history[:2] != (head, target.round):
            oldest = max(-1, target.round - self._sizes.replay_limit)
            roots = {round: state_root_after(self._chain, round) for round in range(oldest, target.round)}
            weightless = {r for r in range(oldest + 1, target.round + 1) if not self._chain.record(r).record.steps}
            known = {round: root for round, root in roots.items() if root}
            self._history = (head, target.round, known, frozenset(weightless))
        return self._history[2], self._history[3]

    def _fits(self, source: Source, target: Target) -> bool:
        """Whether the source can be a donor: its head is of our history, which one that is ahead has yet to show."""
        if source.height == target.round:
            return (source.head, source.root) == (target.head, target.root)
        return knows(self._chain, source.height, source.head)

    def _ask(self, request: Request) -> None:
        if not self._carrier.send(request.peer, request.message):
            self._core.lost(request.peer, "no link", self._now())

    def _drop(self, drop: Drop) -> None:
        self._result.dropped.append((drop.peer, drop.reason))
        self._listener("donor_dropped", {"peer": drop.peer, "reason": drop.reason})

    # --- from the links -----------------------------------------------------------------------------------------------

    def open_payload(self, peer: str, message: Bulk, size: int) -> Sequence[memoryview] | None:
        """Memory for an answer that is awaited; None if it is not (any more). Raises BadMessage."""
        request = self._core.request(peer, message.request)
        if request is None:
            return None
        if message.request in self._open:
            raise BadMessage(f"{message.KIND}: two answers to one question")
        memory: Encoded | memoryview
        if isinstance(message, MeanSlice):
            bounds = self._sizes.moved(request.index, request.round) if request.index >= 0 else (0, 0)
            fits = request.message.KIND == "get-mean" and (message.start, message.stop) == bounds
            fits = fits and message.round == request.round
            memory = Encoded.allocate(self._store.codec, bounds[1] - bounds[0])
        elif isinstance(message, Chunk):
            fits = request.message.KIND == "get-chunk" and message.index == request.index
            start, stop = self._sizes.bounds(message.index) if fits else (0, 0)
            memory = memoryview(bytearray(VALUE_BYTES * (stop - start)))
        else:
            fits = request.message.KIND == "get-manifest" and message.round == request.round
            memory = memoryview(bytearray(SIZE * self._sizes.chunks))
        if not fits or memory.nbytes != size:
            raise BadMessage(f"{message.KIND} of {size} bytes: not what was asked for")
        self._open[message.request] = (peer, memory)
        self._core.moved(peer, self._now())
        return memory.buffers() if isinstance(memory, Encoded) else [memory]

    def on_message(self, peer: str, message: Answer) -> None:
        """An answer is here, its payload complete in the memory that `open_payload` gave."""
        if isinstance(message, Records):
            if self._records is not None and self._records[:2] == (peer, message.start):
                future = self._records[2]
                if not future.done():
                    future.set_result(message.records)
        elif isinstance(message, NotAvailable):
            self._core.refused(peer, message.request, self._now())
        else:
            _, memory = self._open.pop(message.request, (peer, None))
            request = self._core.arrived(peer, message.request, self._now()) if memory is not None else None
            if request is not None and memory is not None:
                self._take(request, message, memory)
        self._wake.set()

    def look(self) -> None:
        """The sources say something new."""
        self._wake.set()

    def link_down(self, peer: str, reason: str) -> None:
        self._open = {request: entry for request, entry in self._open.items() if entry[0] != peer}
        self._core.lost(peer, f"link lost: {reason}", self._now())
        if self._records is not None and self._records[0] == peer and not self._records[2].done():
            self._records[2].set_exception(ConnectionError(reason))
        self._wake.set()

    # --- answers ---------------------------------------------------------------------------------------------------

    def _take(self, request: Request, message: Bulk, memory: Encoded | memoryview) -> None:
        self._result.bytes += memory.nbytes
        self._result.donors[request.peer] = self._result.donors.get(request.peer, 0) + memory.nbytes
        if isinstance(memory, Encoded):
            self._spawn(self._take_mean(request, memory))
        elif isinstance(message, Chunk):
            self._spawn(self._take_chunk(request, message.round, memory))
        else:
            digests = [bytes(memory[start : start + SIZE]) for start in range(0, memory.nbytes, SIZE)]
            self._core.manifest(request, digests, root(digests))

    async def _take_chunk(self, request: Request, round: int, data: memoryview) -> None:
        digest = chunk_digest(await self._thread(part_digests, data))
        await self._store_chunk(request.index, self._core.judge_chunk(request, round, digest), data)
        self._result.chunks += 1

    async def _take_mean(self, request: Request, mean: Encoded) -> None:
        try:
            await self._thread(mean.check)
        except BadCodes:
            self._core.false_mean(request.index, request.round, request.peer)
        else:
            await self._replay(request.index, request.round, mean, request)

    async def _replay(self, index: int, round: int, mean: Encoded | None, request: Request | None) -> None:
        """`mean` is the slice that was asked for, or our own copy of the round's whole fragment; None for a round
        without weight."""
        if mean is not None and request is None:
            start, stop = self._sizes.moved(index, round)
            first, _ = self._store.fragments.span(round)
            mean = mean.slice(start - first, stop - first) if start < stop else None
        data = await self._thread(self._store.replayed, index, round, mean)
        digest = chunk_digest(await self._thread(part_digests, data))
        await self._store_chunk(index, self._core.judge_replay(index, round, digest, request), data)
        self._result.replayed += 1

    async def _store_chunk(self, index: int, held: Held | None, data: bytearray | memoryview) -> None:
        if held is not None:
            await self._thread(self._store.write, index, held.round, data)
            self._core.settle(index, held)

    def _hash_own(self, index: int) -> Held:
        if self._store.version(index) == EMPTY:
            return NOTHING_HELD
        round, data = self._store.read(index)
        return Held(round, chunk_digest(part_digests(data)))

    # --- records ------------------------------------------------------------------------------------------------------

    async def _sync(self, target: Target, sources: Sequence[Source]) -> None:
        """Bring the chain to the target's head, with the help of one of those who report it."""
        try:
            for source in sources:
                if (source.height, source.head) == (target.round, target.head) and await self._sync_from(
                    source.peer, target
                ):
                    return
            await asyncio.sleep(TICK_SECONDS)
        finally:
            self._syncing = False

    async def _sync_from(self, peer: str, target: Target) -> bool:
        sync, height = ChainSync(self._chain, target), self._chain.tip.height
        lied = True
        try:
            while not sync.done:
                records = await self._ask_records(peer, sync.question())
                await self._thread(self._check_signatures, records)
                sync.take(records)
        except OtherHistory as error:
            self._drop(Drop(peer, f"sent {error}"))
            self._core.lost(peer, "no records", self._now())
        except InvalidRecord as error:
            self._core.lied(peer, f"sent {error}")
        except (ConnectionError, TimeoutError, LookupError) as error:
            lied = False
            self._drop(Drop(peer, f"no records: {error or 'no answer'}"))
            self._core.lost(peer, "no records", self._now())
        finally:
            if not sync.done:
                sync.undo(lied=lied)
        if sync.done and sync.forked:
            replaced = {"after": sync.fork, "records": height - sync.fork, "peer": peer}
            self._listener("history_replaced", replaced)
            self._store.forget_history()
            self._core.leave_history(sync.fork)
        return sync.done

    async def _ask_records(self, peer: str, question: GetRecords) -> tuple[SignedRecord, ...]:
        future: asyncio.Future[tuple[SignedRecord, ...]] = asyncio.get_running_loop().create_future()
        self._records = (peer, question.start, future)
        try:
            if not self._carrier.send(peer, question):
                raise ConnectionError("no link")
            async with asyncio.timeout(RECORDS_SECONDS):
                return await future
        finally:
            self._records = None

    def _check_signatures(self, records: Sequence[SignedRecord]) -> None:
        for signed in records:
            check_signatures(signed, self._verify)

    # --- tasks --------------------------------------------------------------------------------------------------------

    async def _thread(self, work: Callable[..., T], *arguments: object) -> T:
        """In the pool; a cancellation waits for the thread, so that it writes nothing afterwards."""
        job = asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)
        try:
            return await asyncio.shield(job)
        except asyncio.CancelledError:
            await asyncio.wait([job])
            raise

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._failed = task.exception()
        self._wake.set()

    async def _woken(self) -> None:
        try:
            async with asyncio.timeout(TICK_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    async def _stop(self) -> None:
        """Nothing of this fetch touches the store afterwards."""
        while self._tasks:  # answers that come while we wait for threads start new ones
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
