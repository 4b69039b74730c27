"""A node's membership in a run: the asyncio shell around the committed round, the reduce and the state transfer.

`Member` turns what the mesh reports into inputs of `RoundCore` and carries out the effects that come back. A node uses
three verbs: `sync` (hold the newest state), `commit_round` (take part in a round) and `leave`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

from ops.codec import Encoded
from p2p.channel.hello import Hello
from p2p.channel.mesh import Mesh
from p2p.errors import SwarmError
from p2p.identity import Identity, verify
from p2p.listener import Listener
from p2p.outcome import Committed, Missed, Outcome
from p2p.protocol import ledger
from p2p.protocol.ballot import Ballot
from p2p.protocol.chain import SIGNATURE_DOMAIN, RecordChain
from p2p.protocol.effects import Apply, Behind, CancelReduce, Effect, Note, Send, StartReduce
from p2p.protocol.holdings import EMPTY
from p2p.protocol.message import Message
from p2p.protocol.messages import Commit, Go, Mean, Part, Plan, Prepare, Promise, Records, SignedRecord, Status
from p2p.protocol.model import BadMessage, Range
from p2p.protocol.need import Need
from p2p.protocol.plan import Head, Rules
from p2p.protocol.round import RoundCore
from p2p.reduce.reducer import Reducer, Source
from p2p.transfer.fetch import FetchResult
from p2p.transfer.state import OuterState, whole_at
from p2p.transfer.transfer import LOOK_SECONDS, Transfer, TransferMessage, TransferPayload

log = logging.getLogger(__name__)

TICK_SECONDS = 0.25
VERIFIED = 4096
"""Signatures whose check is remembered: a coordinator looks at every vote again whenever one more comes in."""
FINISH_SECONDS = 6.0
"""How long a leaving member stays for a round that the others are in the middle of."""


class Stranded(SwarmError):
    """The state that we held is partly replaced, and nobody is left who could give the rest of the new one."""


class Member:
    """One node in one run. All methods belong to the event loop."""

    def __init__(
        self,
        identity: Identity,
        rules: Rules,
        store: OuterState,
        chain: RecordChain,
        listener: Listener,
    ) -> None:
        self.me = identity.peer_id
        self.rules = rules
        self.behind = asyncio.Event()
        """Set while the swarm is ahead of us: training goes on for nothing."""
        self.inner_step = 0
        """Progress of training, told to the others with the next heartbeat."""
        self._store = store
        self._chain = chain
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._core = RoundCore(
            self.me,
            rules,
            lambda digest: identity.sign(SIGNATURE_DOMAIN, digest),
            lru_cache(VERIFIED)(lambda peer, digest, signature: verify(peer, SIGNATURE_DOMAIN, digest, signature)),
            lambda: self._reducer.progress(),
            self._loop.time(),
        )
        self._need = Need(self._core, chain, lambda round: whole_at(store, round), lambda: store.version(0) == EMPTY)
        self._outcome: asyncio.Future[Outcome] | None = None
        self._ready_at = 0.0
        self._linked: set[str] = set()
        self._fetching = False
        self._changed = asyncio.Event()
        self._reducing: asyncio.Task[None] | None = None
        self._applying: asyncio.Task[None] | None = None
        self._mean: tuple[Ballot, Encoded] | None = None
        """Of our newest vote."""
        self._tasks: set[asyncio.Task[None]] = set()

    def wire(self, mesh: Mesh, reducer: Reducer, transfer: Transfer) -> None:
        """Connect the parts that need this member as their handler; once, before the mesh listens."""
        self._mesh, self._reducer, self._transfer = mesh, reducer, transfer
        self._spawn(self._tick())

    def begin_at(self, head: Head) -> None:
        """Before `wire`: the store holds the state of this head. `sync` finds out whether it is the newest."""
        self._core.begin_at(head, self._loop.time())

    # --- what a node does ---

    @property
    def head(self) -> Head:
        return self._core.board.head

    @property
    def assignment(self) -> tuple[Range, ...]:
        """The samples we may train on in the round in progress; empty for a newcomer."""
        return ledger.assigned_to(self.head.ledger, self.me)

    @property
    def rank(self) -> int | None:
        """Our rank in the view of the round in progress."""
        view = self.head.view
        return view.index(self.me) if self.me in view else None

    @property
    def first_done(self) -> bool:
        """Whether nobody else is ready for the round in progress, as far as we have heard."""
        return not self._core.board.ready(self._loop.time())

    def absent(self) -> set[str]:
        """Members of our head's view that are not here; none of them if somebody here holds state: the run goes on."""
        return self._core.board.absent(self._loop.time())

    async def gather(self) -> None:
        """Return when nobody is absent."""
        while self.absent():
            await self._change()

    async def company(self) -> None:
        """Return when somebody here holds state."""
        while not self._need.others_hold_state(self._loop.time()):
            await self._change()

    async def sync(self, may_found: bool) -> FetchResult | None:
        """Return when we hold the newest state: fetched from donors, or the genesis (then None).

        Genesis is for those who may found a run, or who meet a founder. Raises Stranded when what we held is partly
        replaced, and all who could give the rest are gone.
        """
        if self._applying is not None:
            await self._applying
        self.behind.clear()
        while True:
            now = self._loop.time()
            if self._need.stranded(now):
                raise Stranded("the donors of a fetch are gone, and what we held before it is partly replaced")
            if self._need.donors(now) and (result := await self._fetch()) is not None:
                return result
            if self._need.may_begin(may_found, self._loop.time()):
                self._drop_records_after(self.head.height)
                state = await self._store.digests()
                self._transfer.store_is_whole()
                self._run(self._core.on_synced(self.head, state.root, self._loop.time()))
                return None
            await self._change()

    async def _change(self) -> None:
        """Return when anything may be different."""
        self._changed.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), LOOK_SECONDS)

    def _drop_records_after(self, round: int) -> None:
        """They are of a former life, or of donors that are gone."""
        records = self._chain.tip.height - round
        self._chain.truncate(round)
        if records:
            why = f"{records} records after round {round} dropped: nobody has the state that they led to"
            self._listener("notice", {"message": why})

    async def commit_round(
        self, tokens: int, used: tuple[Range, ...], source: Source | None, earlier: int = 0
    ) -> Outcome:
        """Take part in the round in progress and return when it is committed, or went on without us.

        `tokens` 0 and `source` None: only receive. `source` counts the values of the round's fragment from 0; the
        vector behind it must stay as it is meanwhile. `earlier`: tokens of earlier rounds whose work is in it, too.
        """
        if self.behind.is_set():
            return Missed("the swarm is ahead")
        self._ready_at = self._loop.time()
        self._outcome = self._loop.create_future()
        round = self._core.board.round
        codes = self._reducer.begin_round(round, source, self.rules.fragments.size(round))
        self._run(self._core.on_ready(tokens, used, codes, self._ready_at, earlier))
        return await self._outcome

    async def leave(self) -> None:
        """Finish what the others wait for, then say that we go."""
        if self._outcome is not None and not self._outcome.done() and self._core.participant.promised is not None:
            await asyncio.wait({self._outcome}, timeout=FINISH_SECONDS)
            if not self._outcome.done():
                message = f"leaves round {self._core.board.round} undecided: it took more than {FINISH_SECONDS:g} s"
                self._listener("notice", {"message": message})
        self._run(self._core.leave(self._loop.time()))

    async def close(self) -> None:
        for task in filter(None, (*self._tasks, self._reducing, self._applying)):
            task.cancel()
        await self._reducer.close()
        await self._transfer.close()

    # --- from the mesh ---

    def open_payload(self, peer: str, message: Message, size: int) -> Sequence[memoryview] | None:
        if peer not in self._linked:
            raise BadMessage("an observer sends nothing")
        if isinstance(message, Part | Mean):
            return self._reducer.open_payload(peer, message, size)
        if isinstance(message, TransferPayload):
            return self._transfer.open_payload(peer, message, size)
        raise BadMessage(f"{message.KIND} has no payload")

    def on_message(self, peer: str, message: Message, payload: Sequence[memoryview] | None) -> None:
        if peer not in self._linked:
            raise BadMessage("an observer sends nothing")
        match message:
            case Go():
                self._reducer.on_go(peer, message)
            case Part() | Mean():
                self._reducer.on_payload(peer, message, payload)
            case Records() if self._fetching:
                self._transfer.handle(peer, message)
            case Status() | Prepare() | Plan() | Commit() | Promise() | Records():
                self._run(self._core.on_message(peer, message, self._loop.time()))
                self._changed.set()
                self._transfer.look()
            case _:
                assert isinstance(message, TransferMessage)
                self._transfer.handle(peer, message)

    def on_link_up(self, peer: str, hello: Hello) -> None:
        if hello.role == "observer":
            self._show(peer)
            return
        self._linked.add(peer)
        self._listener("peer_up", {"peer": peer})
        self._reducer.on_link_up(peer)
        self._run(self._core.on_link_up(peer, self._loop.time()))

    def on_link_down(self, peer: str, reason: str) -> None:
        if peer not in self._linked:
            return
        self._linked.remove(peer)
        self._listener("peer_down", {"peer": peer, "reason": reason})
        self._reducer.on_link_down(peer)
        self._transfer.link_down(peer, reason)
        self._run(self._core.on_link_down(peer, self._loop.time(), reason))

    def on_unreachable(self, peer: str, reason: str) -> None:
        self._listener("unreachable", {"peer": peer, "reason": reason})
        self._run(self._core.on_unreachable(peer, self._loop.time(), reason))

    def on_refused(self, peer: str, reason: str) -> None:
        self._listener("refused", {"peer": peer, "reason": reason})

    def _show(self, observer: str) -> None:
        """Tell somebody who only looks: our status, and the newest record."""
        self._mesh.send(observer, self._core.board.statuses[self.me])
        if self.head.record is not None:
            self._mesh.send(observer, Commit(signed=self._chain.record(self.head.height)))

    # --- effects ---

    def _run(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(to, message):
                    for peer in tuple(self._linked) if to is None else (to,):
                        self._mesh.send(peer, message)
                case StartReduce(plan):
                    self._cancel_reduce()
                    self._reducing = self._spawn(self._reduce(plan))
                case CancelReduce():
                    self._cancel_reduce()
                case Apply(signed, ballot):
                    self._applying = self._spawn(self._apply(signed, ballot))
                case Behind(reason):
                    self._miss(reason)
                case Note(event, fields):
                    self._listener(event, dict(fields))

    def _cancel_reduce(self) -> None:
        if self._reducing is not None:
            self._reducing.cancel()
            self._reducing = None

    async def _reduce(self, plan: Plan) -> None:
        try:
            result = await self._reducer.reduce(plan)
        except BadMessage as error:  # the coordinator finds out by its votes
            rank = self._core.board.rank
            coordinator = next((peer for peer in plan.draft.members if rank(peer) == plan.ballot.rank), "")
            fields = {"round": plan.ballot.round, "peer": coordinator, "reason": str(error)}
            self._listener("refused_plan", fields)
            return
        participant = self._core.participant  # of this round: the vote may be the one that ends it
        effects = self._core.on_reduced(plan.ballot, result.digests, self._loop.time())
        if participant.vote is not None and participant.vote.ballot == plan.ballot:
            self._mean = (plan.ballot, result.mean)
        self._run(effects)

    async def _apply(self, signed: SignedRecord, ballot: Ballot) -> None:
        record = signed.record
        self._chain.append(signed)
        mean = None
        if record.steps:
            assert self._mean is not None
            assert self._mean[0] == ballot
            mean = self._mean[1]
        self._mean = None
        await self._store.apply(mean, record.round)
        state = await self._store.digests()
        self._run(self._core.on_applied(state.root, self._loop.time()))
        self._finish(Committed(signed, state, mean, self._loop.time() - self._ready_at))

    def _miss(self, reason: str) -> None:
        self.behind.set()
        self._finish(Missed(reason))

    def _finish(self, outcome: Outcome) -> None:
        if self._outcome is not None and not self._outcome.done():
            self._outcome.set_result(outcome)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        """A task that fails must not fail in silence: whoever waits for the round gets its error."""
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        log.error("a task of the member failed", exc_info=error)
        if self._outcome is not None and not self._outcome.done():
            self._outcome.set_exception(error)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self._mesh.widen()
            self._core.on_progress(self.inner_step, self._reducer.measure(self._mesh.bulk_load()))
            self._run(self._core.on_tick(self._loop.time()))
            for peer in self._core.forget_gone(self._loop.time()):
                self._listener("forgotten", {"peer": peer})

    # --- state ---

    def _fetch_goes_on(self) -> bool:
        now = self._loop.time()
        return self._need.goes_on(now) and not self._need.stranded(now)

    async def _fetch(self) -> FetchResult | None:
        """Fetch until we hold the newest state, then tell the others; None if nobody has one any more but we."""
        self._fetching = True
        try:
            result = await self._transfer.fetch_while(
                self._fetch_goes_on, lambda: self._need.sources(self._loop.time())
            )
        finally:
            self._fetching = False
        if result is not None:
            self._drop_records_after(result.round)
            head = Head(self.rules.fingerprint, self._chain.record(result.round).record if result.round >= 0 else None)
            self._run(self._core.on_synced(head, result.root, self._loop.time()))
        return result
