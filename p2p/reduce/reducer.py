"""The reduce of a round: from everybody's vectors to one mean, the same bytes on every member.

`Reducer` keeps what outlives an attempt (our codes, the newest ballot, what came before our plan did) and leaves the
rest to `Attempt`. Wire `open_payload`, `on_payload`, `on_go`, `on_link_up` and `on_link_down` to the mesh.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from ops.codec import Codec, Encoded
from ops.memory import touch
from p2p.channel.meter import Load
from p2p.listener import Listener, nobody
from p2p.protocol.ballot import Ballot
from p2p.protocol.butterfly import Butterfly
from p2p.protocol.carry import NOTHING
from p2p.protocol.messages import Go, Mean, Part, Plan
from p2p.protocol.model import BadMessage
from p2p.protocol.shares import Rates
from p2p.reduce.attempt import Attempt, Remains
from p2p.reduce.carrier import Carrier
from p2p.reduce.contribution import Contribution, Source
from p2p.reduce.early import Early, EarlyPart, early_pieces
from p2p.reduce.means import MeanWriter, segment_digest, write_mean
from p2p.reduce.rate_meter import RateMeter
from p2p.reduce.recycler import Recycler
from p2p.reduce.uplink import Uplink

__all__ = ["Carrier", "ReduceResult", "Reducer", "Source", "segment_digest"]

WINDOW_BYTES = 64 * 1024 * 1024
"""Bytes of others' parts that an owner holds at a time: more than bandwidth times delay of a 1 Gbit/s, 150 ms link."""

BESIDES = 3
"""Means for which memory is made ready besides those that are held: one in the making, one whose last pieces are still
on their way to others, and as much for our own codes."""


@dataclass(frozen=True, slots=True, eq=False)
class ReduceResult:
    """The mean of the round: the same bytes on every member."""

    mean: Encoded
    """Its memory is used again when the last reference to it, or to a view of it, is gone."""
    digests: tuple[bytes, ...]
    """BLAKE3 of each segment's bytes in `mean`."""


def _find_pages(spaces: Sequence[Encoded]) -> None:
    """In the pool: means are opened on the event loop, which would stand still until the kernel has found pages."""
    for space in spaces:
        touch(space.codes)


