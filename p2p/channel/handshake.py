"""The handshake inside the TLS channel, sans I/O: bytes of a message in, messages out.

    listener -> dialler   Challenge(nonce)
    dialler  -> listener  Proof(signature of listener, dialler, nonce), Hello
    listener -> dialler   Hello
    dialler  -> listener  Accepted            only when the dialler decides

The listener is already proved by its certificate; its fresh nonce and both names under the signature make the proof
worthless on any other connection. One side *decides* whether the link is used, so that two nodes which dial each
other at once keep the same one: that with the smaller peer id. Either side may send Refused instead of its next
message. What comes of it is a link with its control lane; bulk lanes join it later (p2p/channel/lanes.py).
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import msgpack

from p2p.channel.hello import (
    MAX_HELLO_BYTES,
    MAX_PROOF_BYTES,
    PROTOCOL_VERSION,
    Accepted,
    Challenge,
    Hello,
    Proof,
    RefusalCode,
    Refused,
    decode_one_of,
    describe_difference,
)
from p2p.identity import Identity, verify
from p2p.protocol.message import Message

DOMAIN = b"swarm-channel"


class Refusal(Exception):
    """One side refuses the other. `told` is what we send the other side; None when it was they who refused."""

    def __init__(self, code: RefusalCode, reason: str, told: Refused | None, peer: str = "") -> None:
        super().__init__(reason)
        self.code, self.reason, self.told, self.peer = code, reason, told, peer


def refusal(code: RefusalCode, ours: str, theirs: str = "", peer: str = "") -> Refusal:
    """We refuse: `ours` is for our log, `theirs` (the same unless given) is what the other side reads."""
    return Refusal(code, ours, Refused(code=code, reason=(theirs or ours)[:500]), peer)


@dataclass(frozen=True)
class Established:
    """A handshake that succeeded."""

    hello: Hello
    link: bytes
    """16 bytes that name this connection on both sides."""
    secret: bytes
    """Of the link: the dialler's share and the listener's (p2p/channel/sealing.py)."""
    dialled: bool
    """Whether we dialled."""


@dataclass(frozen=True)
class Terms:
    """Our side of a handshake."""

    identity: Identity
    hello: Callable[[str], Hello]
    """Our Hello for a peer id; a new one for each handshake."""
    admit: Callable[[Hello], str | None]
    """A reason to keep this peer out, or None."""
    decide: Callable[[Established], Refusal | None]
    """Asked when we are the one who decides, and nothing else is wrong."""


class Handshake(ABC):
    """What both sides share; feed each message to `receive` until `outcome` is set or Refusal/BadMessage is raised."""

    outcome: Established | None = None
    limit: int = MAX_HELLO_BYTES

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._me = terms.identity.peer_id
        self._peer = ""
        self._expected: type[Message] = Message

    def start(self) -> list[Message]:
        """Messages to send first."""
        return []

    def receive(self, data: bytes) -> list[Message]:
        """Messages to send in answer. Raises BadMessage and Refusal."""
        assert self.outcome is None, "the handshake is over"
        kinds = {kind.KIND: kind for kind in (self._expected, Refused)}
        message = decode_one_of(data, kinds, self.limit)
        if isinstance(message, Refused):
            raise Refusal(message.code, f"refused by the peer: {message.reason}", None, self._peer)
        return self._step(message)

    @abstractmethod
    def _step(self, message: Message) -> list[Message]:
        """Take the expected message; return what to answer. Raises Refusal."""

    def _check(self, mine: Hello, theirs: Hello) -> None:
        """Raises Refusal unless this peer may take part."""
        if theirs.peer != self._peer:
            raise refusal("identity", f"proved to be {self._peer}, says it is {theirs.peer}", peer=self._peer)
        if theirs.version != PROTOCOL_VERSION:
            ours = f"speaks protocol version {theirs.version}, this node speaks {PROTOCOL_VERSION}"
            raise refusal("version", ours, f"this node speaks protocol version {PROTOCOL_VERSION}", peer=self._peer)
        members = mine.role == theirs.role == "member"
        if members and theirs.fingerprint != mine.fingerprint:
            ours = describe_difference(mine.run, theirs.run)
            raise refusal("run", ours, describe_difference(theirs.run, mine.run), peer=self._peer)
        reason = self._terms.admit(theirs)
        if reason is not None:
            raise refusal("policy", reason, peer=self._peer)

    def _finish(self, established: Established, decides: bool) -> None:
        verdict = self._terms.decide(established) if decides else None
        if verdict is not None:
            raise verdict
        self.outcome = established


def _signed(listener: str, dialler: str, nonce: bytes) -> bytes:
    return bytes(msgpack.packb([listener, dialler, nonce], use_bin_type=True))


class ListenerHandshake(Handshake):
    """Our side when the other dialled."""

    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        self._nonce = os.urandom(32)
        self._pending: Established | None = None
        self._expected, self.limit = Proof, MAX_PROOF_BYTES

    def start(self) -> list[Message]:
        return [Challenge(nonce=self._nonce)]

    def _step(self, message: Message) -> list[Message]:
        if isinstance(message, Proof):
            return self._on_proof(message)
        if isinstance(message, Hello):
            return self._on_hello(message)
        assert self._pending is not None, "Accepted is expected after our Hello only"
        self._finish(self._pending, decides=False)
        return []

    def _on_proof(self, proof: Proof) -> list[Message]:
        if proof.peer == self._me:
            raise refusal("self", "this node dialled itself")
        if not verify(proof.peer, DOMAIN, _signed(self._me, proof.peer, self._nonce), proof.signature):
            raise refusal("identity", f"failed to prove that it is {proof.peer}")
        self._peer = proof.peer
        self._expected, self.limit = Hello, MAX_HELLO_BYTES
        return []

    def _on_hello(self, theirs: Hello) -> list[Message]:
        mine = self._terms.hello(self._peer)
        self._check(mine, theirs)
        established = Established(theirs, self._nonce[:16], theirs.secret + mine.secret, dialled=False)
        if self._me < self._peer:
            self._finish(established, decides=True)
        else:
            self._pending, self._expected = established, Accepted
        return [mine]


class DiallerHandshake(Handshake):
    """Our side when we dialled; `peer` is who the listener's certificate has proved to be."""

    def __init__(self, terms: Terms, peer: str) -> None:
        super().__init__(terms)
        self._peer = peer
        self._nonce = b""
        self._expected: type[Message] = Challenge

    def _step(self, message: Message) -> list[Message]:
        if isinstance(message, Challenge):
            return self._on_challenge(message)
        assert isinstance(message, Hello), "nothing else is expected"
        return self._on_hello(message)

    def _on_challenge(self, challenge: Challenge) -> list[Message]:
        self._nonce, self._expected = challenge.nonce, Hello
        signature = self._terms.identity.sign(DOMAIN, _signed(self._peer, self._me, challenge.nonce))
        self._hello = self._terms.hello(self._peer)
        return [Proof(peer=self._me, signature=signature), self._hello]

    def _on_hello(self, theirs: Hello) -> list[Message]:
        self._check(self._hello, theirs)
        decides = self._me < self._peer
        secret = self._hello.secret + theirs.secret
        self._finish(Established(theirs, self._nonce[:16], secret, dialled=True), decides)
        return [Accepted()] if decides else []
