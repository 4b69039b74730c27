from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from swarm.train.ranks.link import LinkEnded, RankLink
from swarm.train.ranks.messages import Done, Evaluate, Load


@pytest.fixture
def links() -> Iterator[tuple[RankLink, RankLink]]:
    ours, sock = RankLink.pair()
    theirs = RankLink(sock)
    yield ours, theirs
    ours.close()
    theirs.close()


def test_messages_arrive_one_by_one_with_their_descriptors(links: tuple[RankLink, RankLink]) -> None:
    ours, theirs = links
    descriptor = os.memfd_create("test")
    ours.send(Load(vector=1), [descriptor])
    ours.send(Done())
    message, [received] = theirs.receive(Load)
    assert message.vector == 1
    assert os.fstat(received).st_ino == os.fstat(descriptor).st_ino
    assert theirs.receive(Done) == (Done(), [])
    os.close(received)
    os.close(descriptor)


def test_another_message_than_is_due_is_an_error(links: tuple[RankLink, RankLink]) -> None:
    ours, theirs = links
    ours.send(Evaluate(start=0, stop=1))
    with pytest.raises(ValueError, match="'evaluate' where Done was due"):
        theirs.receive(Done)
    ours.socket.send(b"no message")
    with pytest.raises(ValueError):
        theirs.receive(Done)


def test_a_message_that_is_too_long_is_an_error(links: tuple[RankLink, RankLink]) -> None:
    ours, theirs = links
    ours.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    ours.socket.send(b" " * ((1 << 17) + 1))
    with pytest.raises(ValueError, match="too long"):
        theirs.receive(Done)


def test_the_end_of_the_other_is_noticed_after_what_it_said(links: tuple[RankLink, RankLink]) -> None:
    ours, theirs = links
    assert not ours.ended()
    theirs.send(Done())
    theirs.close()
    assert ours.ended(seconds=60)
    assert ours.receive(Done)[0] == Done()
    with pytest.raises(LinkEnded):
        ours.receive(Done)
    with pytest.raises(LinkEnded):
        ours.send(Done())


def test_a_wait_ends_with_the_link(links: tuple[RankLink, RankLink]) -> None:
    ours, theirs = links
    thread = threading.Thread(target=theirs.close)
    thread.start()
    with pytest.raises(LinkEnded):
        ours.receive(Done)
    thread.join()


def test_a_wait_may_be_limited(links: tuple[RankLink, RankLink]) -> None:
    with pytest.raises(TimeoutError):
        links[0].receive(Done, 0.01)