class Reducer:
    """This member's side of every reduce, for as long as the node lives. Not thread-safe: use it on the event loop."""

    def __init__(
        self,
        codec: Codec,
        count: int,
        me: str,
        carrier: Carrier,
        pool: Executor,
        *,
        window_bytes: int = WINDOW_BYTES,
        listener: Listener = nobody,
        write: MeanWriter = write_mean,
        uplink: Uplink | None = None,
        held: Sequence[int] = (),
    ) -> None:
        """`codec`: of contributions. `count`: values in the vector; a round may reduce fewer. `pool`: runs the kernels,
        2 threads or more. `listener`: hears of `refused_message`. `write`: makes the means of our pieces. `uplink`:
        what is known of it by now; nothing, if not given. `held`: values of each mean that somebody holds on to behind
        its round, as far as they are held at a time; memory for them is made ready now."""
        self._codec = codec
        self._whole = self._count = count
        self._me = me
        self._carrier = carrier
        self._pool = pool
        self._window = int(window_bytes * 8 / codec.bits_per_value)
        self._listener = listener
        self._write = write
        ready = (*held, *held[:BESIDES])
        in_use = int(2 * count * codec.reduce_bits_per_value / 8) + window_bytes
        self._recycler = Recycler(in_use + sum(map(codec.of_means.code_bytes, ready)))
        self._pool.submit(_find_pages, [self._recycler.allocate(codec.of_means, size) for size in ready])
        self._newest: Ballot | None = None
        self._round: int | None = None
        self._contribution: Contribution | None = None
        self._attempt: Attempt | None = None
        self._remains: Remains | None = None
        """What the last attempt of this round left for the next one."""
        self._ended: list[Attempt] = []
        """Earlier attempts that still had frames or kernels under way when the next began."""
        self._early = Early(codec, count, self._recycler)
        self._meter = RateMeter()
        self._uplink = uplink or Uplink()

    def begin_round(self, round: int, source: Source | None, count: int | None = None) -> int:
        """Prepare for `round`; None: this member has no weight in it. Ends what went on for an earlier round.

        `count`: values that this round reduces (a fragment of the vector), which `source` and `write` count from 0.

        Returns a random name for the codes that will be made of `source`; 0 for none. The vector behind it must stay as
        it is until the next `begin_round` or `close`.
        """
        self._stop_attempt()
        self._remains = None
        self._round = round
        self._count = self._whole if count is None else count
        self._contribution = None
        if source is not None:
            codes = self._recycler.allocate(self._codec, self._count)
            self._contribution = Contribution(codes, source, self._pool)
        return 0 if source is None else 1 + secrets.randbelow((1 << 32) - 1)

    @property
    def reducing(self) -> bool:
        """Whether a mean is still on its way to us."""
        return self._attempt is not None and not self._attempt.done.done()

    async def reduce(self, plan: Plan) -> ReduceResult:
        """One attempt at the round: returns when we hold the whole mean, however long that takes.

        Cancel it when a member died, and call it again with a higher ballot: what is held by then is kept. After it has
        returned, the others are still served until the next attempt or round. Raises BadMessage for a plan that does
        not fit, and what the source raised.
        """
        self._check(plan)
        self._stop_attempt()
        mean = self._recycler.allocate(self._codec.of_means, self._count)
        remains, carried = self._remains, NOTHING
        if remains is not None and (carried := remains.core.carried_to(plan)).means:
            await asyncio.get_running_loop().run_in_executor(self._pool, remains.carry, carried, mean)
        # until here a Go for this ballot counts as early, and waits for `_replay`
        unasked = early_pieces(self._codec, plan.draft.piece, len(plan.draft.voters) - 1)
        core = Butterfly(plan, self._me, self._count, self._window, carried, unasked)
        parts = {key: remains.parts[key] for key in carried.parts} if remains is not None else {}
        attempt = Attempt(
            core,
            self._codec,
            mean,
            parts,
            self._contribution,
            self._carrier,
            self._pool,
            self._recycler,
            self._write,
            first=remains is None,
        )
        self._newest, self._attempt, self._remains = plan.ballot, attempt, None
        self._uplink.pause()
        attempt.share_on(self._uplink)
        self._replay(attempt)
        try:
            return ReduceResult(mean, await attempt.done)
        # above all a cancellation: the round goes on without this attempt
        except BaseException:
            if self._attempt is attempt:
                self._stop_attempt()
            raise

    def _check(self, plan: Plan) -> None:
        """That the numbers fit what we are. Whether the plan is right is the protocol's matter, and was seen to."""
        draft = plan.draft
        if plan.ballot.round != self._round or not plan.ballot.may_follow(self._newest):
            raise BadMessage(f"plan of ballot {plan.ballot.key()} in round {self._round} after {self._newest}")
        if draft.codec != self._codec.name or not draft.steps or draft.piece % self._codec.block:
            raise BadMessage("plan with another codec, no weight or pieces that are not whole blocks")
        if not draft.segments or draft.segments[-1].stop != self._count or len(plan.routes) != len(draft.segments):
            raise BadMessage("plan with segments that do not tile the vector")
        mine = [seat for seat in draft.seats if seat.peer == self._me]
        if not mine or (mine[0].weight and self._contribution is None):
            raise BadMessage("plan that does not seat us, or with a weight that we did not report")

    def _replay(self, attempt: Attempt) -> None:
        """What came before our plan did."""
        for peer, early in self._early.collect(attempt.ballot):
            message = early.message if isinstance(early, EarlyPart) else early
            try:
                if isinstance(early, EarlyPart):
                    attempt.adopt(peer, early)
                else:
                    attempt.on_go(peer, early)
            except BadMessage as error:  # too late to close its link for it: nothing comes of it instead
                refused = {"round": attempt.ballot.round, "peer": peer, "message": message.KIND, "reason": str(error)}
                self._listener("refused_message", refused)

    def _stop_attempt(self) -> None:
        if self._attempt is not None:
            if not self._attempt.stopped:
                self._remains = self._attempt.remains()
            self._attempt.stop()
            self._ended = [attempt for attempt in (*self._ended, self._attempt) if attempt.busy]
            self._attempt = None

    # --- progress --------------------------------------------------------------------------------------------------

    def progress(self) -> Butterfly | None:
        """The books of the newest attempt of this round, also after it was stopped."""
        if self._attempt is not None:
            return self._attempt.core
        return self._remains.core if self._remains is not None else None

    def measure(self, load: Load) -> Rates:
        """What our link does; call it a few times a second with the load so far."""
        attempt = self._running()
        if attempt is None:
            self._uplink.pause()
            self._carrier.allot({})
        if attempt is None or attempt.done.done():
            self._meter.pause()
        else:
            light = attempt.core.routes.is_light(attempt.core.rank)
            self._meter.read(asyncio.get_running_loop().time(), load, attempt.backlogged, light)
        return self._meter.rates

    # --- from the mesh -------------------------------------------------------------------------------------------

    def open_payload(self, peer: str, message: Part | Mean, size: int) -> Sequence[memoryview] | None:
        """Where the payload goes; None: it is of an attempt that ended, or came already. Raises BadMessage."""
        if message.ballot.may_follow(self._newest):
            if isinstance(message, Mean):
                raise BadMessage(f"{message.KIND} of ballot {message.ballot.key()}: sent without being asked")
            return self._early.open(peer, message, size)
        attempt = self._running(message.ballot)
        return attempt.open(peer, message, size) if attempt else None

    def on_payload(self, peer: str, message: Part | Mean, payload: object) -> None:
        """The payload of a piece is complete; `payload` is None if it was dropped. Raises BadMessage."""
        attempt = self._running(message.ballot)
        if attempt and payload is not None:
            attempt.take(peer, message)
        elif payload is not None and isinstance(message, Part):
            self._early.take(peer, message)

    def on_go(self, peer: str, go: Go) -> None:
        """A member is ready to receive. Raises BadMessage."""
        if go.ballot.may_follow(self._newest):
            self._early.on_go(peer, go)
            return
        attempt = self._running(go.ballot)
        if attempt:
            attempt.on_go(peer, go)

    def on_link_up(self, peer: str) -> None:
        self._early.forget(peer)  # whether or not the end of an older link was noticed
        attempt = self._running()
        if attempt:
            attempt.on_link_up(peer)

    def on_link_down(self, peer: str) -> None:
        self._early.forget(peer)
        attempt = self._running()
        if attempt:
            attempt.on_link_down(peer)

    def _running(self, ballot: Ballot | None = None) -> Attempt | None:
        """The newest attempt, if it has not ended and is of this ballot."""
        attempt = self._attempt
        if attempt is None or attempt.stopped or (ballot is not None and ballot != attempt.ballot):
            return None
        return attempt

    async def close(self) -> None:
        """End everything; before the links are closed, or after."""
        for attempt in (*self._ended, *([self._attempt] if self._attempt else [])):
            await attempt.abort()
