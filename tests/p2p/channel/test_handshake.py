"""The handshake in memory: who is believed, who decides, who is refused and what both read."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.channel.handshake import (
    DiallerHandshake,
    Established,
    Handshake,
    ListenerHandshake,
    Refusal,
    Terms,
    refusal,
)
from p2p.channel.hello import (
    MAX_PROOF_BYTES,
    PROTOCOL_VERSION,
    Accepted,
    Challenge,
    Hello,
    Proof,
    Refused,
    RunIdentity,
)
from p2p.identity import Identity
from p2p.protocol.message import Message
from p2p.protocol.messages import encode
from p2p.protocol.model import BadMessage
from tests.p2p.channel.nodes import RUN, sorted_identities

SMALL, LARGE = sorted_identities(2)


def terms(
    identity: Identity,
    run: RunIdentity = RUN,
    decide: Callable[[Established], Refusal | None] = lambda established: None,
    admit: Callable[[Hello], str | None] = lambda hello: None,
    **changes: object,
) -> Terms:
    hello = Hello(
        version=PROTOCOL_VERSION,
        peer=identity.peer_id,
        instance=bytes(8),
        secret=identity.peer_id.encode()[-32:],
        lost=b"",
        role="member",
        fingerprint=run.fingerprint,
        run=run.packed(),
    ).model_copy(update=changes)
    return Terms(identity, lambda peer: hello, admit, decide)


def converse(listener: Handshake, dialler: Handshake) -> list[str]:
    """Carry messages both ways until nobody has any; the kinds that were said."""
    said: list[str] = []
    mailbox: list[tuple[Handshake, Message]] = [(dialler, message) for message in listener.start()]
    while mailbox:
        receiver, message = mailbox.pop(0)
        said.append(message.KIND)
        other = listener if receiver is dialler else dialler
        assert len(encode(message)) <= receiver.limit
        mailbox += [(other, reply) for reply in receiver.receive(encode(message))]
    return said


def pair(listener: Terms, dialler: Terms) -> tuple[ListenerHandshake, DiallerHandshake]:
    return ListenerHandshake(listener), DiallerHandshake(dialler, listener.identity.peer_id)


@pytest.mark.parametrize(("listener", "dialler"), [(SMALL, LARGE), (LARGE, SMALL)])
def test_both_learn_who_the_other_is_and_name_the_link_alike(listener: Identity, dialler: Identity) -> None:
    ours, theirs = pair(terms(listener), terms(dialler))
    said = converse(ours, theirs)
    assert said == ["challenge", "proof", "hello", "hello"] + ["accepted"] * (dialler is SMALL)
    assert ours.outcome is not None
    assert theirs.outcome is not None
    assert ours.outcome.link == theirs.outcome.link
    assert (ours.outcome.hello.peer, theirs.outcome.hello.peer) == (dialler.peer_id, listener.peer_id)
    assert (ours.outcome.dialled, theirs.outcome.dialled) == (False, True)
    assert ours.outcome.secret == theirs.outcome.secret
    assert ours.outcome.secret == dialler.peer_id.encode()[-32:] + listener.peer_id.encode()[-32:]


@pytest.mark.parametrize(("listener", "dialler"), [(SMALL, LARGE), (LARGE, SMALL)])
def test_exactly_one_side_decides(listener: Identity, dialler: Identity) -> None:
    asked: list[str] = []

    def asks(who: Identity) -> Callable[[Established], None]:
        return lambda established: asked.append(who.peer_id)

    ours, theirs = pair(terms(listener, decide=asks(listener)), terms(dialler, decide=asks(dialler)))
    converse(ours, theirs)
    assert asked == [SMALL.peer_id]


def test_a_forged_dialler_is_refused() -> None:
    victim, forger = Identity.generate(), Identity.generate()
    listener = ListenerHandshake(terms(SMALL))
    dialler = DiallerHandshake(terms(forger), SMALL.peer_id)
    proof, _ = dialler.receive(encode(listener.start()[0]))
    assert isinstance(proof, Proof)
    with pytest.raises(Refusal, match=f"failed to prove that it is {victim.peer_id}"):
        listener.receive(encode(proof.model_copy(update={"peer": victim.peer_id})))


def test_a_proof_cannot_be_shown_to_another_listener_or_again() -> None:
    middle = Identity.generate()
    dialler = DiallerHandshake(terms(LARGE), middle.peer_id)  # it means to talk to `middle`
    target = ListenerHandshake(terms(SMALL))
    proof, _ = dialler.receive(encode(target.start()[0]))  # which passes the target's nonce on
    with pytest.raises(Refusal, match="failed to prove"):
        target.receive(encode(proof))
    honest = DiallerHandshake(terms(LARGE), SMALL.peer_id)
    proof, _ = honest.receive(encode(ListenerHandshake(terms(SMALL)).start()[0]))
    with pytest.raises(Refusal, match="failed to prove"):
        ListenerHandshake(terms(SMALL)).receive(encode(proof))


def test_a_hello_in_another_name_is_refused() -> None:
    ours, theirs = pair(terms(SMALL), terms(LARGE, peer=SMALL.peer_id))
    with pytest.raises(Refusal, match=f"proved to be {LARGE.peer_id}, says it is {SMALL.peer_id}"):
        converse(ours, theirs)


def test_a_node_that_dials_itself_is_refused() -> None:
    with pytest.raises(Refusal, match="dialled itself") as caught:
        converse(*pair(terms(SMALL), terms(SMALL)))
    assert caught.value.code == "self"


def test_another_run_is_refused_and_both_sides_read_what_differs() -> None:
    other = RunIdentity(b"o" * 32, {"model": "demo", "outer_lr": 0.5})
    with pytest.raises(Refusal) as caught:
        converse(*pair(terms(SMALL), terms(LARGE, run=other)))
    assert caught.value.code == "run"
    assert caught.value.reason == "another run: outer_lr is 0.7 here, 0.5 there"
    assert caught.value.peer == LARGE.peer_id
    assert caught.value.told == Refused(code="run", reason="another run: outer_lr is 0.5 here, 0.7 there")


@pytest.mark.parametrize("observing", [0, 1])
def test_an_observer_may_come_from_anywhere(observing: int) -> None:
    sides = [terms(SMALL), terms(LARGE)]
    sides[observing] = terms((SMALL, LARGE)[observing], role="observer", fingerprint=b"")
    ours, theirs = pair(sides[0], sides[1])
    converse(ours, theirs)
    assert ours.outcome is not None


def test_another_version_is_refused() -> None:
    with pytest.raises(Refusal, match=f"speaks protocol version 9, this node speaks {PROTOCOL_VERSION}") as caught:
        converse(*pair(terms(SMALL), terms(LARGE, version=9)))
    assert caught.value.told == Refused(code="version", reason=f"this node speaks protocol version {PROTOCOL_VERSION}")


@pytest.mark.parametrize("keeper", [0, 1])
def test_each_side_may_keep_the_other_out(keeper: int) -> None:
    sides = [terms(SMALL), terms(LARGE)]
    sides[keeper] = terms((SMALL, LARGE)[keeper], admit=lambda hello: "not invited")
    with pytest.raises(Refusal, match="not invited") as caught:
        converse(*pair(sides[0], sides[1]))
    assert caught.value.told == Refused(code="policy", reason="not invited")


def test_who_decides_may_say_no() -> None:
    no = refusal("duplicate", "one is enough")
    ours, theirs = pair(terms(SMALL, decide=lambda established: no), terms(LARGE))
    with pytest.raises(Refusal, match="one is enough"):
        converse(ours, theirs)
    assert ours.outcome is None


@pytest.mark.parametrize("side", [0, 1])
def test_a_refusal_by_the_other_side_ends_the_handshake_at_any_point(side: int) -> None:
    handshake = pair(terms(SMALL), terms(LARGE))[side]
    with pytest.raises(Refusal, match="refused by the peer: no") as caught:
        handshake.receive(encode(Refused(code="policy", reason="no")))
    assert caught.value.told is None


def test_messages_out_of_turn_are_bad() -> None:
    listener, dialler = pair(terms(SMALL), terms(LARGE))
    with pytest.raises(BadMessage, match="unexpected kind 'accepted'"):
        listener.receive(encode(Accepted()))
    with pytest.raises(BadMessage, match="exceeds the limit"):
        listener.receive(bytes(MAX_PROOF_BYTES + 1))
    dialler.receive(encode(Challenge(nonce=bytes(32))))
    with pytest.raises(BadMessage, match="unexpected kind 'challenge'"):
        dialler.receive(encode(Challenge(nonce=bytes(32))))


@given(st.binary(max_size=300), st.sampled_from([0, 1]))
def test_hostile_bytes_are_a_bad_message(data: bytes, side: int) -> None:
    with pytest.raises(BadMessage):
        pair(terms(SMALL), terms(LARGE))[side].receive(data)
