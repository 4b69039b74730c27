"""State transfer as the node wires it: one donor, and at times one fetch, over the same links."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

from p2p.listener import Listener, nobody
from p2p.protocol.chain import RecordChain, Verify
from p2p.protocol.messages import GetRecords, Records
from p2p.protocol.serving import DeskLimits, Question
from p2p.protocol.sizes import Sizes
from p2p.protocol.transfer_messages import (
    Chunk,
    GetChunk,
    GetManifest,
    GetMean,
    Manifest,
    MeanSlice,
    NotAvailable,
    Withdraw,
)
from p2p.transfer.donor import Carrier, Donor
from p2p.transfer.fetch import Fetch, FetchResult, Sources
from p2p.transfer.keeper import StateKeeper
from p2p.transfer.progress import FetchProgress
from p2p.transfer.state import StateStore

LOOK_SECONDS = 1.0
"""How often a node without state looks whether somebody has it."""

TransferMessage = Question | Withdraw | Records | Manifest | Chunk | MeanSlice | NotAvailable
"""The messages that belong here: `isinstance(message, TransferMessage)`."""
TransferPayload = Manifest | Chunk | MeanSlice
"""Those of them that have a payload."""


class Transfer:
    """Wire `open_payload`, `handle` and `link_down` to the mesh. Use it on the event loop."""

    def __init__(
        self,
        carrier: Carrier,
        store: StateStore,
        chain: RecordChain,
        pool: Executor,
        *,
        me: str,
        verify: Verify,
        limits: DeskLimits | None = None,
        sizes: Sizes | None = None,
        now: Callable[[], float] = time.monotonic,
        listener: Listener = nobody,
        keeper: StateKeeper | None = None,
        reducing: Callable[[], bool] = lambda: False,
    ) -> None:
        """`pool` runs reads, hashes and replays. `limits` bounds what is given, `sizes` what is asked for. `keeper` has
        what may still be on disk from before. `reducing`: whether a reduce goes on here; newcomers give way to it.

        The listener hears of `donor_dropped` (peer, reason), `history_replaced` (after, records, peer) and
        `answer_dropped` (peer, reason).
        """
        self._carrier, self._store, self._chain, self._pool = carrier, store, chain, pool
        self._me, self._verify, self._now, self._sizes = me, verify, now, sizes
        self._listener, self._keeper = listener, keeper
        self._donor = Donor(carrier, store, chain, pool, now, limits or DeskLimits(), listener, reducing)
        self._fetch: Fetch | None = None

    @property
    def bytes_sent(self) -> int:
        """Payload given to newcomers since the start."""
        return self._donor.bytes_sent

    @property
    def progress(self) -> FetchProgress | None:
        """Of the fetch that goes on, if one does."""
        return self._fetch.progress if self._fetch is not None else None

    def open_payload(self, peer: str, message: TransferPayload, size: int) -> Sequence[memoryview] | None:
        """Where an answer's payload goes; None: nobody waits for it (any more). Raises BadMessage."""
        return self._fetch.open_payload(peer, message, size) if self._fetch else None

    def handle(self, peer: str, message: TransferMessage) -> None:
        """A message is complete, and its payload, if it has one, in the memory that we gave. Raises BadMessage."""
        if isinstance(message, GetRecords | GetManifest | GetChunk | GetMean):
            self._donor.handle(peer, message)
        elif isinstance(message, Withdraw):
            self._donor.withdraw(peer, message)
        elif self._fetch is not None:
            self._fetch.on_message(peer, message)

    def link_down(self, peer: str, reason: str) -> None:
        self._donor.link_down(peer)
        if self._fetch is not None:
            self._fetch.link_down(peer, reason)

    def look(self) -> None:
        """The sources say something new: a fetch, if there is one, looks at them at once."""
        if self._fetch is not None:
            self._fetch.look()

    async def fetch(self, sources: Sources) -> FetchResult:
        """Bring chain and store to the newest state that most of `sources()` report: members, with what their last
        Status said. Returns when every chunk is verified; until then waits for sources, donors, links. May be
        cancelled and called again: what is held by then is kept.

        Meanwhile the store belongs to the fetch (do not `apply`; `OuterState.keep` spares the download of a mean that
        we were sent), and state is not given to others. Commits may be appended to the chain.
        """
        assert self._fetch is None, "one fetch at a time"
        self._donor.closed_because = "its own state is not whole"
        if self._keeper is not None:
            await self._keeper.restore()
        fetch = Fetch(
            self._carrier,
            self._store,
            self._chain,
            self._pool,
            self._verify,
            self._now,
            self._me.encode(),
            self._listener,
            self._sizes,
        )
        self._fetch = fetch
        try:
            result = await fetch.run(sources)
        finally:
            self._fetch = None
        self._donor.closed_because = ""
        return result

    async def fetch_while(self, worthwhile: Callable[[], bool], sources: Sources) -> FetchResult | None:
        """`fetch`, but given up (None) when `worthwhile`, which is asked every LOOK_SECONDS, says so."""
        fetching = asyncio.ensure_future(self.fetch(sources))
        try:
            while not (await asyncio.wait({fetching}, timeout=LOOK_SECONDS))[0]:
                if not worthwhile():
                    return None
            return fetching.result()
        finally:
            fetching.cancel()
            await asyncio.wait({fetching})

    def store_is_whole(self) -> None:
        """A fetch that was given up has left a whole state: give it to others again."""
        self._donor.closed_because = ""

    async def close(self) -> None:
        """Stop answering."""
        await self._donor.close()
