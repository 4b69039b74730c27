"""A virtual node's reduce: the shell that p2p.reduce is, on the same books, with content instead of bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from p2p.protocol.ballot import Ballot
from p2p.protocol.butterfly import Butterfly
from p2p.protocol.carry import NOTHING, Carried
from p2p.protocol.message import Message
from p2p.protocol.messages import Go, Part, Plan
from p2p.protocol.messages import Mean as MeanMessage
from p2p.protocol.model import BadMessage
from p2p.protocol.plan import Rules
from swarm.simulate.virtual.attempt import Attempt, Parts
from swarm.simulate.virtual.content import Codes, Mean, MeanBook

CARRY_TICKS = 3
"""Copying what an earlier attempt has left."""


class Carrier(Protocol):
    """What the reduce needs of its node."""

    def after(self, delay: int, function: Callable[..., None], one: object = None, other: object = None) -> None: ...

    def send(self, peer: str, message: Message) -> bool: ...

    def send_bulk(self, peer: str, message: Message, content: object, size: int) -> int | None: ...


Done = Callable[[Ballot, tuple[bytes, ...], Mapping[int, Mean]], None]
"""(ballot, digests of the segments, mean of each piece): every mean byte of the attempt is held."""


class VirtualReducer:
    """This node's side of every reduce."""

    def __init__(self, carrier: Carrier, rules: Rules, me: str, book: MeanBook, value_bytes: float, done: Done) -> None:
        """`value_bytes`: what a value weighs on the wire."""
        self._carrier, self._rules, self._me, self._book, self._done = carrier, rules, me, book, done
        self._value_bytes = value_bytes
        self._codes: Codes | None = None
        self._encoded = False
        self._attempt: Attempt | None = None
        self._starting: Plan | None = None
        self._newest: Ballot | None = None
        self._early: dict[str, Go] = {}

    def begin_round(self, codes: Codes | None) -> None:
        """Prepare for a round; None: this node has no weight in it."""
        self.cancel()
        self._attempt = None
        self._codes, self._encoded = codes, False

    def start(self, plan: Plan) -> None:
        """One attempt, beginning with what the last one left. A plan that does not fit is given up: the coordinator
        finds out by the votes."""
        self.cancel()
        before = self._attempt
        carried = before.core.carried_to(plan) if before is not None else NOTHING
        self._starting = plan
        if carried.means:
            self._carrier.after(CARRY_TICKS, self._begin, plan, carried)
        else:
            self._begin(plan, carried)

    def _begin(self, plan: Plan, carried: Carried) -> None:
        if self._starting is not plan:
            return
        self._starting, before = None, self._attempt
        count = self._rules.fragments.size(plan.draft.round)
        core = Butterfly(plan, self._me, count, count, carried)
        means = {piece: before.means[piece] for piece in carried.means} if before is not None else {}
        parts: Parts = {key: before.parts[key] for key in carried.parts} if before is not None else {}
        self._newest = plan.ballot
        self._attempt = attempt = Attempt(
            core, means, parts, self._codes, self._book, self._carrier, self._value_bytes, self._done
        )
        attempt.begin(encoded=self._encoded)
        self._encoded = True
        early, self._early = self._early, {}
        for peer, go in early.items():
            if go.ballot.outruns(plan.ballot):
                self._early[peer] = go
            elif plan.ballot == go.ballot:
                attempt.on_go(peer, go)

    def cancel(self) -> None:
        """The attempt goes on without us; what it has is kept."""
        self._starting = None
        if self._attempt is not None:
            self._attempt.stopped = True

    def progress(self) -> Butterfly | None:
        """The books of the newest attempt of this round, also after it was stopped."""
        return self._attempt.core if self._attempt is not None else None

    # --- from the links ---

    def on_go(self, peer: str, go: Go) -> None:
        if go.ballot.may_follow(self._newest):
            self._early[peer] = go
        elif attempt := self._running(go.ballot):
            attempt.on_go(peer, go)

    def on_payload(self, peer: str, message: Part | MeanMessage, content: object) -> None:
        """A piece is there, whole. Raises BadMessage."""
        if attempt := self._running(message.ballot):
            attempt.take(peer, message, content)
        elif message.ballot.outruns(self._newest):
            raise BadMessage(f"{message.KIND} of ballot {message.ballot.key()}: sent without being asked")

    def on_link_up(self, peer: str) -> None:
        if attempt := self._running():
            attempt.core.on_link_down(peer)
            attempt.send_gos()

    def on_link_down(self, peer: str) -> None:
        self._early.pop(peer, None)
        if attempt := self._running():
            attempt.core.on_link_down(peer)

    def _running(self, ballot: Ballot | None = None) -> Attempt | None:
        attempt = self._attempt
        if attempt is None or attempt.stopped:
            return None
        mine = attempt.core.ballot
        return attempt if ballot is None or ballot is mine or ballot == mine else None
